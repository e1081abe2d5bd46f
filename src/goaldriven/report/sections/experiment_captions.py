"""What is said below the figures of experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from goaldriven.report.drawings import Drawing, columns_of
from goaldriven.report.figures.experiment_measures import drawn_measures
from goaldriven.report.figures.experiment_pairs import halves
from goaldriven.report.names import column_label, level_label, listing, plural

if TYPE_CHECKING:
    from goaldriven.identify.experiments import Plot
    from goaldriven.identify.experiments.spec import Measure

_SHOWS = {
    "levels": (
        "Filled marks: share of layers named right, mean over splits, with the 95% interval over "
        "networks; open diamonds: verdicts on whole networks; dashed: chance."
    ),
    "lines": (
        "Share of layers named right, mean over splits; bands: 95% interval over "
        "networks; dashed line: chance."
    ),
    "grid": (
        "Numbers: per cent of layers named right, mean over splits, where there is room with the "
        "95% interval over networks; from white (chance) to dark (100%)."
    ),
    "importances": (
        "Bars: mean ± s.e.m., over splits (and the trees or permutations in each, where there are "
        "any), which share networks: it is their spread, not the uncertainty of the ranking over "
        "networks."
    ),
}

_ROLES = {
    "levels": ("Rows", "colours", "panels"),
    "lines": ("Horizontal axis", "lines", "panels"),
    "grid": ("Cells", "by", "panels"),
    "importances": ("Rows", "", ""),
    "reliability": ("Horizontal axis", "colours", "panels"),
    "pairs": ("", "", "Panels"),
}

_ALT = {
    "levels": "Marks",
    "lines": "Lines",
    "grid": "Tables in colour",
    "importances": "Bars",
    "reliability": "Marks",
    "pairs": "Half tables in colour",
}

_OF = {"importances": "importance"} | dict.fromkeys(("levels", "lines", "grid"), "accuracy")


def caption(drawing: Drawing) -> str:
    """What is where in the figure, what it means, and its numbers in short."""
    plot = drawing.plot
    shows = _measured(drawing) if plot.measures else _SHOWS[plot.kind]
    return _joined(_roles(plot), shows, _held(drawing), span(drawing))


def alt(drawing: Drawing) -> str:
    """The same for a reader who cannot see the figure, without how it is drawn."""
    plot = drawing.plot
    of = listing([m.label for m in plot.measures]) if plot.measures else _OF[plot.kind]
    what = f"{_ALT[plot.kind]} of {of}"
    return _joined(f"{what}.", _roles(plot), _held(drawing), span(drawing))


def _joined(*texts: str) -> str:
    return " ".join(text for text in texts if text)


def _roles(plot: Plot) -> str:
    """Which column is where in the figure."""
    x = plot.x_label if plot.measures and plot.x_label else column_label(plot.x)
    columns = (x, column_label(plot.hue), plot.facet and column_label(plot.facet))
    parts = [
        f"{role}: {column}"
        for role, column in zip(_ROLES[plot.kind], columns, strict=True)
        if role and column
    ]
    return f"{'; '.join(parts).replace('; by: ', ' by ')}."


def _measured(drawing: Drawing) -> str:
    """How measures other than accuracies are drawn."""
    plot, table = drawing.plot, drawing.table
    if plot.kind == "pairs":
        return _of_pairs(drawing)
    measures = drawn_measures(table, plot)
    known = table.dropna(subset=["low", "high"])
    lacking = [m.label for m in measures if not (known["measure"] == m.column).any()]
    bands = "Bands: 95% interval" if plot.kind == "lines" else "Marks with their 95% interval"
    parts = [f"{bands} over networks"]
    if lacking:
        parts[0] += f" (none for {listing(lacking)})"
    if plot.kind == "reliability":
        parts = ["Marks: verdicts on whole networks by how sure they are, with the 95% interval "
                 "over networks; below: how many verdicts, on a logarithmic scale"]  # fmt: skip
    references = dict.fromkeys(
        m.reference_label + (f" ({m.label})" if len(measures) > 1 else "")
        for m in measures if m.reference_label
    )  # fmt: skip
    if references:
        parts.append(f"dashed: {', '.join(references)}")
    return f"{'; '.join(parts)}."


def _of_pairs(drawing: Drawing) -> str:
    plot = drawing.plot
    [measure] = plot.measures
    where = [
        f"{side} the diagonal {level_label(plot.hue, level)}"
        for side, level in zip(("below", "above"), halves(drawing.table, plot), strict=False)
    ]
    outlined = f"; outlined: {column_label(plot.mark)}" if plot.mark else ""
    return (
        f"Numbers: {measure.label} in per cent, {listing(where)}; from white "
        f"({measure.reference_label}) to dark (100%){outlined}."
    )


def _held(drawing: Drawing) -> str:
    parts = [
        f"{column_label(column)} {level_label(column, level)}"
        for column, level in drawing.held.items()
    ]
    if drawing.left_out:
        parts.append(f"{plural(drawing.left_out, 'panel')} fewer than there are")
    return f"Shown: {listing(parts)}; the rest is in the table." if parts else ""


def span(drawing: Drawing) -> str:
    """The lowest and the highest number that is drawn, where, and chance."""
    plot, table = drawing.plot, drawing.table
    if plot.kind == "importances":
        return _highest(drawing)
    if plot.measures:
        return _spans(drawing)
    rows = table[table["metric"] == "layer_accuracy"].dropna(subset=["mean"])
    if rows.empty:
        return ""
    chances = dict.fromkeys(f"{one:.2f}" for one in sorted(rows["chance"]))
    chance = " to ".join(chances) if len(chances) < 3 else f"{rows['chance'].mean():.2f}"
    if len(rows) < 2:
        return f"Chance {chance}."
    low, high = _ends(rows, plot)
    return f"Lowest {low}, highest {high}; chance {chance}."


def _ends(rows: pd.DataFrame, plot: Plot, digits: int = 3) -> tuple[str, str]:
    ends = rows.sort_values("mean", kind="stable").iloc[[0, -1]]
    low, high = (
        f"{row['mean']:.{digits}f} ({', '.join(level_label(c, row[c]) for c in columns_of(plot))})"
        for _, row in ends.iterrows()
    )
    return low, high


def _spans(drawing: Drawing) -> str:
    """Lowest and highest of each measure; of pairs also how many are marked."""
    plot, table = drawing.plot, drawing.table
    parts = []
    if plot.kind == "reliability":
        drawn = table.groupby([plot.hue, *([plot.facet] if plot.facet else [])])["count"].sum()
        return f"Each curve is of {drawn.min():.0f} verdicts." if drawn.nunique() == 1 else ""
    for measure in drawn_measures(table, plot):
        rows = table[table["measure"] == measure.column]
        parts.append(_span_of(rows, plot, measure))
    if plot.mark:
        marked = table[plot.mark].astype(bool)
        parts.append(f"{column_label(plot.mark)}: {marked.sum()} of {len(table)} cells")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _span_of(rows: pd.DataFrame, plot: Plot, measure: Measure) -> str:
    if np.ptp(rows["mean"]) < 1e-9:
        return f"{measure.label}: {rows['mean'].iloc[0]:.2f} everywhere"
    low, high = _ends(rows, plot, digits=2)
    return f"{measure.label}: lowest {low}, highest {high}"


def _highest(drawing: Drawing) -> str:
    """The highest of each kind of importance."""
    x, table = drawing.plot.x, drawing.table
    parts = []
    for levels, rows in table.groupby([c for c in ("importance", "metric") if c in table],
                                      sort=False, dropna=False):  # fmt: skip
        kind = next(str(level).replace("_", " ") for level in levels if isinstance(level, str))
        first = rows.sort_values("mean", kind="stable").iloc[-1]
        sem = "" if np.isnan(first["sem"]) else f" ± {first['sem']:.4f}"
        parts.append(f"{kind}, {level_label(x, first[x])} ({first['mean']:.4f}{sem})")
    return f"Highest: {'; '.join(parts)}."
