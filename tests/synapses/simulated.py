"""Simulated synapses with known rules."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from goaldriven.synapses import kesten

Floats = NDArray[np.float64]
TRUTH = {"mu_a": -0.15, "mu_b": 0.18, "var_a": 0.03, "var_b": 0.01}
"""Mean 1.2, far enough from 0 that reflection plays no part."""


def kesten_weights(
    n: int, days: int, rng: np.random.Generator, noise: float = 0.0, burn: int = 60, **truth: float
) -> Floats:
    """(synapse, day) of a Kesten process in its stationary state, `TRUTH` unless given."""
    given = TRUTH | truth
    start = np.full(n, given["mu_b"] / -given["mu_a"])
    w = kesten.simulate(**given, start=start, steps=burn, rng=rng)[:, -1]
    return kesten.simulate(**given, start=w, steps=days - 1, rng=rng, noise_variance=noise)
