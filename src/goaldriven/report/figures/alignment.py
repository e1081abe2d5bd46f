"""How backward weights relate to forward weights through learning."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    MultipleLocator,
    NullFormatter,
)

from goaldriven.report.style import (
    GREY,
    MOST_BANDS,
    WIDTH,
    label_panel,
    new_figure,
    rule_legend,
    rule_styles,
    styled,
)
from goaldriven.report.tables import ALIGNMENT, POSITIONS

_EDGES = ["lower_quartile", "upper_quartile"]

_LABELS = {
    "weight_angle": "angle of W and Bᵀ (°)",
    "weight_norm_ratio": "norm ratio ‖B‖ / ‖W‖",
    "gradient_angle": "angle of pseudo-\nand true gradient (°)",
    "update_angle": "angle of update and\nsteepest descent (°)",
}


@styled
def alignment(table: pd.DataFrame, rules: list[str] | None = None) -> Figure:
    """Alignment through learning: medians over layers, shaded between the quartiles.

    Rows: angle between forward weights and transposed backward weights, ratio of their norms,
    angle between pseudogradient and true gradient, angle between the change of the forward weights
    since the record before and steepest descent there. Columns: the position of the layer.
    Reference lines lie at 90° (unrelated) and 0° (aligned), and at a norm ratio of 1. More than six
    rules are drawn without the shading.

    Parameters
    ----------
    table : from `tables.alignment`.
    rules : all of the report's rules in the order of their colours; default those of the table.
    """
    styles = rule_styles(rules or table["rule"])
    shown = {rule: s for rule, s in styles.items() if rule in set(table["rule"])}
    positions = [p for p in POSITIONS if p in set(table["position"])]
    quantities = [q for q in ALIGNMENT if q in set(table["quantity"])]
    figure = new_figure(WIDTH, 0.6 + 1.75 * len(quantities))
    panels = figure.subplots(
        len(quantities), len(positions), squeeze=False, sharex=True, sharey="row"
    )
    for row, quantity in zip(panels, quantities, strict=True):
        for axes, position in zip(row, positions, strict=True):
            chosen = table[(table["quantity"] == quantity) & (table["position"] == position)]
            for rule, style in shown.items():
                line = chosen[chosen["rule"] == rule]
                if len(shown) <= MOST_BANDS:
                    band = (line[edge] for edge in _EDGES)
                    axes.fill_between(line["epoch"], *band, color=style.colour, alpha=0.2, lw=0)
                axes.plot(
                    line["epoch"],
                    line["median"],
                    color=style.colour,
                    linestyle=style.dashes,
                    lw=1.6,
                )
            _reference_lines(axes, quantity)
        columns = _EDGES if len(shown) <= MOST_BANDS else ["median"]
        _value_axis(row[0], quantity, table[table["quantity"] == quantity][columns])
        row[0].set_ylabel(_LABELS[quantity])
    for axes, position in zip(panels[0], positions, strict=True):
        label_panel(axes, f"{position} layers")
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
        axes.set_xlim(table["epoch"].min(), max(table["epoch"].max(), 1))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    rule_legend(figure, shown)
    return figure


def _reference_lines(axes: Axes, quantity: str) -> None:
    levels = (1,) if quantity == "weight_norm_ratio" else (0, 90)
    for level in levels:
        axes.axhline(level, color=GREY, lw=0.8, linestyle=(0, (4, 2)), zorder=1)


def _value_axis(axes: Axes, quantity: str, drawn: pd.DataFrame) -> None:
    """Limits from all panels of the row, which share them."""
    low, high = float(drawn.to_numpy().min()), float(drawn.to_numpy().max())
    if quantity == "update_angle" and low > 30:  # the way to 0° would take most of the room
        axes.set_ylim(min(low - 4, 75), max(high + 4, 97))
        axes.yaxis.set_major_locator(MultipleLocator(15))
    elif quantity != "weight_norm_ratio":
        axes.set_ylim(min(low - 4, -4), max(high + 4, 97))
        axes.yaxis.set_major_locator(FixedLocator([0, 30, 60, 90, 120, 150, 180]))
    elif low > 0 and high / low > 20:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(min(low, 1) / 1.3, max(high, 1) * 1.3)
    else:
        axes.set_ylim(0, 1.06 * max(high, 1))
