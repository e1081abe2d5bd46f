"""How well the rule is identified, what is confused with what, and which statistics matter."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, MultipleLocator

from goaldriven.report.names import (
    classifier_label,
    classifier_short,
    group_label,
    statistic_label,
)
from goaldriven.report.style import (
    GREY,
    WIDTH,
    group_colour,
    label_panel,
    new_figure,
    styled,
)

SPLIT_TITLES = {
    "network": "splits by network: no layer of a tested network was seen in training",
    "layer": "splits by layer, as published: other layers of a tested network were seen",
}


@styled
def accuracy(summary: pd.DataFrame) -> Figure:
    """Test accuracy by classifier and observables, a panel per kind of split.

    Bars are mean accuracies over splits with s.e.m.; a diamond is the accuracy of the verdict on
    a whole network, from all its layers; the dashed line is chance.

    Parameters
    ----------
    summary : from `Identification.summary`.
    """
    kinds = [k for k in SPLIT_TITLES if k in set(summary["split_kind"])]
    groups = list(dict.fromkeys(summary["observables"]))
    classifiers = list(dict.fromkeys(summary["classifier"]))
    figure = new_figure(WIDTH, 0.55 + 2.05 * len(kinds))
    panels = figure.subplots(len(kinds), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    width = 0.84 / len(groups)
    for axes, kind in zip(panels, kinds, strict=True):
        of_kind = summary[summary["split_kind"] == kind]
        for i, group in enumerate(groups):
            for j, classifier in enumerate(classifiers):
                row = of_kind[
                    (of_kind["observables"] == group) & (of_kind["classifier"] == classifier)
                ]
                _accuracy_bar(axes, j - 0.42 + (i + 0.5) * width, width, row, group)
        chance = of_kind[of_kind["unit"] == "layer"]["chance"].mean()
        axes.axhline(chance, color=GREY, lw=0.9, linestyle=(0, (4, 2)), zorder=3)
        axes.annotate(
            f"chance {chance:.2g}",
            (1, chance),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            color=GREY,
            fontsize=7,
        )
        axes.set_ylim(0, 1.08)
        axes.yaxis.set_major_locator(MultipleLocator(0.25))
        axes.set_ylabel("test accuracy")
        axes.set_xlim(-0.5, len(classifiers) - 0.5)
        axes.tick_params(axis="x", length=0)
        label_panel(axes, SPLIT_TITLES[kind])
    panels[-1].set_xticks(range(len(classifiers)), [classifier_label(c) for c in classifiers])
    _accuracy_legend(figure, groups, bool((summary["unit"] == "network").any()))
    return figure


def _accuracy_bar(axes: Axes, x: float, width: float, row: pd.DataFrame, group: str) -> None:
    colour = group_colour(group)
    for _, one in row[row["unit"] == "layer"].iterrows():
        error = 0.0 if np.isnan(one["sem"]) else one["sem"]
        axes.bar(
            x,
            one["mean"],
            0.9 * width,
            color=colour,
            yerr=error,
            error_kw={"elinewidth": 0.8, "capsize": 1.5, "capthick": 0.8, "ecolor": "black"},
        )
        axes.annotate(
            f"{100 * one['mean']:.0f}",
            (x, 0.02),
            ha="center",
            va="bottom",
            color=_text_on(colour),
            fontsize=6.5,
        )
    for _, one in row[row["unit"] == "network"].iterrows():
        axes.plot(
            x,
            one["mean"],
            "D",
            markersize=3.6,
            markerfacecolor="white",
            markeredgecolor="black",
            markeredgewidth=0.8,
            zorder=4,
            clip_on=False,
        )


def _text_on(colour: str) -> str:
    """Black or white, whichever is read better on ``colour`` (by its relative luminance)."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else "black"


def _accuracy_legend(figure: Figure, groups: list[str], verdicts: bool) -> None:
    handles: list[Patch | Line2D] = [
        Patch(color=group_colour(g), label=group_label(g)) for g in groups
    ]
    if verdicts:
        handles.append(
            Line2D(
                [],
                [],
                marker="D",
                linestyle="none",
                markersize=4,
                markerfacecolor="white",
                markeredgecolor="black",
                label="verdict on a whole network",
            )
        )
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=min(5, len(handles)),
        handlelength=1.1,
        columnspacing=1.4,
    )


@styled
def confusion(table: pd.DataFrame, rules: list[str] | None = None) -> Figure:
    """Confusion matrices: the share of each rule's layers that is called by each rule's name.

    Above: splits by network, one matrix per classifier; below, smaller: splits by layer. Many rules
    get larger matrices, in more rows. Rows of a matrix are the true rules and sum to 1; entries are
    percentages.

    Parameters
    ----------
    table : from `identified.confusion_table`.
    rules : the rules in their order; default the order of the table.
    """
    names = [r for r in rules or dict.fromkeys(table["true"]) if r in set(table["true"])]
    kinds = [k for k in SPLIT_TITLES if k in set(table["split_kind"])]
    classifiers = list(dict.fromkeys(table["classifier"]))
    left = _LETTER * max(map(len, names)) + 0.35
    across, side = _matrices_across(len(classifiers), len(names), WIDTH - left)
    rows = [
        (kind, classifiers[first : first + across], side * _share(kind, names, side), first == 0)
        for kind in kinds
        for first in range(0, len(classifiers), across)
    ]
    below = [(left - 0.35 if _crowded(names, s) else 0.12) + 0.32 for _, _, s, _ in rows]
    above = [0.5 if first else 0.25 for *_, first in rows]
    height = sum(s for _, _, s, _ in rows) + sum(below) + sum(above)
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)
    top = height
    for (kind, of_row, inches, first), over, under in zip(rows, above, below, strict=True):
        if first:
            figure.text(0.08 / WIDTH, (top - 0.16) / height, f"splits by {kind}", fontsize=8.5)
        bottom = top - over - inches
        for i, classifier in enumerate(of_row):
            box = (left + i * (side + _GAP), bottom, inches, inches)
            axes = figure.add_axes(
                (box[0] / WIDTH, box[1] / height, box[2] / WIDTH, box[3] / height)
            )
            chosen = table[(table["split_kind"] == kind) & (table["classifier"] == classifier)]
            _matrix(axes, chosen, names, inches)
            label_panel(axes, classifier_short(classifier))
            axes.set_xlabel("called")
            if i == 0:
                axes.set_ylabel("true rule")
            else:
                axes.set_yticklabels([])
        top = bottom - under
    return figure


_GAP = 0.14
"""Inches between two matrices."""

_CELL = 0.13
"""Inches that a cell of a matrix needs to be read."""


def _matrices_across(n_classifiers: int, n_rules: int, width: float) -> tuple[int, float]:
    """How many matrices stand beside one another, as many as can be read, and their inches."""

    def side(across: int) -> float:
        return min(2.2, (width - _GAP * across) / across)

    fitting = [k for k in range(1, n_classifiers + 1) if side(k) >= _CELL * n_rules]
    across = max(fitting, default=1)
    return across, side(across)


def _share(kind: str, names: list[str], side: float) -> float:
    """Matrices of the splits that are not the headline are smaller, where they can still be."""
    small = 0.75
    return small if kind != "network" and small * side >= _CELL * len(names) else 1.0


_LETTER = 0.075
"""Inches that one letter of a rule's name takes beside a matrix."""


def _crowded(names: list[str], inches: float) -> bool:
    """Whether the names do not fit side by side under a matrix of this width."""
    return (max(map(len, names)) + 1) * _LETTER > inches / len(names)


def _matrix(axes: Axes, chosen: pd.DataFrame, names: list[str], inches: float) -> None:
    """One matrix, ``inches`` wide, with numbers and names that fit."""
    wide = chosen.pivot(index="true", columns="predicted", values="fraction")
    matrix = wide.reindex(index=names, columns=names).to_numpy(dtype=float)
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    size = float(np.clip(26 * inches / len(names), 3.5, 7.5))
    for i, j in np.ndindex(*matrix.shape):
        if np.isfinite(matrix[i, j]):
            axes.annotate(
                f"{100 * matrix[i, j]:.0f}",
                (j, i),
                ha="center",
                va="center",
                fontsize=size,
                color="white" if matrix[i, j] > 0.55 else "black",
            )
    axes.set_xticks(range(len(names)), names, rotation=90 if _crowded(names, inches) else 0)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0, labelsize=7)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(True)


@styled
def importances(summary: pd.DataFrame) -> Figure:
    """What a forest goes by: Gini and permutation importance of every statistic.

    Bars are means with s.e.m. (over trees or repeats and splits, not over networks), sorted by Gini
    importance, coloured by measure; the layer's position in the hierarchy is a feature of its own.

    Parameters
    ----------
    summary : from `identified.importance_table`.
    """
    kinds = [k for k in ("gini", "permutation") if k in set(summary["kind"])]
    first = summary[summary["kind"] == kinds[0]].sort_values("mean", ascending=False)
    order = {name: i for i, name in enumerate(first["statistic"])}
    figure = new_figure(WIDTH, 0.85 + 0.158 * len(order))
    panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    labels = {
        "gini": "Gini importance\n(summed over the trajectory)",
        "permutation": "permutation importance\n(accuracy lost)",
    }
    for axes, kind in zip(panels, kinds, strict=True):
        rows = summary[summary["kind"] == kind]
        axes.barh(
            [order[s] for s in rows["statistic"]],
            rows["mean"],
            0.78,
            color=[group_colour(m) for m in rows["measure"]],
            xerr=rows["sem"].fillna(0.0),
            error_kw={"elinewidth": 0.8, "capsize": 1.3, "capthick": 0.8},
        )
        axes.axvline(0, color="black", lw=0.7)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(labels[kind])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(order)), [statistic_label(s) for s in order])
    panels[0].set_ylim(len(order) - 0.4, -0.6)
    measures = list(dict.fromkeys(first["measure"]))
    figure.legend(
        handles=[Patch(color=group_colour(m), label=group_label(m)) for m in measures],
        loc="outside upper center",
        ncols=len(measures),
        handlelength=1.1,
    )
    return figure
