"""How backward weights relate to forward weights, and updates to the slope (thesis 5.10)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from goaldriven.report import figures, tables
from goaldriven.report.blocks import Block, Download, Paragraph, Plate, Section
from goaldriven.report.names import listing, plural
from goaldriven.report.study import StudyData
from goaldriven.report.style import MOST_BANDS


def alignment(data: StudyData) -> tuple[Section, ...]:
    """How backward weights relate to forward weights, and what that does to the learning.

    No section for a collection in which that was not recorded.
    """
    title = "Alignment of backward and forward weights"
    if data.study is None and not is_recorded(data):
        return ()
    table, pairs = tables.alignment(data.networks), tables.weight_pairs(data.networks)
    blocks: list[Block] = []
    without = [n for n in data.trained if not tables.has_alignment(n)]
    if without:
        text = f"Without alignment, and so not shown here: {plural(len(without), 'network')}."
        blocks.append(Paragraph(text))
    if not set(table["quantity"]) - {tables.OF_EVERY_RULE}:
        others = "these networks" if without else "the trained networks"
        text = (
            f"No rule of {others} has backward weights of its own; under "
            "backpropagation the angles are zero by definition."
        )
        blocks.append(Paragraph(text))
    if not table.empty:
        blocks.append(_angles(data, table))
    if not pairs.empty:
        blocks.append(_scatter(data, pairs))
    return (Section("alignment", title, tuple(blocks)),)


def is_recorded(data: StudyData) -> bool:
    """Whether any network's weights or updates were compared."""
    return any(map(tables.has_alignment, data.networks))


_ROWS = {
    "weight_angle": "angle between forward weights W and transposed backward weights Bᵀ",
    "weight_norm_ratio": "ratio of their norms, ‖B‖/‖W‖",
    "gradient_angle": (
        "angle between the pseudogradient, which travels through B, and the true gradient of the "
        "validation loss (the last layer's pseudogradient is the gradient itself)"
    ),
    "update_angle": (
        "angle between the change of W since the record before and steepest descent of the "
        "validation loss there, under every rule: below 90° the change leads down that slope; the "
        "more steps lie between two records, the further it may stray"
    ),
}


def _angles(data: StudyData, table: pd.DataFrame) -> Plate:
    text = _last_angles(table)
    shown = [_ROWS[q] for q in tables.ALIGNMENT if q in set(table["quantity"])]
    rules = _rules(table)
    bands = ", shaded between the quartiles" if len(rules) <= MOST_BANDS else ""
    caption = (
        f"Rows, from above: {'; '.join(shown)}. Medians over layers{bands}; dashed lines at 90° "
        f"(unrelated), 0° (aligned) and equal norms. {text}"
    )
    return Plate(
        "alignment-angles",
        "Alignment through learning, by rule and layer position",
        caption,
        f"Grid of line panels, alignment against epoch, for {listing(rules)}. {text}",
        figures.alignment(table, data.rules),
        (Download("alignment.csv", table),),
    )


def _scatter(data: StudyData, pairs: pd.DataFrame) -> Plate:
    text = _last_pairs(pairs)
    most = int(pairs.groupby(["rule", "layer", "epoch"]).size().max())
    caption = (
        f"Each point is a connection (at most {most}, evenly spaced through the kernel), light to "
        "dark from the first record to the last; one network of each rule, an early, a middle and "
        "a deep layer. On the dashed line B = W; a cloud along another line through 0 is aligned "
        "up to the size of the weights, a round cloud is not aligned. In the corner the angle and "
        "the norm ratio ‖B‖/‖W‖ of the whole layer at the last record. Axes of one panel differ in "
        f"scale where W and B differ by more than a factor of three. {text}"
    )
    return Plate(
        "weight-scatter",
        "Backward against forward weights, connection by connection",
        caption,
        f"Grid of scatter plots, backward against forward weights, a column per rule. {text}",
        figures.weight_scatter(pairs, data.rules),
        (Download("weight_pairs.csv", _wide(pairs)),),
    )


def _wide(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per connection, columns for every epoch: a third of the long form's size."""
    keys = ["rule", "network_id", "layer", "position", "pair"]
    wide = pairs.pivot(index=keys, columns="epoch", values=["forward_weight", "backward_weight"])
    wide.columns = pd.Index([f"{c[0]}_epoch_{c[1]}" for c in wide.columns])
    return wide.reset_index()


def _last_pairs(pairs: pd.DataFrame) -> str:
    """The rules whose deep layer's norms have drifted furthest apart, and stayed closest."""
    last = pairs[pairs["epoch"] == pairs["epoch"].max()]
    layers = last.drop_duplicates(["rule", "layer"])
    spread = np.log10(layers["weight_norm_ratio"]).abs()
    if len(layers) < 2 or not np.isfinite(spread).all():
        return ""
    far, near = layers.loc[spread.idxmax()], layers.loc[spread.idxmin()]
    return (
        f"Furthest from equal norms: {far['rule']} in {far['layer']} "
        f"(‖B‖/‖W‖ = {far['weight_norm_ratio']:.2g}); closest: {near['rule']} in {near['layer']} "
        f"({near['weight_norm_ratio']:.2g})."
    )


def _rules(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(table["rule"]))


_QUANTITIES = {
    "weight_angle": "weights",
    "gradient_angle": "pseudogradient and gradient",
    "update_angle": "update and steepest descent",
}

_ALL_NAMED = 4
"""Up to so many rules every angle is in the caption; of more, the least and the most."""


def _last_angles(table: pd.DataFrame) -> str:
    """The final median angles, by rule and position."""
    last = table[table["epoch"] == table["epoch"].max()]
    sentences = []
    for quantity, name in _QUANTITIES.items():
        rows = last[last["quantity"] == quantity]
        if rows.empty:
            continue
        if rows["rule"].nunique() <= _ALL_NAMED:
            each = [f"{rule} {_by_position(r)}" for rule, r in rows.groupby("rule", sort=False)]
            sentences.append(f"Final median angle of {name}: {'; '.join(each)}.")
        else:
            ranked = rows.sort_values("median", kind="stable")
            least, most = ranked.iloc[0], ranked.iloc[-1]
            sentences.append(
                f"Final median angle of {name}: from {least['median']:.0f}° ({least['rule']}, "
                f"{least['position']} layers) to {most['median']:.0f}° ({most['rule']}, "
                f"{most['position']} layers)."
            )
    return " ".join(sentences)


def _by_position(rows: pd.DataFrame) -> str:
    return listing([f"{r.median:.0f}° in {r.position}" for r in rows.itertuples()]) + " layers"
