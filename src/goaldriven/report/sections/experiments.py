"""Every experiment that was run: its question, its figures, what it found and what the paper."""

from __future__ import annotations

import re

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
from goaldriven.report.drawings import Drawing
from goaldriven.report.experiments import (
    Told,
    Untold,
    names_with_results,
    read_experiments,
    statuses,
)
from goaldriven.report.names import level_label, listing, plural
from goaldriven.report.sections import experiment_captions as captions
from goaldriven.report.sections.experiment_tables import tables
from goaldriven.report.sections.outdated import Basis, outdated
from goaldriven.report.study import StudyData


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
        text = f"Of other networks, measurements or another version than now: {names}; see there."
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
        "The paper's other experiments, and controls, have not been run on this {}: "
        "<code>goaldriven experiment list</code> names them, <code>goaldriven experiment run "
        "{}</code> runs them, and they then have a section of this page."
    ).format(data.kind, str(data.folder))
    return (Paragraph(text),)


def _counts(shown: list[Told], n_experiments: int) -> str:
    every = sum(len(one.findings) for one in shown)
    counts = [f"{count} {status}" for status, count in statuses(shown)]
    text = f"{plural(n_experiments, 'experiment')} with results, {plural(every, 'finding')}"
    undecided = (
        " Undecided: the 95% interval of what the paper claims, widened for what splits share, "
        "holds both it and its contrary."
    )
    return (
        f"{text}{': ' + ', '.join(counts) if counts else ''}. Uncertainties: mean ± s.e.m. over "
        "splits, allowing for the training networks that these share, and in brackets the 95% "
        "interval over networks (Wilson's); of importances ± is over trees or permutations and "
        "splits, not over networks. Unless something is held out, all speak of new networks from "
        "the same starts, architectures and tasks as these."
        f"{undecided if 'undecided' in dict(statuses(shown)) else ''}"
    )


def _unreadable(one: Untold) -> str:
    return f"Experiment {one.name} cannot be shown: {one.reason.rstrip('.')}."


def _stale(data: StudyData, one: Told) -> str | None:
    remedy = f"run goaldriven experiment run {data.folder} {one.experiment.name} again"
    settings = one.results.settings
    basis = Basis(settings["networks"], settings.get("version"), settings.get("measurements", ()))
    return outdated(data, basis, remedy)


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
    return [*blocks, *tables(one)]


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
    key = _key(one) if number == 1 else f"{_key(one)}-{number}"
    file = f"experiment_{one.experiment.name}{'' if number == 1 else f'_{number}'}.csv"
    title = drawing.plot.title
    return Plate(
        f"{key}-figure",
        f"{one.experiment.title}: {title}" if title else one.experiment.title,
        captions.caption(drawing),
        captions.alt(drawing),
        figures.experiment(drawing.table, drawing.plot),
        (Download(file, drawing.table),),
    )


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
        "Rows: what trained a layer; columns: what it is called; numbers: per cent "
        f"of the row's test layers, all splits together, all observables. {most}",
        f"Confusion matrices of each classifier. {most}",
        figures.confusion(table, named),
        (Download(f"experiment_{one.experiment.name}_confusion{number or ''}.csv", table),),
    )
