"""Networks whose statistics are not finite, by name: one of them can leave nothing to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
import xarray as xr

NAMED = 3
"""So many networks are named; the others are counted."""


def not_finite(finite: Mapping[str, Set[str]]) -> tuple[str, ...]:
    """The networks that stand out: not finite where most networks are, or in every statistic.

    A statistic that is not finite for most networks, such as a kurtosis of few values, is no fault
    of any of them.

    Parameters
    ----------
    finite : of each network, the statistics that are finite at every epoch and in every layer.
    """
    names = set().union(*finite.values())
    usual = {s for s in names if 2 * sum(s in of for of in finite.values()) > len(finite)}
    return tuple(network for network, of in finite.items() if not of or usual - of)


def not_finite_examples(examples: xr.Dataset) -> tuple[str, ...]:
    """`not_finite`, of examples (see `to_examples`)."""
    values = examples["value"].transpose("example", "epoch", "statistic").values
    finite = np.isfinite(values).all(axis=1)
    labels, statistics = examples["network"].values.astype(str), examples["statistic"].values
    return not_finite(
        {
            str(name): set(statistics[finite[labels == name].all(axis=0)].tolist())
            for name in dict.fromkeys(labels)
        }
    )


def named(networks: Sequence[str]) -> str:
    """The first three by name, and how many more there are.

    >>> named(["a", "b"]), named(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    more = len(networks) - NAMED
    return ", ".join(networks[:NAMED]) + (f" and {more} more" if more > 0 else "")
