"""What was run, and the answer in two sentences."""

from __future__ import annotations

import json
from collections.abc import Iterable

from markupsafe import Markup

from goaldriven.report.blocks import Block, Download, Paragraph, Section, Table
from goaldriven.report.names import listing, plural
from goaldriven.report.sections.collected import factors_of, lacking
from goaldriven.report.study import StudyData
from goaldriven.report.tables import network_table
from goaldriven.specs import Study
from goaldriven.trajectories.published import is_imported

OUTCOMES = ("trained", "diverged")
STATES = (*OUTCOMES, "failed", "left")


def overview(data: StudyData, answer: str) -> Section:
    """The grid, the state of its networks, time and software; first of all the answer."""
    factors = factors_of(data) if data.study is None else _grid(data.study)
    blocks: list[Block] = [Paragraph(answer, "answer"), *_notices(data), factors]
    if data.study is not None or not all(map(is_imported, data.networks)):
        blocks.append(_states(data))  # the published format does not tell outcomes
    texts = (lacking(data), _time(data), software(data))
    blocks += [Paragraph(text) for text in texts if text]
    title = "What there is" if data.study is None else "What was run"
    return Section("overview", title, tuple(blocks))


def _notices(data: StudyData) -> list[Block]:
    counts = data.counts()
    notices: list[str] = []
    if counts["left"]:
        done = plural(len(data.networks), "finished network")
        notices.append(
            Markup(
                "The study is incomplete: {} of {} are still to be trained. This page shows the "
                "{}; <code>goaldriven run</code> with the same study and folder goes on."
            ).format(counts["left"], plural(sum(counts.values()), "network"), done)
        )
    if counts["diverged"]:
        labels = [
            "/".join(str(n.attrs[k]) for k in ("task", "architecture", "rule"))
            for n in data.diverged
        ]
        each = [f"{label} ({labels.count(label)})" for label in dict.fromkeys(labels)]
        notices.append(
            f"{plural(counts['diverged'], 'network')} diverged: {listing(each)}. Such networks are "
            "counted, and marked with a cross among the final performances, and left out of "
            "everything else."
        )
    if data.failed:
        shown = [f"{label}: {reason}" for label, reason in list(data.failed.items())[:3]]
        more = f"; and {len(data.failed) - 3} more" if len(data.failed) > 3 else ""
        notices.append(
            f"{plural(len(data.failed), 'network')} failed with an error: {'; '.join(shown)}{more}."
        )
    return [Paragraph(text, "notice") for text in notices]


def _grid(study: Study) -> Table:
    levels: list[tuple[str, list[str]]] = [
        ("task", [_variant(t) for t in study.tasks]),
        ("architecture", [_variant(a) for a in study.architectures]),
        (
            "learning rule",
            [
                f"{r.name} ({r.credit.name.replace('_', ' ')} + {r.optimizer.name})"
                for r in study.rules
            ],
        ),
        ("batch size", [str(b) for b in study.batch_sizes]),
        ("model seed", [str(s) for s in study.model_seeds]),
        ("data seed", [str(s) for s in study.data_seeds]),
    ]
    rows = [(name, str(len(values)), ", ".join(values)) for name, values in levels]
    records = study.epochs // study.record_every + 1
    rows.append(
        (
            "training",
            "",
            f"{study.epochs} epochs, recorded initially and every "
            f"{study.record_every} epochs: {records} records",
        )
    )
    n = len(study.networks())
    excluded = " (after exclusions)" if study.exclude else ""
    return Table(
        f"The grid: {plural(n, 'network')}{excluded}.",
        ("factor", "levels", "which"),
        tuple(rows),
        text_columns=3,
    )


def _variant(spec: object) -> str:
    """A spec's name, with the settings that are not at their default."""
    settings = spec.model_dump(exclude_defaults=True, exclude={"name"})  # type: ignore[attr-defined]
    inside = ", ".join(f"{k} {v}" for k, v in settings.items())
    name: str = spec.name  # type: ignore[attr-defined]
    return f"{name} ({inside})" if inside else name


def _states(data: StudyData) -> Table:
    rows = []
    states = OUTCOMES if data.study is None else STATES
    for rule in [*data.rules, None]:
        counts = data.counts(rule)
        numbers = [counts[s] for s in states]
        rows.append((rule or "all rules", *map(str, numbers), str(sum(numbers))))
    downloads: tuple[Download, ...] = ()
    if data.study is not None and data.networks:
        downloads = (Download("networks.csv", network_table(data.networks)),)
    return Table(
        "Networks by learning rule and outcome.", ("rule", *states, "all"), tuple(rows), downloads
    )


def _time(data: StudyData) -> str:
    """How long it took; empty where no network tells."""
    table = network_table(data.networks)
    table = table[table["seconds"] > 0]
    if table.empty:
        return ""
    total, recording = table["seconds"].sum(), table["recording_seconds"].sum()
    return (
        f"Training and measuring took {duration(total)} of computing in all, "
        f"{table['seconds'].median():.1f} s for the median network; "
        f"{100 * recording / total:.0f}% of it went into recording the observables."
    )


def duration(seconds: float) -> str:
    """
    >>> duration(42.4), duration(320), duration(9000)
    ('42 s', '5.3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def software(data: StudyData) -> str:
    """The versions as a sentence; empty where no network tells."""
    found = versions(data)
    return f"Software: {found}." if found else ""


def versions(data: StudyData) -> str:
    """Every version that trained a network, e.g. ``numpy 2.1, torch 2.9``; empty if none tells."""
    found: dict[str, set[str]] = {}
    for network in (n for n in data.networks if not is_imported(n)):
        for package, version in json.loads(network.attrs["versions"]).items():
            found.setdefault(package, set()).add(str(version))
    return ", ".join(f"{package} {_or(found[package])}" for package in sorted(found))


def _or(names: Iterable[str]) -> str:
    return " or ".join(sorted(names))
