"""Robustness: what the same metaparameters reach on other architectures, against backprop."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import binom

from goaldriven.report.tables import is_backprop, rule_of

_SAME = ("task", "architecture", "batch_size", "model_seed", "data_seed")
"""What a network shares with the backprop network it is compared with."""


def is_comparison(networks: Iterable[xr.Dataset]) -> bool:
    """Whether there is a backprop rule, another rule, and more than one architecture."""
    networks = list(networks)
    kinds = {is_backprop(n) for n in networks}
    return kinds == {True, False} and len(set(architecture_labels(networks).values())) > 1


def references(networks: Iterable[xr.Dataset]) -> dict[str, str]:
    """Rule → the backprop rule it is compared with, for all rules but backprop's own.

    The first backprop rule whose optimizer is of the same family (``sgdm``, ``adam``); where there
    is none, the first backprop rule. Empty without one.
    """
    rules = {n.attrs["rule"]: rule_of(n) for n in networks}
    backprop = [name for name, rule in rules.items() if rule["credit"]["name"] == "backprop"]
    family = {name: rule["optimizer"]["name"] for name, rule in rules.items()}
    return {
        name: next((b for b in backprop if family[b] == family[name]), backprop[0])
        for name in rules
        if backprop and name not in backprop
    }


def architecture_labels(networks: Iterable[xr.Dataset]) -> dict[str, str]:
    """network_id → the architecture's name, with its width where a name comes in several."""
    specs = {n.attrs["network_id"]: json.loads(n.attrs["spec"])["architecture"] for n in networks}
    variants = {json.dumps(spec, sort_keys=True): spec["name"] for spec in specs.values()}
    ambiguous = {name for name, count in Counter(variants.values()).items() if count > 1}
    return {
        network_id: (
            f"{spec['name']} ×{spec.get('width', 1):g}"
            if spec["name"] in ambiguous
            else str(spec["name"])
        )
        for network_id, spec in specs.items()
    }


def gaps(networks: Iterable[xr.Dataset]) -> pd.DataFrame:
    """Every network beside the backprop network that differs from it in the rule alone.

    gap = final metric − final metric of the backprop network of the same task, architecture, batch
    size, model seed and data seed under the rule's reference (see `references`). NaN for backprop
    itself, and where either network diverged or is missing.

    Columns: network_id, task, architecture, rule, reference (empty for backprop), batch_size,
    model_seed, data_seed, outcome, metric_name, chance, final_metric, gap.
    """
    networks = list(networks)
    compared, labels = references(networks), architecture_labels(networks)
    columns = [
        *("network_id", "task", "architecture", "rule", "reference", "batch_size", "model_seed"),
        *("data_seed", "outcome", "metric_name", "chance", "final_metric"),
    ]
    rows = [
        {
            **{c: n.attrs[c] for c in columns if c in n.attrs},
            "architecture": labels[n.attrs["network_id"]],
            "reference": compared.get(n.attrs["rule"], ""),
            "final_metric": _final_metric(n),
        }
        for n in networks
    ]
    table = pd.DataFrame(rows, columns=columns)
    keys = [*_SAME, "reference"]
    backprop = table[table["reference"] == ""].drop(columns="reference")
    backprop = backprop.rename(columns={"rule": "reference", "final_metric": "of_backprop"})
    joined = table.merge(backprop[[*keys, "of_backprop"]], on=keys, how="left")
    return joined.assign(gap=joined["final_metric"] - joined["of_backprop"])[[*columns, "gap"]]


def by_architecture(networks: Iterable[xr.Dataset]) -> pd.DataFrame:
    """Metric and gap to backprop, median and its interval over seeds (and batch sizes).

    Columns: task, architecture, rule, reference, metric_name, chance; median, low, high (of the
    final metric) and networks; gap_median, gap_low, gap_high and pairs (networks compared);
    diverged. Of the interval see `median_interval`.
    """
    each = gaps(networks)
    rows = []
    keys = ["task", "architecture", "rule", "reference", "metric_name", "chance"]
    for values, group in each.groupby(keys, sort=False, dropna=False):
        median, low, high, count = _centre(group["final_metric"])
        gap_median, gap_low, gap_high, pairs = _centre(group["gap"])
        rows.append(
            {
                **dict(zip(keys, values, strict=True)),
                "median": median,
                "low": low,
                "high": high,
                "networks": count,
                "gap_median": gap_median,
                "gap_low": gap_low,
                "gap_high": gap_high,
                "pairs": pairs,
                "diverged": int((group["outcome"] == "diverged").sum()),
            }
        )
    return pd.DataFrame(rows)


def median_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """A 95% interval of the median of what the values are drawn from, whatever its distribution.

    From the r-th lowest to the r-th highest of n values, r the largest with
    P(B < r) ≤ 2.5%, B binomial(n, ½): it covers the median with probability 1 − 2 P(B < r) or more.
    No two of five values or fewer do so in 95%; then it is their range, which covers the median
    with 1 − 2^(1 − n), 50% for two and 94% for five. NaN for fewer than two. Source: Thompson 1936,
    Annals of Mathematical Statistics 7.

    >>> median_interval(np.array([3.0, 1.0, 2.0]))
    (1.0, 3.0)
    """
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    below = binom.cdf(np.arange(n), n, 0.5)  # P(B < r) of r = 1 … n
    r = max(1, int(np.sum(below <= 0.025)))
    ordered = np.sort(values)
    return float(ordered[r - 1]), float(ordered[n - r])


def _final_metric(network: xr.Dataset) -> float:
    trained = network.attrs["outcome"] == "trained"
    return float(network["metric"].values[-1]) if trained else float("nan")


def _centre(values: pd.Series) -> tuple[float, float, float, int]:
    """Median, the ends of its interval, and number of the finite values."""
    finite = values[np.isfinite(values)].to_numpy(dtype=float)
    median = float(np.median(finite)) if finite.size else float("nan")
    return median, *median_interval(finite), int(finite.size)
