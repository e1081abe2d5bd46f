"""Planted truth: rules that are alike, and rules far from all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from ..made_up import make_examples, with_rules


def alike(examples: xr.Dataset, rule: str, other: str) -> xr.Dataset:
    """Every second network of ``rule`` under the name ``other``: two names of one rule."""
    names = examples["rule"].values.astype("U32")
    networks = list(dict.fromkeys(examples["network"].values[names == rule].tolist()))
    names[np.isin(examples["network"].values, networks[1::2])] = other
    return with_rules(examples, names)


def placed(places: Mapping[str, Sequence[float]], n_networks: int, **settings) -> xr.Dataset:
    """Noise of s.d. 1 around a place of each rule, one number for each of its statistics."""
    examples = make_examples(n_networks, rules=list(places), **settings)
    centre = np.array([places[rule] for rule in examples["rule"].values])
    value = examples["value"].transpose("example", "epoch", "statistic").values
    return examples.assign(value=(("example", "epoch", "statistic"), value + centre[:, None, :]))
