"""Do the data tell? Comparisons of conditions, with their uncertainty over networks or splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from goaldriven.identify.experiments.results import BOOTSTRAPS, Results
from goaldriven.identify.experiments.spec import Status

Levels = Mapping[str, Any]
"""Of a condition: column → its level, or a list of levels."""

Accuracies = Mapping[str, Any]
"""By condition: one number, or one for each bootstrap."""

Statistic = Callable[[Accuracies], Any]

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error, of which Student's t with ``dof`` makes intervals."""

    value: float
    error: float
    dof: float = np.inf

    def bound(self, tail: float) -> float:
        """What it estimates is less than this with probability ``tail``, by its t interval."""
        return self.value + float(t.ppf(tail, self.dof)) * self.error

    @property
    def low(self) -> float:
        return self.bound((1 - LEVEL) / 2)

    @property
    def high(self) -> float:
        return self.bound((1 + LEVEL) / 2)

    @property
    def told(self) -> str:
        """With its interval.

        >>> Estimate(0.1, 0.05).told
        '+0.100 (+0.002 to +0.198)'
        """
        if not np.isfinite(self.error):
            return f"{self.value:+.3f} (no interval: too few networks or splits)"
        return f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def decided(*claims: Estimate) -> Status:
    """Whether all that a claim says is positive is so.

    Reproduced where every interval lies above 0; not reproduced where one lies below 0 (at the 95%
    of all together, Bonferroni: with many comparisons one is negative by chance); else undecided.
    """
    if claims and all(one.low > 0 for one in claims):
        return "reproduced"
    tail = 1 - (1 - LEVEL) / 2 / max(len(claims), 1)
    return "not reproduced" if any(one.bound(tail) < 0 for one in claims) else "undecided"


@dataclass(frozen=True, eq=False)
class Redrawn:
    """Accuracies of conditions, with those of bootstraps of networks, the same for all conditions.

    Attributes
    ----------
    observed : by condition.
    drawn : by condition, (bootstrap,).
    factor : what their spread is to be multiplied by.
    dof : networks less rules.
    """

    observed: Mapping[str, float]
    drawn: Mapping[str, NDArray[np.float64]]
    factor: float
    dof: float

    def estimate(self, statistic: Statistic) -> Estimate:
        """A statistic of the accuracies: its value, and its spread over the bootstraps."""
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = float(np.nanstd(statistic(self.drawn))) if self.dof > 0 else np.inf
            value = float(statistic(self.observed))
        return Estimate(value, self.factor * spread, max(self.dof, 1))

    def difference(self, a: str, b: str) -> Estimate:
        """How much more is named right under condition ``a`` than under ``b``."""
        return self.estimate(lambda accuracies: accuracies[a] - accuracies[b])


def redrawn(
    results: Results,
    conditions: Mapping[str, Levels],
    metric: str = "layer_accuracy",
    seed: int = 0,
) -> Redrawn:
    """Bootstraps of networks within rules, the same networks under all conditions.

    Each network counts by its mean over the splits that test it, layers weigh the same. The spread
    of n networks of k rules is multiplied by f √(n/(n − k)): the latter as variances within rules
    are estimated from their networks, f for shared training, the largest `shared_training` of any
    condition.
    """
    right, weight, factors = {}, {}, []
    for name, levels in conditions.items():
        rows = _rows(results.verdicts, levels)
        ones = pd.Series(1.0, rows.index)
        layers = metric == "layer_accuracy"
        keys = [rows["rule"], rows["network"]]
        right[name] = rows["layers_correct" if layers else "correct"].groupby(keys).mean()
        weight[name] = (rows["layers"] if layers else ones).groupby(keys).mean()
        factors.append(shared_training(results, levels))
    rights, weights = (pd.DataFrame(of).sort_index().fillna(0) for of in (right, weight))
    rules = rights.index.get_level_values("rule")
    n, k = len(rights), rules.nunique()
    counts = _draws(rules.to_numpy(), np.random.default_rng(seed))
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = (counts @ rights.to_numpy()) / (counts @ weights.to_numpy())
    factor = max(factors) * (np.sqrt(n / (n - k)) if n > k else 1)
    observed = (rights.sum() / weights.sum()).to_numpy()
    return Redrawn(
        dict(zip(conditions, observed.tolist(), strict=True)),
        dict(zip(conditions, drawn.T, strict=True)),
        float(factor),
        n - k,
    )


def shared_training(results: Results, levels: Levels) -> float:
    """f of a condition: how much more its accuracy varies than if outsiders judged its networks.

    Networks tested under one split are trained on under another. With tests per network m and
    tested share r, f² = 1/m + 1/(1 − r), see `goaldriven.identify.calibration.degeneracy_of_pairs`.
    Under a single split f² = 1/(1 − r): other networks would have made another classifier.
    Source: Nadeau & Bengio, 2003, Mach. Learn. 52, 239, with J = m/r splits and J = 1.
    """
    sizes = _rows(results.table, levels)
    test, train = (
        sizes.loc[sizes["metric"] == f"{part}_layers", "value"] for part in ("test", "train")
    )
    share = float(test.sum() / (test.sum() + train.sum()))
    if len(test) == 1:
        return float(np.sqrt(1 / (1 - share)))
    tests = max(1.0, len(test) * share)
    return float(np.sqrt(1 / tests + 1 / (1 - share)))


def over_splits(values: pd.Series, variance_ratio: float) -> Estimate:
    """The mean of a number over J splits that share networks.

    Its squared error is s² (1/J + q), s² the variance over splits, with J − 1 degrees of freedom;
    infinite for a single split. With correlation ρ of the splits q = ρ/(1 − ρ). For what is
    measured on test parts ρ is the tested share (Nadeau & Bengio, 2003), hence q = tested over
    trained; for what depends on training parts alone, ρ is what two of them share, hence q =
    trained over tested, as of the delete-d jackknife (Shao & Wu, 1989, Ann. Stat. 17, 1176); it is
    an upper bound where classifiers are random besides, as forests are, which nothing shares.
    """
    n = len(values)
    error = float(np.sqrt(values.var(ddof=1) * (1 / n + variance_ratio))) if n > 1 else np.inf
    return Estimate(float(values.mean()), error, max(n - 1, 1))


def _rows(table: pd.DataFrame, levels: Levels) -> pd.DataFrame:
    chosen = np.ones(len(table), dtype=bool)
    for column, level in levels.items():
        chosen &= table[column].isin(level if isinstance(level, list) else [level]).to_numpy()
    return table[chosen]


def _draws(rules: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each network is drawn, (bootstrap, network), as many of each rule as there are."""
    counts = np.zeros((BOOTSTRAPS, len(rules)))
    for rule in np.unique(rules):
        here = np.flatnonzero(rules == rule)
        counts[:, here] = rng.multinomial(
            len(here), np.full(len(here), 1 / len(here)), size=BOOTSTRAPS
        )
    return counts
