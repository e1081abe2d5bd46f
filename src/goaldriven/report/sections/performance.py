"""How well the networks of each rule perform."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from goaldriven.report import figures, tables
from goaldriven.report.blocks import Block, Download, Paragraph, Plate, Section, Table
from goaldriven.report.names import listing, number, plural
from goaldriven.report.study import StudyData
from goaldriven.report.style import MOST_BANDS

NEAR_CHANCE = 0.05
"""A network counts as at chance if its final metric is less than this above chance."""


def performance(data: StudyData) -> tuple[Section, ...]:
    """Final performance and learning curves, with their medians as a table.

    No section where networks are finished but no performance was recorded.
    """
    networks = data.with_performance
    if not data.networks:
        return (_section(Paragraph("No network is finished yet.", "notice")),)
    if not networks:
        return ()
    final = tables.final_performance(networks)
    medians = tables.median_performance(final)
    blocks: list[Block] = []
    if without := len(data.networks) - len(networks):
        blocks.append(
            Paragraph(f"Without performance, and so not shown here: {plural(without, 'network')}.")
        )
    blocks += [_final_plate(data, final, medians), _median_table(final, medians)]
    if trained := tables.trained_only(networks):
        blocks.append(_curves_plate(data, trained))
    return (_section(*blocks),)


def _section(*blocks: Block) -> Section:
    return Section("performance", "Task performance", blocks)


def _final_plate(data: StudyData, final: pd.DataFrame, medians: pd.DataFrame) -> Plate:
    diverged = int((final["outcome"] == "diverged").sum())
    crosses = (
        f" Crosses on the axis, with numbers, stand for diverged networks ({diverged} in all)."
        * bool(diverged)
    )
    caption = (
        "Each point is a network; boxes reach from quartile to quartile, with a line at the "
        f"median; the vertical scale is logarithmic in the odds.{crosses} {_ranking(medians)}"
    )
    alt = (
        f"Points and boxes of the final validation metric of {plural(len(final), 'network')}, by "
        f"architecture and learning rule. {_ranking(medians)}"
    )
    return Plate(
        "final-performance",
        "Performance at the end of training, by task, architecture and rule",
        caption,
        alt,
        figures.task_performance(final, data.rules),
        (Download("final_performance.csv", final),),
    )


def _ranking(medians: pd.DataFrame) -> str:
    """One sentence per task: the medians of the rules, best first, and chance."""
    sentences = []
    for task, group in medians.groupby("task", sort=False):
        ranked = group.dropna(subset=["median"]).sort_values("median", ascending=False)
        if ranked.empty:
            sentences.append(f"On {task} every network diverged.")
            continue
        each = [f"{r.rule} {r.median:.3f}" for r in ranked.itertuples()]
        metric, chance = ranked["metric_name"].iloc[0], ranked["chance"].iloc[0]
        known = f" (chance {chance:.2g})" if np.isfinite(chance) else ""
        sentences.append(f"Median {metric} on {task}: {listing(each)}{known}.")
    return " ".join(sentences)


def _median_table(final: pd.DataFrame, medians: pd.DataFrame) -> Table:
    rows = []
    for row in medians.to_dict("records"):
        chosen = final[(final["task"] == row["task"]) & (final["rule"] == row["rule"])]
        near = int((chosen["final_metric"] < row["chance"] + NEAR_CHANCE).sum())
        rows.append(
            (
                str(row["task"]),
                str(row["rule"]),
                number(row["median"]),
                f"{number(row['lower_quartile'])} … {number(row['upper_quartile'])}",
                number(row["chance"], 2),
                str(row["networks"]),
                str(near),
                str(row["diverged"]),
            )
        )
    caption = (
        "Final performance over architectures, batch sizes and seeds. At chance: less than "
        f"{NEAR_CHANCE} above it."
    )
    header = ("task", "rule", "median", "quartiles", "chance", "networks", "at chance", "diverged")
    download = Download("median_performance.csv", medians)
    return Table(caption, header, tuple(rows), (download,), text_columns=2)


def _curves_plate(data: StudyData, networks: list[xr.Dataset]) -> Plate:
    curves = tables.learning_curves(networks)
    text = _speed(curves)
    bands = ", shaded between the quartiles" if curves["rule"].nunique() <= MOST_BANDS else ""
    return Plate(
        "learning-curves",
        "Learning curves",
        f"Validation metric through learning: median over trained networks{bands}; epoch 0 is the "
        f"untrained network. {text}",
        f"Line plot of the validation metric against the epoch, one line per rule. {text}",
        figures.learning_curves(curves, data.rules),
        (Download("learning_curves.csv", curves),),
    )


def _speed(curves: pd.DataFrame) -> str:
    """From when on each rule's median has 90% of its way from the first to the last record."""
    sentences = []
    for task, group in curves.groupby("task", sort=False):
        each = []
        for rule, line in group.groupby("rule", sort=False):
            epochs, median = line["epoch"].to_numpy(), line["median"].to_numpy()
            if median[-1] > median[0]:
                short = (median - median[0]) / (median[-1] - median[0]) < 0.9 - 1e-9
                each.append(f"{rule} from epoch {epochs[np.flatnonzero(short)[-1] + 1]}")
        if each:
            sentences.append(
                f"On {task} the median has come, and stays, nine tenths of its way from the first "
                f"record to the last: {listing(each)}."
            )
    return " ".join(sentences)
