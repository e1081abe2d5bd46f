"""The 45 aggregate statistics by name: 3 measures × 3 functions × 7 statistics, less what the
activity change does not have. `goaldriven.observables` computes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Measure = Literal["weight", "activation", "activity_change"]
Function = Literal["raw", "abs", "sq"]
Summary = Literal["norm", "mean", "median", "third_quartile", "var", "skew", "kurtosis", "sum"]

MEASURES: tuple[Measure, ...] = ("weight", "activation", "activity_change")
FUNCTIONS: tuple[Function, ...] = ("raw", "abs", "sq")
SUMMARIES: tuple[Summary, ...] = (
    "norm", "mean", "median", "third_quartile", "var", "skew", "kurtosis",
)  # fmt: skip


@dataclass(frozen=True)
class Statistic:
    """One observable: ``summary`` over units of ``function`` of a ``measure``."""

    measure: Measure
    function: Function
    summary: Summary

    @property
    def name(self) -> str:
        if self.measure == "activity_change":
            return f"activity_change_{self.function}"
        return f"{self.measure}_{self.function}_{self.summary}"

    @property
    def published_name(self) -> str:
        """The name in the published data set, e.g. ``actraw_thirdquartile``, ``gradavgsq_id``."""
        if self.measure == "activity_change":
            return f"gradavg{self.function}_id"
        prefix = {"weight": "weight", "activation": "act"}[self.measure]
        return f"{prefix}{self.function}_{self.summary.replace('_', '')}"


STATISTICS: dict[str, Statistic] = {
    s.name: s
    for s in [
        *(Statistic(m, f, s) for m in MEASURES[:2] for f in FUNCTIONS for s in SUMMARIES),
        *(Statistic("activity_change", f, "sum") for f in FUNCTIONS),
    ]
}

# The 24 that stayed finite in the published data set (lr-identify; count: thesis 6.3.3).
PUBLISHED_STATISTICS: tuple[str, ...] = tuple(
    name
    for name, s in STATISTICS.items()
    if s.measure == "activity_change"
    or (
        s.measure == "weight"
        and s.summary in (("mean", "median", "third_quartile") if s.function == "sq" else
                          ("mean", "median", "norm", "third_quartile", "var"))
    )
    or (
        s.measure == "activation"
        and s.function != "sq"
        and s.summary in ("mean", "median", "norm", "third_quartile")
    )
)  # fmt: skip
