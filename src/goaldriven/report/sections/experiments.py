"""Every experiment that was run: its question, its figures, what it found and what the paper."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from goaldriven.report import figures
from goaldriven.report.blocks import (
    Block,
    Comparison,
    Download,
    Heading,
    Paragraph,
    Plate,
    Section,
    Table,
)
from goaldriven.report.experiments import (
    Drawing,
    Told,
    Untold,
    columns_of,
    names_with_results,
    read_experiments,
    statuses,
)
from goaldriven.report.names import column_label, level_label, listing, plural
from goaldriven.report.sections.outdated import outdated
from goaldriven.report.study import StudyData

if TYPE_CHECKING:
    from goaldriven.identify.experiments import Plot

_MOST_ROWS = 150
"""A longer table is cut on the page; its CSV is whole."""

_SHOWS = {
    "levels": (
        "Filled marks: share of layers named right, mean over splits, with the 95% interval over "
        "networks (bootstrap); open diamonds: verdicts on whole networks; dashed: chance."
    ),
    "lines": (
        "Share of layers named right, mean over splits; bands: 95% interval over networks "
        "(bootstrap); dashed line: chance."
    ),
    "grid": (
        "Numbers: per cent of layers named right, mean over splits, where there is room with the "
        "95% interval over networks (bootstrap); from white (chance) to dark (100%)."
    ),
    "importances": (
        "Bars: mean ± s.e.m., over splits (and the trees or permutations in each, where there are "
        "any)."
    ),
}


def experiments(data: StudyData) -> tuple[Section, ...]:
    """One section where any experiment has results, else none."""
    found = read_experiments(data.folder)
    if not found:
        return ()
    shown = [one for one in found if isinstance(one, Told)]
    blocks: list[Block] = [Paragraph(_counts(shown, len(found)))]
    blocks += [Paragraph(_unreadable(one), "notice") for one in found if isinstance(one, Untold)]
    stale = [one for one in shown if _stale(data, one)]
    if stale:
        names = listing([one.experiment.title for one in stale])
        text = f"Of other networks than the study has trained now: {names}; see there."
        blocks.append(Paragraph(text, "notice"))
    if shown:
        blocks.append(_overview(shown))
    for one in shown:
        blocks += _of_experiment(data, one)
    return (Section("experiments", "Experiments", tuple(blocks)),)


def hint(data: StudyData) -> tuple[Paragraph, ...]:
    """How to run experiments, where there is something to run them on and none was run."""
    rules = {n.attrs["rule"] for n in data.trained}
    if len(rules) < 2 or names_with_results(data.folder):
        return ()
    text = Markup(
        "The paper's other experiments, and controls, have not been run on this study: "
        "<code>goaldriven experiment list</code> names them, <code>goaldriven experiment run "
        "{}</code> runs them, and they then have a section of this page."
    ).format(str(data.folder))
    return (Paragraph(text),)


def _counts(shown: list[Told], n_experiments: int) -> str:
    every = sum(len(one.findings) for one in shown)
    counts = [f"{count} {status}" for status, count in statuses(shown)]
    text = f"{plural(n_experiments, 'experiment')} with results, {plural(every, 'finding')}"
    return (
        f"{text}{': ' + ', '.join(counts) if counts else ''}. Uncertainties: mean ± s.e.m. over "
        "splits, and in brackets the 95% interval over networks (1,000 bootstraps of networks "
        "within rules)."
    )


def _unreadable(one: Untold) -> str:
    return f"Experiment {one.name} cannot be shown: {one.reason.rstrip('.')}."


def _stale(data: StudyData, one: Told) -> str | None:
    remedy = f"run goaldriven experiment run {data.folder} {one.experiment.name} again"
    return outdated(data, one.results.settings["networks"], remedy)


def _overview(shown: list[Told]) -> Table:
    rows = [
        (
            Markup('<a href="#{}">{}</a>').format(_key(one), one.experiment.title),
            in_short(finding.statement),
            finding.paper or "–",
            finding.status,
        )
        for one in shown
        for finding in one.findings
    ]
    return Table(
        "What was found, in short (more, with uncertainties, below), and how it compares with what "
        "the paper found.",
        ("experiment", "found here", "the paper", "status"),
        tuple(rows),
        text_columns=4,
        words=True,
    )


def in_short(statement: str) -> str:
    """A statement without its brackets and standard errors.

    >>> in_short("Right: svm 0.950 ± 0.001 (0.918–0.982), forest 0.970 (all); chance 0.25.")
    'Right: svm 0.950, forest 0.970; chance 0.25.'
    """
    return re.sub(r" ± \d[\d.]*|\s*\([^()]*\)", "", statement)


def _key(one: Told) -> str:
    return f"experiment-{one.experiment.name.replace('_', '-')}"


def _of_experiment(data: StudyData, one: Told) -> list[Block]:
    blocks: list[Block] = [Heading(_key(one), one.experiment.title), Paragraph(_about(one))]
    if text := _stale(data, one):
        blocks.append(Paragraph(text, "notice"))
    blocks += [_plate(one, drawing, i) for i, drawing in enumerate(one.drawings, start=1)]
    blocks += [_confusions(data, one, *item) for item in enumerate(one.confusions.items())]
    blocks += [
        Comparison(finding.statement, finding.paper, finding.status) for finding in one.findings
    ]
    blocks.append(_numbers(one))
    if not one.others.empty:
        blocks.append(_other_numbers(one))
    return blocks


def _about(one: Told) -> str:
    settings = one.results.settings
    source = one.experiment.source
    origin = source if source.startswith("ours") else f"the paper's {source}"
    return (
        f"{one.experiment.question} ({origin[0].upper()}{origin[1:]}. "
        f"{plural(len(settings['networks']), 'network')}, {plural(settings['n_splits'], 'split')} "
        f"of a kind, the {settings['grid']} grid.)"
    )


def _plate(one: Told, drawing: Drawing, number: int) -> Plate:
    plot, table = drawing.plot, drawing.table
    key = _key(one) if number == 1 else f"{_key(one)}-{number}"
    file = f"experiment_{one.experiment.name}{'' if number == 1 else f'_{number}'}.csv"
    held, span = _held(drawing), _span(drawing)
    caption = " ".join(t for t in (_roles(plot), _SHOWS[plot.kind], held, span) if t)
    return Plate(
        f"{key}-figure",
        one.experiment.title,
        caption,
        " ".join(t for t in (f"{_ALT[plot.kind]}. {_roles(plot)}", held, span) if t),
        figures.experiment(table, plot),
        (Download(file, table),),
    )


_ROLES = {
    "levels": ("Rows", "colours", "panels"),
    "lines": ("Horizontal axis", "lines", "panels"),
    "grid": ("Cells", "by", "panels"),
    "importances": ("Rows", "", ""),
}


def _roles(plot: Plot) -> str:
    """Which column is where in the figure."""
    columns = (plot.x, plot.hue, plot.facet)
    parts = [
        f"{role}: {column_label(column)}"
        for role, column in zip(_ROLES[plot.kind], columns, strict=True)
        if role and column
    ]
    return f"{'; '.join(parts).replace('; by: ', ' by ')}."


_ALT = {
    "levels": "Marks of accuracy",
    "lines": "Lines of accuracy",
    "grid": "Tables of accuracy in colour",
    "importances": "Bars of importance",
}


def _held(drawing: Drawing) -> str:
    parts = [
        f"{column_label(column)} {level_label(column, level)}"
        for column, level in drawing.held.items()
    ]
    if drawing.left_out:
        parts.append(f"{plural(drawing.left_out, 'panel')} fewer than there are")
    return f"Shown: {listing(parts)}; the rest is in the table." if parts else ""


def _span(drawing: Drawing) -> str:
    """The lowest and the highest accuracy that are drawn, where, and chance."""
    if drawing.plot.kind == "importances":
        return _highest(drawing)
    rows = drawing.table[drawing.table["metric"] == "layer_accuracy"].dropna(subset=["mean"])
    if rows.empty:
        return ""
    chance = f"{rows['chance'].mean():.2f}"
    if len(rows) < 2:
        return f"Chance {chance}."
    ends = rows.sort_values("mean", kind="stable").iloc[[0, -1]]
    low, high = (
        f"{row['mean']:.3f} ({', '.join(level_label(c, row[c]) for c in columns_of(drawing.plot))})"
        for _, row in ends.iterrows()
    )
    return f"Lowest {low}, highest {high}; chance {chance}."


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


def _confusions(data: StudyData, one: Told, number: int, part: tuple[str, pd.DataFrame]) -> Plate:
    of, table = part
    rules = [r for r in data.rules if r in set(table["true"])]
    named = rules + [r for r in dict.fromkeys(table["true"]) if r not in rules]
    wrong = table[table["true"] != table["predicted"]].dropna(subset=["fraction"])
    most = ""
    if not wrong.empty:
        worst = wrong.sort_values("fraction").iloc[-1]
        most = (
            f"Most confused: {100 * worst['fraction']:.0f}% of the layers of {worst['true']} are "
            f"called {worst['predicted']} ({level_label('classifier', worst['classifier'])}, "
            f"{level_label('split_kind', worst['split_kind'])})."
        )
    return Plate(
        f"{_key(one)}-confusions{f'-{number + 1}' if number else ''}",
        f"{one.experiment.title}: {of}{', ' if of else ''}which is called what",
        "Rows: the rule that trained a layer; columns: the rule it is called by; numbers: per cent "
        f"of the row's test layers, all splits together, all observables. {most}",
        f"Confusion matrices of each classifier. {most}",
        figures.confusion(table, named),
        (Download(f"experiment_{one.experiment.name}_confusion{number or ''}.csv", table),),
    )


def _numbers(one: Told) -> Table:
    """The whole summary, layers and networks side by side, folded away."""
    keys = [*one.results.condition, "classifier", "split_kind"]
    every = [k for k in keys if k in one.summary]
    keys = [k for k in every if one.summary[k].nunique() > 1] or ["classifier"]
    rows: list[tuple[str, ...]] = []
    cut = 0
    for _, group in one.summary.groupby(every, sort=False, dropna=False):
        if len(rows) == _MOST_ROWS:
            cut += 1
            continue
        by_metric = {row["metric"]: row for row in group.to_dict("records")}
        first = next(iter(by_metric.values()))
        rows.append(
            (
                *(level_label(k, first[k]) for k in keys),
                *(_interval(by_metric.get(m)) for m in ("layer_accuracy", "network_accuracy")),
                f"{first['chance']:.3f}",
            )
        )
    return Table(
        f"All accuracies of this experiment ({plural(len(rows) + cut, 'row')}"
        + (f", of which the first {len(rows)} are on the page" if cut else "")
        + "): mean ± s.e.m. over splits (95% interval over networks).",
        (*map(column_label, keys), "on layers", "on networks", "chance"),
        tuple(rows),
        (Download(f"experiment_{one.experiment.name}_summary.csv", one.summary),),
        text_columns=len(keys),
        folded=True,
    )


def _interval(row: Mapping[Hashable, Any] | None) -> str:
    if row is None or np.isnan(row["mean"]):
        return "–"
    sem = "" if np.isnan(row["sem"]) else f" ± {row['sem']:.3f}"
    return f"{row['mean']:.3f}{sem} ({row['low']:.3f}–{row['high']:.3f})"


def _other_numbers(one: Told) -> Table:
    keys = [c for c in one.others.columns if c not in ("mean", "sem", "n")]
    keys = [k for k in keys if k == "metric" or one.others[k].nunique(dropna=False) > 1]
    shown = one.others.head(_MOST_ROWS)
    rows = tuple(
        (
            *(level_label(k, row[k]) for k in keys),
            f"{row['mean']:.4g}" + ("" if np.isnan(row["sem"]) else f" ± {row['sem']:.2g}"),
        )
        for row in shown.to_dict("records")
    )
    whole = len(one.others) == len(rows)
    cut = "" if whole else f", of which the first {len(rows)} are on the page"
    return Table(
        f"Other measures of this experiment ({plural(len(one.others), 'row')}{cut}): mean ± s.e.m. "
        "over splits.",
        (*map(column_label, keys), "value"),
        rows,
        (Download(f"experiment_{one.experiment.name}_other.csv", one.others),),
        text_columns=len(keys),
        folded=True,
    )
