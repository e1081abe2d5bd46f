"""Maximum likelihood of the Kesten process: Δw ~ N(μ_a w + μ_b, σ_a² w² + σ_b²).

Fisher scoring, many resamples at once. The expected information is block-diagonal between means and
variances: given the variances the means are a weighted regression of Δw on (w, 1), given the
means the variances one of the squared residuals on (w², 1) with weights v⁻², kept ≥ 0. A step that
lowers the likelihood is halved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from goaldriven.errors import DataError, unknown
from goaldriven.synapses.kesten_pairs import Counts, Floats

NAMES = ("mu_a", "mu_b", "var_a", "var_b")
Free = tuple[bool, bool, bool, bool]
VARIANTS: dict[str, Free] = {
    "full": (True, True, True, True),
    "additive": (False, True, False, True),
    "multiplicative": (True, False, True, False),
    "no additive mean": (True, False, True, True),
    "no additive variance": (True, True, True, False),
    "no multiplicative mean": (False, True, True, True),
    "no multiplicative variance": (True, True, False, True),
}
"""Sub-models of the Kesten process: which of μ_a, μ_b, σ_a², σ_b² are free; the others are 0."""

_CELLS = 150_000  # resamples × pairs at a time, so that the arrays stay in the cache
_ITERATIONS = 200
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class LikelihoodRatio:
    """A sub-model against the full Kesten process.

    ``statistic`` is twice the gain in log likelihood, ``p_value`` by the law in ``law``;
    ``p_bootstrap`` by simulating the sub-model, NaN where that was not asked for.
    """

    null: str
    statistic: float
    law: str
    p_value: float
    p_bootstrap: float = float("nan")


def log_likelihood(
    theta: Floats, w: Floats, change: Floats, counts: Floats | float = 1.0
) -> Floats:
    """Σ log N(Δw; μ_a w + μ_b, σ_a² w² + σ_b²) over pairs: ``theta`` (..., 4) → (...,)."""
    mean, variance = moments(theta, w)
    terms = np.log(variance) + (change - mean) ** 2 / variance + np.log(2 * np.pi)
    return np.asarray(-0.5 * (counts * terms).sum(axis=-1))


def moments(theta: Floats, w: Floats) -> tuple[Floats, Floats]:
    """E[Δw | w] and Var[Δw | w]: ``theta`` (..., 4), ``w`` (pair,) → (..., pair) each."""
    a, b, a2, b2 = (theta[..., i, None] for i in range(4))
    return a * w + b, a2 * w**2 + b2


def score(theta: Floats, w: Floats, change: Floats) -> Floats:
    """Gradient of `log_likelihood` in (μ_a, μ_b, σ_a², σ_b²): (4,)."""
    mean, variance = moments(theta, w)
    residual = (change - mean) / variance
    slope = 0.5 * (residual**2 - 1 / variance)
    terms = (residual * w, residual, slope * w**2, slope)
    return np.array([term.sum() for term in terms])


def maximum_likelihood(
    w: Floats,
    change: Floats,
    counts: Counts | None = None,
    variant: str = "full",
) -> tuple[Floats, Floats]:
    """Parameters (resample, 4), as in `NAMES`, and their log likelihoods (resample,).

    ``w`` (pair,) are weights > 0, ``change`` (pair,) or (resample, pair) their changes and
    ``counts`` (resample, pair) how often a pair is in a resample (once in the only one by default).

    Raises
    ------
    DataError : the variant is unknown.
    """
    if variant not in VARIANTS:
        raise DataError(unknown("variant", variant, VARIANTS))
    changes = np.atleast_2d(change)
    weights = np.ones((len(changes), len(w))) if counts is None else np.atleast_2d(counts)
    rows = max(len(changes), len(weights))
    theta, value = np.empty((rows, 4)), np.empty(rows)
    block = max(1, _CELLS // len(w))
    for first in range(0, rows, block):
        part = slice(first, min(first + block, rows))
        mine = changes if len(changes) == 1 else changes[part]
        often = weights if len(weights) == 1 else weights[part]
        size = part.stop - part.start
        theta[part], value[part] = _scoring(
            w,
            np.broadcast_to(mine, (size, len(w))),
            np.broadcast_to(often, (size, len(w))).astype(float),
            VARIANTS[variant],
        )
    return theta, value


def _scoring(w: Floats, change: Floats, counts: Floats, free: Free) -> tuple[Floats, Floats]:
    n = counts.sum(axis=1)
    scale = (counts * change**2).sum(axis=1) / n
    theta = np.zeros((len(change), 4))
    theta[:, 2] = scale / (counts * w**2).sum(axis=1) * n * (0.5 if free[3] else 1.0) * free[2]
    theta[:, 3] = scale * (0.5 if free[2] else 1.0) * free[3]
    value = log_likelihood(theta, w, change, counts)
    active = np.arange(len(change))
    for _ in range(_ITERATIONS):
        mine = (w, change[active], counts[active])
        target = _step(theta[active], *mine, free)
        better, reached = _line_search(theta[active], value[active], target, *mine)
        gain = reached - value[active]
        theta[active], value[active] = better, reached
        active = active[gain > _TOLERANCE * (1 + np.abs(reached))]
        if not len(active):
            break
    return theta, value


def _step(theta: Floats, w: Floats, change: Floats, counts: Floats, free: Free) -> Floats:
    """Where one scoring step leads: new means under the old variances, then new variances."""
    target = np.zeros_like(theta)
    precision = counts / moments(theta, w)[1]
    powers = np.stack([np.ones_like(w), w, w**2, w**4], axis=1)
    one, first, second = (precision @ powers[:, :3]).T
    total, product = ((precision * change) @ powers[:, :2]).T
    if free[0] and free[1]:
        target[:, :2] = _solve(second, first, one, product, total)
    elif free[0]:
        target[:, 0] = product / second
    elif free[1]:
        target[:, 1] = total / one
    variance = moments(theta, w)[1]
    precision = precision / variance
    squares = (change - target[:, :1] * w - target[:, 1:2]) ** 2
    one, second, fourth = (precision @ powers[:, [0, 2, 3]]).T
    total, product = ((precision * squares) @ powers[:, [0, 2]]).T
    if free[2] and free[3]:
        target[:, 2:] = _solve_positive(fourth, second, one, product, total)
    elif free[2]:
        target[:, 2] = product / fourth
    elif free[3]:
        target[:, 3] = total / one
    return target


def _solve(aa: Floats, ab: Floats, bb: Floats, ya: Floats, yb: Floats) -> Floats:
    """[[aa, ab], [ab, bb]] x = (ya, yb), row by row."""
    determinant = aa * bb - ab**2
    flat = determinant <= 1e-12 * aa * bb  # all weights alike: slope and intercept are one
    safe = np.where(flat, 1.0, determinant)
    both = np.stack([(bb * ya - ab * yb) / safe, (aa * yb - ab * ya) / safe], axis=1)
    return np.where(flat[:, None], np.stack([np.zeros_like(yb), yb / bb], axis=1), both)


def _solve_positive(aa: Floats, ab: Floats, bb: Floats, ya: Floats, yb: Floats) -> Floats:
    """As `_solve`, least squares under x ≥ 0: where one is negative, the better of the two edges.

    With y ≥ 0 both edges are feasible; x = y / diagonal on an edge lowers the misfit by
    y² / diagonal.
    """
    both = _solve(aa, ab, bb, ya, yb)
    zero = np.zeros_like(ya)
    gains = np.stack([ya**2 / aa, yb**2 / bb], axis=1)
    edge = np.where(
        gains[:, :1] > gains[:, 1:],
        np.stack([ya / aa, zero], axis=1),
        np.stack([zero, yb / bb], axis=1),
    )
    return np.where((both < 0).any(axis=1, keepdims=True), edge, both)


def _line_search(
    theta: Floats, value: Floats, target: Floats, w: Floats, change: Floats, counts: Floats
) -> tuple[Floats, Floats]:
    """The whole step where it gains likelihood, else the first half, quarter … that does."""
    best, reached = theta.copy(), value.copy()
    left = np.arange(len(theta))
    share = 1.0
    for _ in range(30):
        tried = theta[left] + share * (target[left] - theta[left])
        usable = (tried[:, 2] + tried[:, 3]) > 0
        tried = np.where(usable[:, None], tried, theta[left])
        now = log_likelihood(tried, w, change[left], counts[left])
        gained = now > value[left]
        best[left[gained]], reached[left[gained]] = tried[gained], now[gained]
        left = left[~gained]
        if not len(left):
            break
        share /= 2
    return best, reached


def likelihood_ratio(
    w: Floats,
    change: Floats,
    null: str,
    *,
    resamples: int = 0,
    rng: np.random.Generator | None = None,
) -> LikelihoodRatio:
    """Is a sub-model of the Kesten process enough? Twice the log likelihood that it lacks.

    A variance at 0 lies on the boundary of what is allowed, so its share of the statistic is 0 in
    half of the cases: the law is an equal mixture of χ²_k and χ²_(k+1), k the number of means that
    the sub-model sets to 0 (means and variances have no information in common); χ²_k where it sets
    no variance. ``resamples`` > 0 also simulates the sub-model at the same w. Pairs are taken as
    independent given w; where they are not (dendrites), trust the cluster bootstrap more.

    Source: Self & Liang 1987 (J. Am. Stat. Assoc. 82), case 5.
    """
    if null not in VARIANTS or null == "full":
        raise DataError(unknown("null", null, set(VARIANTS) - {"full"}))
    theta, low = maximum_likelihood(w, change, variant=null)
    statistic = float(2 * (maximum_likelihood(w, change)[1] - low)[0])
    means, variances = 2 - sum(VARIANTS[null][:2]), 2 - sum(VARIANTS[null][2:])
    p_value = float(_tail(statistic, means, variances))
    law = f"χ²({means})" if not variances else f"½χ²({means}) + ½χ²({means + 1})"
    simulated = float("nan")
    if resamples and rng is not None:
        mean, variance = moments(theta, w)
        draws = mean + np.sqrt(variance) * rng.standard_normal((resamples, len(w)))
        full, lower = (maximum_likelihood(w, draws, variant=v)[1] for v in ("full", null))
        simulated = float((1 + (2 * (full - lower) >= statistic).sum()) / (1 + resamples))
    return LikelihoodRatio(null, statistic, law, p_value, simulated)


def _tail(statistic: float, means: int, variances: int) -> float:
    def above(k: int) -> float:
        return float(stats.chi2.sf(statistic, k)) if k else float(statistic <= 0)

    return above(means) if not variances else 0.5 * (above(means) + above(means + 1))
