"""``goaldriven list``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from goaldriven.commands.output import output, plain_table
from goaldriven.specs.architectures import ARCHITECTURE_SUMMARIES
from goaldriven.specs.rules import RULE_SUMMARIES, RULES
from goaldriven.specs.statistics import PUBLISHED_STATISTICS, STATISTICS
from goaldriven.specs.tasks import TASKS

Listing = tuple[Sequence[str], Sequence[Sequence[str]]]
"""A header and rows."""


def show_table(name: str) -> None:
    """Print one of the package's tables."""
    rows: dict[str, Callable[[], Listing]] = {
        "rules": _rules,
        "architectures": lambda: (("name", "what"), list(ARCHITECTURE_SUMMARIES.items())),
        "tasks": lambda: (("name", "what"), [(n, t.summary()) for n, t in TASKS.items()]),
        "statistics": _statistics,
        "studies": _studies,
        "searches": _searches,
        "classifiers": _classifiers,
        "measurements": _measurements,
        "experiments": _experiments,
    }
    header, body = rows[name]()
    table = plain_table(*header)
    for row in body:
        table.add_row(*row)
    output().print(table)


def _rules() -> Listing:
    rows = [
        (name, rule.credit.name, rule.optimizer.name, RULE_SUMMARIES[name])
        for name, rule in RULES.items()
    ]
    return ("name", "credit assignment", "optimizer", "what"), rows


def _statistics() -> Listing:
    rows = [
        (name, s.measure.replace("_", " "), s.function, s.summary.replace("_", " "),
         "yes" if name in PUBLISHED_STATISTICS else "")
        for name, s in STATISTICS.items()
    ]  # fmt: skip
    return ("name", "measure", "function", "summary", "in the published 24"), rows


def _studies() -> Listing:
    from goaldriven.studies.files import load_study, shipped_studies

    studies = {name: load_study(path) for name, path in shipped_studies().items()}
    rows = [(name, str(len(s.networks())), s.description) for name, s in studies.items()]
    return ("name", "networks", "what"), rows


def _searches() -> Listing:
    from goaldriven.search.files import load_search, shipped_searches

    searches = {name: load_search(path) for name, path in shipped_searches().items()}
    rows = [(name, str(s.trials), s.description) for name, s in searches.items()]
    return ("name", "trials", "what"), rows


def _classifiers() -> Listing:
    from goaldriven.identify import CLASSIFIERS

    rows = [
        (name, "" if c.extra else "yes", "yes" if c.published else "", c.summary)
        for name, c in CLASSIFIERS.items()
    ]
    return ("name", "by default", "in the paper", "what"), rows


def _measurements() -> Listing:
    from goaldriven.studies.measuring import load_measurements, shipped_measurements

    sets = {name: load_measurements(path) for name, path in shipped_measurements().items()}
    rows = [(name, str(len(s.specs())), s.description) for name, s in sets.items()]
    return ("name", "conditions", "what"), rows


def _experiments() -> Listing:
    from goaldriven.identify.experiments import EXPERIMENTS

    rows = [(e.name, e.question, e.source) for e in EXPERIMENTS.values()]
    return ("name", "question", "source"), rows
