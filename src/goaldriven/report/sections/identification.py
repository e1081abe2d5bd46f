"""How well the rule is identified, what is confused with what, and which statistics matter."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from goaldriven.report import figures, identified
from goaldriven.report.blocks import Block, Download, Paragraph, Plate, Section, Table
from goaldriven.report.identified import Results
from goaldriven.report.names import (
    classifier_label,
    group_label,
    listing,
    plural,
    statistic_label,
)
from goaldriven.report.sections.overview import as_percent
from goaldriven.report.study import StudyData

Row = Mapping[Hashable, Any]


def answer(data: StudyData, results: Results | None) -> str:
    """Which rule made this? Two sentences, or how to have them."""
    if results is None:
        return _how_to_identify(data)
    best = identified.best_classifier(results.accuracy, "network")
    chance = results.chance
    name = classifier_label(best["classifier"])
    first = (
        f"From the trajectories of all {results.n_statistics} admissible statistics of one layer, "
        f"the best of {plural(results.accuracy['classifier'].nunique(), 'classifier')} "
        f"({name}) names the learning rule that trained the layer with {_measured(best)} accuracy "
        "if no layer of the tested networks was seen in its training"
    )
    rules = f"chance among {plural(len(results.rules), 'rule')} is {as_percent(chance)}"
    if best["mean"] - 2 * np.nan_to_num(best["sem"]) <= chance:
        first += f", which is no better than chance; {rules}."
    else:
        first += f"; {rules}."
    return f"{first} {_second_sentence(results, best)}".strip()


def _second_sentence(results: Results, best: Row) -> str:
    """The other kind of split, by the same classifier, and the verdict on whole networks."""
    table = results.accuracy
    same = table[(table["classifier"] == best["classifier"]) & (table["observables"] == "all")]
    by_layer = same[(same["split_kind"] == "layer") & (same["unit"] == "layer")]
    verdict = same[(same["split_kind"] == "network") & (same["unit"] == "network")]
    parts = []
    if len(by_layer):
        row = by_layer.to_dict("records")[0]
        gap = 100 * (row["mean"] - best["mean"])
        compared = f"{abs(gap):.1f} points {'more' if gap > 0 else 'less'}"
        parts.append(
            f"With the published splits over layers, which let it see other layers of the same "
            f"networks, it reaches {_measured(row)}, {compared}"
        )
    if len(verdict):
        lead = "its" if parts else "Its"
        parts.append(
            f"{lead} verdicts on whole networks that it never saw are right in "
            f"{_measured(verdict.to_dict('records')[0])} of cases"
        )
    return "; ".join(parts) + "." if parts else ""


def _measured(row: Row) -> str:
    """``93.1 ± 0.4%``: mean and s.e.m. over splits."""
    if np.isnan(row["sem"]):
        return as_percent(row["mean"])
    return f"{100 * row['mean']:.1f} ± {100 * row['sem']:.1f}%"


def _how_to_identify(data: StudyData) -> str:
    if len(data.rules) < 2:
        return (
            "The study has a single learning rule, so there is nothing to identify: a study of two "
            "or more rules answers which of them trained a network."
        )
    return Markup(
        "The learning rules have not been identified yet: <code>goaldriven identify {}</code> "
        "trains and tests the classifiers, and <code>goaldriven report {}</code> then writes this "
        "page with their answer."
    ).format(str(data.folder), str(data.folder))


def identification(data: StudyData, results: Results | None) -> tuple[Section, Section, Section]:
    """The sections on accuracy, confusions and importances."""
    heads = (
        ("accuracy", "Identifying the rule"),
        ("confusions", "Which rules are confused"),
        ("importances", "Which statistics matter"),
    )
    if results is None:
        how = (Paragraph(_how_to_identify(data), "notice"),)
        later = (Paragraph("This needs the identification, see above."),)
        return Section(*heads[0], how), Section(*heads[1], later), Section(*heads[2], later)
    return (
        Section(*heads[0], _accuracy(data, results)),
        Section(*heads[1], (_confusion(data, results),)),
        Section(*heads[2], (_importances(results),)),
    )


def _accuracy(data: StudyData, results: Results) -> tuple[Block, ...]:
    blocks: list[Block] = []
    trained = len(data.trained)
    if results.n_networks is not None and results.n_networks != trained:
        blocks.append(
            Paragraph(
                f"These results are of {plural(results.n_networks, 'network')}; the study now has "
                f"{plural(trained, 'trained network')}. Run the identification again to include "
                "all of them.",
                "notice",
            )
        )
    table = results.accuracy
    text = f"{_best_of_each_kind(table)} {_by_observables(table)}"
    splits = int(table["splits"].max())
    caption = (
        f"Test accuracy on single layers, mean ± s.e.m. over {plural(splits, 'split')} (numbers "
        "in the bars: per cent); diamonds: verdicts on whole networks; dashed line: chance. "
        f"{text}"
    )
    plate = Plate(
        "identification-accuracy",
        "Accuracy by classifier and observables, under both kinds of split",
        caption,
        f"Bar charts of test accuracy by classifier and observables. {text}",
        figures.accuracy(table, results.chance),
        (Download("accuracy.csv", table),),
    )
    return (*blocks, plate, _accuracy_table(table))


def _best_of_each_kind(table: pd.DataFrame) -> str:
    parts = []
    for kind in ("network", "layer"):
        if (table["split_kind"] == kind).any():
            row = identified.best_classifier(table, kind)
            parts.append(
                f"splits by {kind}, {classifier_label(row['classifier'])} at {_measured(row)}"
            )
    return f"Best with all observables: {'; '.join(parts)}."


def _by_observables(table: pd.DataFrame) -> str:
    """The best accuracy that each single measure allows, splits by network."""
    groups = [g for g in dict.fromkeys(table["observables"]) if g != "all"]
    rows = [(g, identified.best_classifier(table, "network", g)) for g in groups]
    ranked = sorted(rows, key=lambda pair: -pair[1]["mean"])
    if not ranked:
        return ""
    each = [f"{group_label(g)} {as_percent(row['mean'])}" for g, row in ranked]
    return f"Best with one measure alone, splits by network: {listing(each)}."


def _accuracy_table(table: pd.DataFrame) -> Table:
    rows = []
    keys = ("classifier", "observables", "split_kind", "unit")
    cells = {tuple(row[k] for k in keys): row for row in table.to_dict("records")}
    for classifier, observables in _pairs(table):
        by = {
            (kind, unit): cells[classifier, observables, kind, unit]
            for kind, unit in (("network", "layer"), ("layer", "layer"), ("network", "network"))
            if (classifier, observables, kind, unit) in cells
        }
        network, layer = by.get(("network", "layer")), by.get(("layer", "layer"))
        gap = "–"
        if network is not None and layer is not None:
            gap = f"{100 * (layer['mean'] - network['mean']):+.1f}"
        verdict = by.get(("network", "network"))
        texts = ["–" if row is None else _measured(row) for row in (network, layer, verdict)]
        rows.append(
            (classifier_label(classifier), group_label(observables), *texts[:2], gap, texts[2])
        )
    return Table(
        "The same accuracies side by side, mean ± s.e.m. Difference: what splits by layer add, in "
        "percentage points. Verdict: on whole networks, splits by network.",
        (
            "classifier",
            "observables",
            "splits by network",
            "splits by layer",
            "difference",
            "verdict",
        ),
        tuple(rows),
        text_columns=2,
    )


def _pairs(table: pd.DataFrame) -> list[tuple[str, str]]:
    pairs = table[["classifier", "observables"]].drop_duplicates()
    return list(pairs.itertuples(index=False, name=None))


def _confusion(data: StudyData, results: Results) -> Plate:
    table = results.confusion
    text = _most_confused(table, results)
    return Plate(
        "confusion-matrices",
        "Confusion matrices, all observables",
        "Rows: the rule that trained a layer; columns: the rule it is called by; numbers: per "
        f"cent of the row's test examples, all splits together. {text}",
        f"Confusion matrices of each classifier under both kinds of split. {text}",
        figures.confusion(table, data.rules),
        (Download("confusion.csv", table),),
    )


def _most_confused(table: pd.DataFrame, results: Results) -> str:
    """The pair of rules that the best classifier confuses most, and the one it confuses least."""
    best = identified.best_classifier(results.accuracy, "network")["classifier"]
    chosen = table[(table["split_kind"] == "network") & (table["classifier"] == best)]
    off = chosen[chosen["true"] != chosen["predicted"]]
    if off.empty:
        return ""
    pairs = off.assign(pair=[frozenset(p) for p in zip(off["true"], off["predicted"], strict=True)])
    means = pairs.groupby("pair")["fraction"].mean().sort_values()
    most, least = sorted(means.index[-1]), sorted(means.index[0])
    text = (
        f"With splits by network the {classifier_label(best)} confuses {listing(most)} most: "
        f"{as_percent(means.iloc[-1])} of the layers of either are called by the other's name, on "
        "average"
    )
    if len(means) > 1:
        text += f"; {listing(least)} least, {as_percent(means.iloc[0])}"
    return text + "."


def _importances(results: Results) -> Plate | Paragraph:
    table = results.importances
    if table.empty:
        return Paragraph("No importances were computed: they need a random forest.")
    text = f"{_top(table, 'gini')} {_top(table, 'permutation')} {_position_rank(table)}".strip()
    caption = (
        "Gini importances are summed over a trajectory's records and over all features sum to 1; "
        "permutation importance is the test accuracy lost when a statistic's whole trajectory is "
        f"exchanged between examples. Mean ± s.e.m., splits by network. {text}"
    )
    return Plate(
        "statistic-importances",
        "Importance of each statistic for the random forest, all observables",
        caption,
        f"Bar charts of Gini and permutation importance by statistic. {text}",
        figures.importances(table),
        (Download("importances.csv", table),),
    )


def _top(table: pd.DataFrame, kind: str) -> str:
    rows = table[(table["kind"] == kind) & (table["measure"] != "layer_position")]
    if rows.empty:
        return ""
    each = [
        f"{statistic_label(name)} ({mean:.3f})"
        for name, mean in zip(rows["statistic"].head(3), rows["mean"].head(3), strict=True)
    ]
    return f"Most important by {kind}: {listing(each)}."


def _position_rank(table: pd.DataFrame) -> str:
    """Where the layer's position stands, and what each measure's statistics add up to."""
    gini = table[table["kind"] == "gini"]
    if gini.empty:
        return ""
    shares = gini.groupby("measure", sort=False)["mean"].sum().sort_values(ascending=False)
    each = [f"{group_label(str(m))} {100 * s / shares.sum():.0f}%" for m, s in shares.items()]
    return f"Shares of the Gini importance: {listing(each)}."
