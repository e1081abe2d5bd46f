"""Chains with known matrices, and tables simulated from them."""

from __future__ import annotations

import numpy as np

from goaldriven.synapses import chains

P4 = np.array(
    [
        [0.80, 0.15, 0.05, 0.00],
        [0.20, 0.60, 0.15, 0.05],
        [0.05, 0.20, 0.60, 0.15],
        [0.02, 0.08, 0.20, 0.70],
    ]
)
"""Absence and three sizes, moving to neighbours mostly; by hand."""

SIZES = np.array([0.0, 0.5, 1.5, 2.5])
"""Middle sizes of its states; bins are one wide."""


def stationary_by_powers(transition):
    """Independent of the package: a row of a high power."""
    return np.linalg.matrix_power(transition, 4096)[0]


def simulated_sizes(rng, n_synapses=200, n_days=8, transition=P4):
    """(synapse, day) sizes of the stationary chain, uniform within (0, 1), (1, 2), (2, 3)."""
    start = rng.choice(len(transition), size=n_synapses, p=stationary_by_powers(transition))
    seen = np.ones((n_synapses, n_days), dtype=bool)
    states = chains.simulate_states(transition, start, seen, 1, rng)[0]
    return np.where(states == 0, 0.0, SIZES[states] + rng.uniform(-0.5, 0.5, states.shape))


def second_order_states(rng, n_synapses, n_days, keep):
    """Three states; with chance ``keep`` the state of two days ago comes back, else at random."""
    states = rng.integers(3, size=(n_synapses, n_days))
    for t in range(2, n_days):
        back = rng.random(n_synapses) < keep
        states[back, t] = states[back, t - 2]
    return states
