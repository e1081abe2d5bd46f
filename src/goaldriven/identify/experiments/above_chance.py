"""Which of many conditions are above chance by more than scatter among so many allows."""

from __future__ import annotations

import pandas as pd
from scipy.stats import norm

ONCE_IN = 40
"""So often, in experiments without any effect, is a condition taken to be above chance."""


def chance_limit(n: int) -> float:
    """How many standard errors above chance one of ``n`` conditions must lie.

    z with P(Z > z) = 1/(40 n), Z standard normal: of n conditions at chance, one exceeds it once in
    forty experiments at most (Bonferroni's inequality, which needs no independence). 1.96 for one.

    >>> [round(chance_limit(n), 2) for n in (1, 8, 36)]
    [1.96, 2.73, 3.2]
    """
    return float(norm.isf(1 / ONCE_IN / max(n, 1)))


def standard_error(rows: pd.DataFrame) -> pd.Series:
    """Over splits, or over networks (a quarter of the width of their 95% interval): the larger."""
    of_networks = (rows["high"] - rows["low"]) / 4
    return pd.concat([of_networks, rows["sem"]], axis=1).max(axis=1)


def above_chance(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of the conditions (rows of a `Results.summary`) that no scatter explains."""
    excess = rows["mean"] - rows["chance"]
    return rows[excess > chance_limit(len(rows)) * standard_error(rows) + 1e-9]
