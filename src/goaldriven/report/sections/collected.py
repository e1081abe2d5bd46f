"""What a collection has, and what it lacks."""

from __future__ import annotations

from collections import Counter

from goaldriven.report.blocks import Download, Table
from goaldriven.report.names import group_label, listing, plural
from goaldriven.report.sections.alignment import is_recorded
from goaldriven.report.study import StudyData
from goaldriven.report.tables import FACTORS, network_table
from goaldriven.trajectories.published import UNKNOWN_BATCH_SIZE, UNSEEDED

_NAMES = {"rule": "learning rule"}
_UNKNOWN: dict[str, dict[object, str]] = {
    "batch_size": {UNKNOWN_BATCH_SIZE: "not known"},
    "model_seed": {UNSEEDED: "none"},
    "data_seed": {UNSEEDED: "none"},
}
"""What stands for a number that is not known, or not there."""


def factors_of(data: StudyData) -> Table:
    """Levels of the networks' factors, their layers, records and observables."""
    rows = [_levels(data, factor) for factor in FACTORS]
    rows += [_layers(data), _records(data), _observables(data)]
    return Table(
        f"The collection: {plural(len(data.networks), 'network')}, from "
        f"{listing(list(data.sources)) if data.sources else 'sources not known'}; in brackets "
        "the networks of each level.",
        ("", "number", "which"),
        tuple(rows),
        (Download("networks.csv", network_table(data.networks)),),
        text_columns=3,
    )


def lacking(data: StudyData) -> str:
    """One sentence on what a collection has not, and the page therefore neither; may be empty."""
    if data.study is not None:
        return ""
    without: list[str] = []
    left_out: list[str] = []
    if not data.with_performance:
        without += ["no loss", "no performance"]
        left_out += ["no learning curves", "no comparison of architectures"]
    if not is_recorded(data):
        without.append("no backward weights")
        left_out.append("no alignment of weights")
    if not without:
        return ""
    return f"The collection holds {listing(without)}; so this page has {listing(left_out)}."


def _levels(data: StudyData, factor: str) -> tuple[str, str, str]:
    counts = Counter(n.attrs[factor] for n in data.networks)
    levels = data.rules if factor == "rule" else sorted(counts)
    names = _UNKNOWN.get(factor, {})
    told = [f"{names.get(level, level)} ({counts[level]})" for level in levels]
    return _NAMES.get(factor, factor.replace("_", " ")), str(len(levels)), ", ".join(told)


def _layers(data: StudyData) -> tuple[str, str, str]:
    """Of every architecture: it has one count of layers, or several where tasks change its head."""
    counts: dict[str, set[int]] = {}
    for network in data.networks:
        counts.setdefault(network.attrs["architecture"], set()).add(network.sizes["layer"])
    total = sum(n.sizes["layer"] for n in data.networks)
    told = [
        f"{' or '.join(map(str, sorted(of)))} in {architecture}"
        for architecture, of in sorted(counts.items())
    ]
    return "layers", str(total), ", ".join(told)


def _records(data: StudyData) -> tuple[str, str, str]:
    grids = {tuple(n["epoch"].values.tolist()) for n in data.networks}
    if len(grids) > 1:
        return "records", "", "not at the same epochs in all networks"
    [epochs] = grids
    return "records", str(len(epochs)), f"at epochs {epochs[0]} to {epochs[-1]}"


def _observables(data: StudyData) -> tuple[str, str, str]:
    measures: dict[str, str] = {}
    for network in data.networks:
        names, of = network["statistic"].values.tolist(), network["measure"].values.tolist()
        measures |= dict(zip(names, of, strict=True))
    told = [f"{group_label(m)} ({count})" for m, count in Counter(measures.values()).items()]
    return "observables", str(len(measures)), ", ".join(told)
