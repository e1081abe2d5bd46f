"""Trajectories → the tidy tables behind the figures; a figure draws one and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

FACTORS = ("task", "architecture", "rule", "batch_size", "model_seed", "data_seed")

ALIGNMENT = ("weight_angle", "weight_norm_ratio", "gradient_angle", "update_angle")

OF_EVERY_RULE = "update_angle"
"""The one of them that also backprop has; its others are what they are by definition."""

POSITIONS = ("early", "middle", "deep")


def trained_only(networks: Iterable[xr.Dataset]) -> list[xr.Dataset]:
    """The networks that did not diverge."""
    return [n for n in networks if n.attrs["outcome"] == "trained"]


def has_performance(network: xr.Dataset) -> bool:
    """Whether a network's metric was recorded: that of imported networks was not.

    One that diverged at once was recorded, though nothing in its record is finite.
    """
    return network.attrs["outcome"] == "diverged" or _any_finite(network["metric"])


def network_table(networks: Iterable[xr.Dataset]) -> pd.DataFrame:
    """One row per network: its factors, outcome, performance at the last record, and time.

    Columns: network_id, the six factors, outcome, metric_name, chance, final_metric and
    final_loss (at the last epoch; NaN where the network diverged), seconds, recording_seconds.
    Also NaN is what was not recorded.
    """
    columns = [
        "network_id",
        *FACTORS,
        "outcome",
        "metric_name",
        "chance",
        "final_metric",
        "final_loss",
        "seconds",
        "recording_seconds",
    ]
    rows = [
        {
            **{c: n.attrs[c] for c in columns if c in n.attrs},
            "final_metric": float(n["metric"].values[-1]),
            "final_loss": float(n["loss"].values[-1]),
        }
        for n in networks
    ]
    return pd.DataFrame(rows, columns=columns)


def final_performance(networks: Iterable[xr.Dataset]) -> pd.DataFrame:
    """The validation metric at the last epoch, one row per network, diverged ones with NaN."""
    table = network_table(networks)
    return table[["network_id", *FACTORS, "outcome", "metric_name", "chance", "final_metric"]]


def median_performance(performance: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles of the final metric over networks, per task and rule.

    Columns: task, rule, metric_name, chance, median, lower_quartile, upper_quartile, networks
    (those that count) and diverged (those that do not).
    """
    rows = []
    for (task, rule), group in performance.groupby(["task", "rule"], sort=False):
        values = group["final_metric"].dropna()
        rows.append(
            {
                "task": task,
                "rule": rule,
                "metric_name": group["metric_name"].iloc[0],
                "chance": group["chance"].iloc[0],
                **_quartiles(values.to_numpy(dtype=float)),
                "networks": len(values),
                "diverged": int((group["outcome"] == "diverged").sum()),
            }
        )
    return pd.DataFrame(rows)


def learning_curves(networks: Iterable[xr.Dataset]) -> pd.DataFrame:
    """Median and quartiles over trained networks of the metric, per task, rule and epoch."""
    frames = [
        pd.DataFrame(
            {
                "task": n.attrs["task"],
                "rule": n.attrs["rule"],
                "metric_name": n.attrs["metric_name"],
                "chance": n.attrs["chance"],
                "epoch": n["epoch"].values,
                "value": n["metric"].values,
            }
        )
        for n in trained_only(networks)
    ]
    return _summarise(frames, ["task", "rule", "metric_name", "chance", "epoch"], "networks")


def trajectories(networks: Iterable[xr.Dataset], statistics: Sequence[str]) -> pd.DataFrame:
    """Trajectories of single layers of trained networks, one row per layer, statistic and epoch.

    Columns: statistic, measure, rule, network_id, layer, position, epoch, value.
    """
    columns = ["statistic", "measure", "rule", "network_id", "layer", "position", "epoch", "value"]
    frames = []
    for network in trained_only(networks):
        chosen = network[["observable"]].sel(statistic=list(statistics))
        frame = chosen.to_dataframe().reset_index().rename(columns={"observable": "value"})
        frames.append(
            frame.assign(rule=network.attrs["rule"], network_id=network.attrs["network_id"])
        )
    if not frames:
        return pd.DataFrame(columns=columns)
    return pd.concat(frames, ignore_index=True)[columns]


def median_trajectories(single: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles over layers of `trajectories`, per statistic, rule and epoch."""
    return _summarise([single], ["statistic", "measure", "rule", "epoch"], "layers")


def alignment(networks: Iterable[xr.Dataset]) -> pd.DataFrame:
    """Alignment of backward with forward weights, and of updates with the slope, through learning.

    Median and quartiles over layers of trained networks, per quantity, rule, layer position and
    epoch. Quantities: ``weight_angle`` (between W and Bᵀ, degrees), ``weight_norm_ratio``
    and ``gradient_angle`` (between pseudogradient and true gradient, degrees) of rules other than
    backprop, where they have them; ``update_angle`` (between the change of W since the record
    before and steepest descent there, degrees) of all, where the file has it.
    """
    frames = []
    for network in trained_only(networks):
        own = ALIGNMENT if not is_backprop(network) else (OF_EVERY_RULE,)
        quantities = [q for q in own if q in network and _any_finite(network[q])]
        if not quantities:
            continue
        wide = network[quantities].to_dataframe().reset_index()
        long = wide.melt(
            ["epoch", "layer", "position"], quantities, var_name="quantity", value_name="value"
        )
        frames.append(long.assign(rule=network.attrs["rule"]))
    return _summarise(frames, ["quantity", "rule", "position", "epoch"], "layers")


def has_alignment(network: xr.Dataset) -> bool:
    """Whether any of `ALIGNMENT` was recorded."""
    return any(q in network and _any_finite(network[q]) for q in ALIGNMENT)


def is_backprop(network: xr.Dataset) -> bool:
    """Whether errors are known to travel through the transposed forward weights."""
    return bool(rule_of(network).get("credit", {}).get("name") == "backprop")


def rule_of(network: xr.Dataset) -> dict[str, Any]:
    """The specification of a network's rule."""
    return dict(json.loads(network.attrs["spec"])["rule"])


def weight_pairs(networks: Iterable[xr.Dataset], records: int = 3) -> pd.DataFrame:
    """Backward against forward weights: of each rule one network, one layer of each position.

    The network is the rule's first trained one that has pairs, so that networks of a grid share
    the other factors; the layers are the first early, the middle one of the middle and the last
    deep layer that have pairs; the records are spread evenly from the first to the last.

    Columns: rule, network_id, architecture, layer, position, epoch, pair, forward_weight,
    backward_weight; weight_angle and weight_norm_ratio of the whole layer at that epoch.
    """
    columns = [
        *("rule", "network_id", "architecture", "layer", "position", "epoch", "pair"),
        *("forward_weight", "backward_weight", "weight_angle", "weight_norm_ratio"),
    ]
    seen: dict[str, pd.DataFrame] = {}
    for network in trained_only(networks):
        rule = network.attrs["rule"]
        if rule in seen or "backward_weight" not in network:
            continue
        chosen = network[columns[-4:]].isel(
            epoch=_spread(network.sizes["epoch"], records), layer=_one_of_each_position(network)
        )
        frame = chosen.assign_coords(pair=np.arange(network.sizes["pair"])).to_dataframe()
        finite = frame[np.isfinite(frame[["forward_weight", "backward_weight"]]).all(axis=1)]
        named = {key: network.attrs[key] for key in ("rule", "network_id", "architecture")}
        seen[rule] = finite.reset_index().assign(**named)
    if not seen:
        return pd.DataFrame(columns=columns)
    return pd.concat(seen.values(), ignore_index=True)[columns]


def _one_of_each_position(network: xr.Dataset) -> list[int]:
    paired = np.isfinite(network["backward_weight"].isel(epoch=0).values).any(axis=-1)
    layers = {
        position: np.flatnonzero(paired & (network["position"].values == position))
        for position in POSITIONS
    }
    picks = {"early": 0.0, "middle": 0.5, "deep": 1.0}
    return [int(i[int(picks[p] * (len(i) - 1))]) for p, i in layers.items() if len(i)]


def _spread(count: int, most: int) -> list[int]:
    """At most so many indices of ``count``, evenly from the first to the last."""
    return [int(i) for i in np.linspace(0, count - 1, min(most, count)).round()]


def _any_finite(values: xr.DataArray) -> bool:
    return bool(np.isfinite(values.values).any())


def not_finite(networks: Iterable[xr.Dataset]) -> pd.DataFrame:
    """Per statistic, how many trained networks (and layers) it is not finite for at some epoch.

    Columns: statistic, measure, networks, layers; one row for each statistic.
    """
    counts: dict[str, tuple[str, int, int]] = {}
    for network in trained_only(networks):
        broken = ~np.isfinite(network["observable"].transpose("statistic", "epoch", "layer").values)
        layers = broken.any(axis=1).sum(axis=1)  # (statistic,)
        names, measures = network["statistic"].values, network["measure"].values
        for name, measure, n in zip(names, measures, layers, strict=True):
            _, in_networks, in_layers = counts.get(str(name), ("", 0, 0))
            counts[str(name)] = (str(measure), in_networks + int(n > 0), in_layers + int(n))
    return pd.DataFrame(
        [(name, *rest) for name, rest in counts.items()],
        columns=["statistic", "measure", "networks", "layers"],
    )


def _quartiles(values: np.ndarray) -> dict[str, float]:
    if values.size == 0:
        return dict.fromkeys(("median", "lower_quartile", "upper_quartile"), float("nan"))
    lower, middle, upper = np.percentile(values, [25, 50, 75])
    return {"median": middle, "lower_quartile": lower, "upper_quartile": upper}


def _summarise(frames: list[pd.DataFrame], keys: list[str], count: str) -> pd.DataFrame:
    """Median and quartiles of the finite ``value``s, and how many there are, for every key."""
    columns = [*keys, "median", "lower_quartile", "upper_quartile", count]
    if not frames:
        return pd.DataFrame(columns=columns)
    whole = pd.concat(frames, ignore_index=True)
    finite = whole[np.isfinite(whole["value"])]
    groups = finite.groupby(keys, sort=False, observed=True)["value"]
    quantiles = groups.quantile([0.25, 0.5, 0.75]).unstack()
    quantiles.columns = ["lower_quartile", "median", "upper_quartile"]
    result = quantiles.join(groups.size().rename(count)).reset_index()
    order = whole[keys].drop_duplicates()  # the rows in the order in which they came
    return order.merge(result, on=keys, how="inner")[columns].reset_index(drop=True)


def sample_layers(single: pd.DataFrame, per_rule: int) -> pd.DataFrame:
    """The rows of `trajectories` of at most ``per_rule`` layers of each rule, evenly picked."""
    layers = single[["rule", "network_id", "layer"]].drop_duplicates()
    kept = []
    for _, group in layers.groupby("rule", sort=False):
        n = min(per_rule, len(group))
        kept.append(group.iloc[np.linspace(0, len(group) - 1, n).round().astype(int)])
    if not kept:
        return single
    return single.merge(pd.concat(kept), on=["rule", "network_id", "layer"], how="inner")


def rule_separation(single: pd.DataFrame) -> pd.DataFrame:
    """How far the rules lie apart at the last record, per statistic of `trajectories`.

    The share η² = Σ_rule n_rule (r̄_rule − r̄)² / Σ (r − r̄)² of the variance of the ranks r over
    layers that lies between the rules: 0 if all rules have the same mean rank, 1 if layers of one
    rule do not differ. Ranks, because observables spread over orders of magnitude.
    Columns: statistic, share; the largest first.
    """
    last = single[single["epoch"] == single["epoch"].max()]
    last = last[np.isfinite(last["value"])]
    rows = []
    for statistic, group in last.groupby("statistic", sort=False):
        ranks = group["value"].rank()
        between = ranks.groupby(group["rule"]).transform("mean") - ranks.mean()
        total = ((ranks - ranks.mean()) ** 2).sum()
        rows.append((statistic, (between**2).sum() / total if total > 0 else 0.0))
    table = pd.DataFrame(rows, columns=["statistic", "share"])
    return table.sort_values("share", ascending=False, ignore_index=True)
