"""What the same metaparameters reach on every architecture, against backprop."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from goaldriven.report import figures
from goaldriven.report import robustness as compared
from goaldriven.report.blocks import Block, Download, Paragraph, Plate, Section, Table
from goaldriven.report.names import listing, plural
from goaldriven.report.study import StudyData
from goaldriven.report.tables import rule_of

CLOSE = 0.01
"""A rule keeps up with backprop where its median gap is at least minus this."""

_INTERVAL = (
    "the median's 95% interval by order statistics (of five networks or fewer their range, which "
    "covers the median less often: of two in 50%, of three in 75%)"
)


def robustness(data: StudyData) -> tuple[Section, ...]:
    """One section where there are backprop, other rules and architectures to compare, else none."""
    networks = data.with_performance
    if not compared.is_comparison(networks):
        return ()
    table = compared.by_architecture(networks)
    blocks: list[Block] = [Paragraph(_about(data, table)), _plate(data, table)]
    blocks += [_gap_table(group, task) for task, group in table.groupby("task", sort=False)]
    return (Section("robustness", "Robustness across architectures", tuple(blocks)),)


def _about(data: StudyData, table: pd.DataFrame) -> str:
    others = table[table["reference"] != ""]
    by_reference: dict[str, list[str]] = {}
    for rule, reference in dict(zip(others["rule"], others["reference"], strict=True)).items():
        by_reference.setdefault(reference, []).append(rule)
    pairs = [
        f"{listing(rules)} with {reference}{_family(data, rules, reference)}"
        for reference, rules in by_reference.items()
    ]
    return (
        "Every rule has the same metaparameters on every architecture, wherever they were tuned. "
        "A network is compared with the backprop network of the same architecture, batch size and "
        f"seeds: {listing(pairs)}."
    )


def _family(data: StudyData, rules: list[str], reference: str) -> str:
    """A remark on rules whose optimizer is of another family than the reference's."""
    family = {n.attrs["rule"]: rule_of(n)["optimizer"]["name"] for n in data.with_performance}
    other = [rule for rule in rules if family.get(rule) != family.get(reference)]
    if not other:
        return ""
    return f" (no backprop rule has the optimizer of {listing(other)})"


def _plate(data: StudyData, table: pd.DataFrame) -> Plate:
    text = _summary(table)
    caption = (
        "Upper panel: final validation metric, with a vertical scale that is logarithmic in the "
        "odds; lower panel: its difference from backprop's, paired by seeds. Medians over "
        f"networks with {_INTERVAL}; crosses on the axis stand for diverged networks. {text}"
    )
    return Plate(
        "robustness-by-architecture",
        "The same metaparameters on every architecture",
        caption,
        "Lines of the final metric, and of its difference from backprop, by architecture and "
        f"rule. {text}",
        figures.robustness(table, data.rules),
        (
            Download("robustness.csv", table),
            Download("gaps_to_backprop.csv", compared.gaps(data.with_performance)),
        ),
    )


def _summary(table: pd.DataFrame) -> str:
    """Per task the rules that keep up with backprop everywhere, and where each other lacks most."""
    sentences = []
    for task, group in table[table["reference"] != ""].groupby("task", sort=False):
        close, lacking = [], []
        for rule, rows in group.groupby("rule", sort=False):
            known = rows.dropna(subset=["gap_median"])
            lost = [f"{d} diverged on {a}" for a, d in _pairs(rows, "diverged") if d]
            if len(known) and (known["gap_median"] >= -CLOSE).all() and not lost:
                close.append(str(rule))
                continue
            worst = _pairs(known.sort_values("gap_median"), "gap_median")[:1]
            parts = [f"{_points(gap)} on {a}" for a, gap in worst] + lost
            lacking.append(f"{rule} ({', '.join(parts) or 'nothing to compare'})")
        if close:
            sentences.append(
                f"Within {100 * CLOSE:.0f} percentage point of backprop on every architecture of "
                f"{task}: {listing(close)}."
            )
        if lacking:
            others = " of the others" if close else ""
            sentences.append(
                f"The largest gaps{others} on {task}, in percentage points: {listing(lacking)}."
            )
    return " ".join(sentences)


def _pairs(rows: pd.DataFrame, column: str) -> list[tuple[str, Any]]:
    return list(zip(rows["architecture"], rows[column], strict=True))


def _points(value: float) -> str:
    """
    >>> _points(-0.0123), _points(0.004)
    ('−1.2', '+0.4')
    """
    return f"{100 * value:+.1f}".replace("-", "−")


def _gap_table(group: pd.DataFrame, task: Hashable) -> Table:
    """A row per rule, backprop first, a column per architecture."""
    reference = dict(zip(group["rule"], group["reference"], strict=True))
    architectures = list(dict.fromkeys(group["architecture"]))
    cells = {(r["rule"], r["architecture"]): r for r in group.to_dict("records")}
    rows = tuple(
        (
            f"{rule} − {reference[rule]}" if reference[rule] else rule,
            *(_cell(cells.get((rule, a))) for a in architectures),
        )
        for rule in sorted(reference, key=lambda r: bool(reference[r]))
    )
    metric = group["metric_name"].iloc[0]
    most = int(group[["networks", "diverged"]].sum(axis=1).max())
    caption = (
        f"{task}: final {metric} of backprop in per cent, and of each other rule the gap to the "
        "backprop rule it is compared with, in percentage points. Median over at most "
        f"{plural(most, 'network')}, in brackets {_INTERVAL}."
    )
    return Table(caption, ("rule", *architectures), rows)


def _cell(row: Mapping[Hashable, Any] | None) -> str:
    if row is None:
        return "–"
    own = row["reference"] == ""
    of = "" if own else "gap_"
    value, low, high = (row[f"{of}{name}"] for name in ("median", "low", "high"))
    diverged = f" ({row['diverged']} diverged)" if row["diverged"] else ""
    if not np.isfinite(value):
        return f"–{diverged}"
    text = f"{100 * value:.1f}" if own else _points(value)
    ends = f"{100 * low:.1f}–{100 * high:.1f}" if own else f"{_points(low)} to {_points(high)}"
    return text + ("" if math.isnan(low) else f" ({ends})") + diverged
