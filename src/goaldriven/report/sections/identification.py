"""How well the rule is identified, what is confused with what, and which statistics matter."""

from __future__ import annotations

import pandas as pd

from goaldriven.report import figures
from goaldriven.report.blocks import Block, Download, Paragraph, Plate, Section, Table
from goaldriven.report.identified import Results
from goaldriven.report.names import (
    as_percent,
    classifier_label,
    group_label,
    listing,
    plural,
    statistic_label,
)
from goaldriven.report.sections.answer import how_to_identify, measured
from goaldriven.report.sections.experiments import hint
from goaldriven.report.sections.outdated import Basis, outdated
from goaldriven.report.study import StudyData


def identification(data: StudyData, results: Results | None) -> tuple[Section, Section, Section]:
    """The sections on accuracy, confusions and importances."""
    heads = (
        ("accuracy", "Identifying the rule"),
        ("confusions", "Which rules are confused"),
        ("importances", "Which statistics matter"),
    )
    if results is None:
        how = (Paragraph(how_to_identify(data), "notice"), *hint(data))
        later = (Paragraph("This needs the identification, see above."),)
        return Section(*heads[0], how), Section(*heads[1], later), Section(*heads[2], later)
    return (
        Section(*heads[0], _accuracy(data, results)),
        Section(*heads[1], (_confusion(data, results),)),
        Section(*heads[2], (_importances(results),)),
    )


def _accuracy(data: StudyData, results: Results) -> tuple[Block, ...]:
    table = results.accuracy
    text = f"{_best_of_each_kind(results)} {_by_observables(results)}".strip()
    splits = int(table["splits"].max())
    caption = (
        f"Test accuracy on single layers, mean ± s.e.m. over {plural(splits, 'split')}, allowing "
        "for the training networks that these share (numbers in the bars: per cent); diamonds: "
        "verdicts on whole networks; dashed line: chance, the better of naming rules as often as "
        "the training part has them and of always naming its commonest. Splits by network speak of "
        "new networks from the same starts, architectures and tasks as these. "
        f"{text}"
    )
    plate = Plate(
        "identification-accuracy",
        "Accuracy by classifier and observables, by kind of split",
        caption,
        f"Bar charts of test accuracy by classifier and observables. {text}",
        figures.accuracy(table),
        (Download("accuracy.csv", table),),
    )
    stale = outdated(data, _basis(results), "run the identification again")
    notices = (Paragraph(stale, "notice"),) if stale else ()
    return (*notices, plate, _accuracy_table(table), *_open_verdicts(results), *hint(data))


def _basis(results: Results) -> Basis:
    return Basis(results.network_ids, results.settings.get("versions", {}).get("goaldriven"))


def _open_verdicts(results: Results) -> tuple[Table, ...]:
    """What is said of whole networks where "none of these" may be said, with its uncertainty."""
    table = results.open_verdicts
    if table.empty:
        return ()
    rows = [
        (
            classifier_label(row["classifier"]),
            *(
                f"{as_percent(row[n])} ({as_percent(row[f'{n}_low'])}–"
                f"{as_percent(row[f'{n}_high'])})"
                for n in ("right", "none", "covered")
            ),
            f"{row['set_size']:.2f}",
            f"{row['probability']:.3f}",
        )
        for row in table.to_dict("records")
    ]
    first = table.iloc[0]
    return (
        Table(
            f"Verdicts on {plural(int(first['networks']), 'network')} not trained on, which may be "
            f"“none of these” ({group_label(results.observables)}, one split by network; 95% "
            "interval over networks): of these networks, all of known rules, at most "
            f"{as_percent(first['alpha'])} should be called so, and at least "
            f"{as_percent(1 - first['alpha'])} of the conformal sets hold the true rule. "
            "Probability: of the likeliest rule, calibrated on training networks.",
            ("classifier", "right", "none of these", "true rule in the set", "rules in the set",
             "mean probability"),
            tuple(rows),
            (Download("open_verdicts.csv", table),),
        ),
    )  # fmt: skip


def _best_of_each_kind(results: Results) -> str:
    parts = []
    for kind in dict.fromkeys(results.accuracy["split_kind"]):
        row = results.best(kind)
        parts.append(f"splits by {kind}, {classifier_label(row['classifier'])} at {measured(row)}")
    return f"Best with {group_label(results.observables)}: {'; '.join(parts)}."


def _by_observables(results: Results) -> str:
    """The best accuracy that each other group of observables allows, in the headline's splits."""
    groups = [g for g in dict.fromkeys(results.accuracy["observables"]) if g != results.observables]
    if not groups:
        return ""
    rows = [(g, results.best(observables=g)) for g in groups]
    each = [
        f"{group_label(g)} {as_percent(row['mean'])}"
        for g, row in sorted(rows, key=lambda pair: -pair[1]["mean"])
    ]
    return f"Best with one measure alone, splits by {results.split_kind}: {listing(each)}."


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
        texts = ["–" if row is None else measured(row) for row in (network, layer, verdict)]
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
        f"Confusion matrices, {group_label(results.observables)}",
        "Rows: the rule that trained a layer; columns: the rule it is called by; numbers: per "
        f"cent of the row's test examples, all splits together. {text}",
        f"Confusion matrices of each classifier under both kinds of split. {text}",
        figures.confusion(table, data.rules),
        (Download("confusion.csv", table),),
    )


def _most_confused(table: pd.DataFrame, results: Results) -> str:
    """The pair of rules that the best classifier confuses most, and the one it confuses least."""
    best = results.best()["classifier"]
    chosen = table[(table["split_kind"] == results.split_kind) & (table["classifier"] == best)]
    off = chosen[chosen["true"] != chosen["predicted"]]
    if off.empty:
        return ""
    pairs = off.assign(
        pair=[tuple(sorted(p)) for p in zip(off["true"], off["predicted"], strict=True)]
    )
    means = pairs.groupby("pair")["fraction"].mean().sort_values()
    text = (
        f"With splits by {results.split_kind} the {classifier_label(best)} confuses "
        f"{listing(list(means.index[-1]))} most: {as_percent(means.iloc[-1])} of the layers of "
        "either are called by the other's name, on average"
    )
    if len(means) > 1:
        text += f"; {listing(list(means.index[0]))} least, {as_percent(means.iloc[0])}"
    return text + "."


def _importances(results: Results) -> Plate | Paragraph:
    table = results.importances
    if table.empty:
        return Paragraph("No importances were computed: they need a forest among the classifiers.")
    text = f"{_top(table, 'gini')} {_top(table, 'permutation')} {_shares(table)}".strip()
    forest = classifier_label(table["classifier"].iloc[0])
    caption = (
        "Gini importances are summed over a statistic's trajectory and sum to 1 over all features; "
        "permutation importance is the test accuracy lost when a statistic's whole trajectory is "
        "exchanged between layers, and is small for statistics that others can stand in for. "
        f"Mean ± s.e.m. over trees or repeats and splits by {results.split_kind}, which share "
        "networks: it is their spread, not the uncertainty of the ranking over networks. "
        f"{text}"
    )
    return Plate(
        "statistic-importances",
        f"Importance of each statistic for the {forest}, {group_label(results.observables)}",
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


def _shares(table: pd.DataFrame) -> str:
    """What each measure's statistics, and the layer's position, add up to."""
    gini = table[table["kind"] == "gini"]
    if gini.empty:
        return ""
    shares = gini.groupby("measure", sort=False)["mean"].sum().sort_values(ascending=False)
    each = [f"{group_label(str(m))} {100 * s / shares.sum():.0f}%" for m, s in shares.items()]
    return f"Shares of the Gini importance: {listing(each)}."
