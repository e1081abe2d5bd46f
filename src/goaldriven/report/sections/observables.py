"""Example trajectories (the paper's Figure 1)."""

from __future__ import annotations

import pandas as pd

from goaldriven.report import figures, tables
from goaldriven.report.blocks import Download, Paragraph, Plate, Section
from goaldriven.report.names import plural, statistic_label
from goaldriven.report.study import StudyData

SHOWN = (
    "weight_raw_norm",
    "weight_abs_median",
    "weight_raw_var",
    "activation_raw_norm",
    "activation_abs_mean",
    "activation_raw_median",
    "activity_change_raw",
    "activity_change_abs",
    "activity_change_sq",
)
"""One row of panels per measure."""

LINES_PER_RULE = 60
"""At most so many single layers are drawn for each rule, evenly picked: more would be a blot."""


def trajectories(data: StudyData) -> Section:
    """A few observables through learning, one colour per rule."""
    title = "Trajectories of the observables"
    if not data.trained:
        text = "No network is trained yet, so there are no trajectories to show."
        return Section("trajectories", title, (Paragraph(text, "notice"),))
    whole = tables.trajectories(data.networks, _shown(data))
    medians = tables.median_trajectories(whole)
    drawn = tables.sample_layers(whole, LINES_PER_RULE)
    text = _separation(whole)
    counts = whole[["rule", "network_id", "layer"]].drop_duplicates()
    picked = drawn[["rule", "network_id", "layer"]].drop_duplicates()
    thin = f"all {len(counts)}"
    if len(picked) < len(counts):
        thin = f"{len(picked)} of {len(counts)}, evenly picked"
    caption = (
        f"Thin lines: single layers ({thin}); thick lines: medians over all layers of a rule's "
        "networks. Rows: weights, activations, layer-wise activity change. Panels that span more "
        f"than a factor of 20 have logarithmic axes. {text}"
    )
    plate = Plate(
        "example-trajectories",
        "Example trajectories of observables, by learning rule",
        caption,
        f"Grid of {plural(medians['statistic'].nunique(), 'line panel')}, observable against "
        f"epoch, one colour per rule. {text}",
        figures.trajectories(medians, drawn, data.rules),
        (
            Download("median_trajectories.csv", medians),
            Download("single_layers.csv", _wide(drawn)),
        ),
    )
    return Section("trajectories", title, (plate,))


def _shown(data: StudyData) -> list[str]:
    """Of the statistics that every network has, the usual ones, or else the first few."""
    known = [
        name
        for name in data.trained[0]["statistic"].values.tolist()
        if all(name in n["statistic"].values for n in data.trained)
    ]
    return [name for name in SHOWN if name in known] or known[: len(SHOWN)]


def _wide(single: pd.DataFrame) -> pd.DataFrame:
    """One row per layer and statistic, one column per epoch: a third of the long form's size."""
    keys = ["statistic", "rule", "network_id", "layer", "position"]
    wide = single.pivot(index=keys, columns="epoch", values="value").reset_index()
    wide.columns = [c if isinstance(c, str) else f"epoch_{c}" for c in wide.columns]
    return wide


def _separation(whole: pd.DataFrame) -> str:
    shares = tables.rule_separation(whole)
    if len(shares) < 2 or whole["rule"].nunique() < 2:
        return ""
    most, least = shares.iloc[0], shares.iloc[-1]
    return (
        "By the last record the rule accounts for "
        f"{100 * most['share']:.0f}% of the variance of ranks of the "
        f"{statistic_label(most['statistic'])}, the most of these, and for "
        f"{100 * least['share']:.0f}% of that of the {statistic_label(least['statistic'])}, "
        "the least."
    )
