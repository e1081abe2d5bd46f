"""``goaldriven search``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from goaldriven.commands.output import output, plain_table
from goaldriven.errors import SpecError
from goaldriven.search.events import Event
from goaldriven.search.files import load_search
from goaldriven.search.folder import SearchFolder
from goaldriven.search.output import settings_of
from goaldriven.search.results import SearchResult
from goaldriven.search.runner import run_search
from goaldriven.search.storage import shown_url
from goaldriven.specs.search import SearchSpec
from goaldriven.specs.search_space import label_of
from goaldriven.studies.devices import check_device
from goaldriven.studies.runner import usable_cores

_SHOWN = 5
"""Settings in the table."""


def search(
    source: str,
    out: Path | None,
    jobs: int | None,
    trials: int | None,
    storage: str | None,
    device: str,
    threads: int,
) -> None:
    """Search, confirm, print the best settings; a progress bar says what time is left."""
    spec = load_search(source)
    if trials is not None:
        if trials < 1:
            raise SpecError(f"trials must be at least 1, got {trials}")
        spec = spec.model_copy(update={"trials": trials})
    check_device(device)
    shown = None if storage is None else shown_url(storage)
    folder = SearchFolder.create(out or Path("results") / spec.name, spec, shown)
    console = Console(stderr=True)
    console.print(
        f"search {spec.name}: up to {spec.trials} trials of {len(spec.over)} networks with "
        f"{jobs or usable_cores()} processes → {folder.path}",
        highlight=False,
        soft_wrap=True,
    )
    try:
        with _columns(console) as bar:
            result = run_search(
                folder,
                jobs=jobs,
                threads=threads,
                device=device,
                storage=storage,
                report=_Reporter(bar, console, spec),
            )
    except KeyboardInterrupt:
        console.print(
            f"stopped; what was scored is kept, the results so far are in {folder.path}, the same "
            "command goes on from here",
            style="bold",
            soft_wrap=True,
        )
        raise
    _conclude(result, folder, console)


def _conclude(result: SearchResult, folder: SearchFolder, console: Console) -> None:
    counts = Counter(setting.state for setting in result.settings)
    said = ", ".join(f"{n} {state}" for state, n in counts.items())
    console.print(f"{len(result.settings)} trials: {said}", highlight=False)
    if counts["failed"]:
        console.print(
            f"the tracebacks of failed trials are in {folder.path / 'failed'}", highlight=False
        )
    if result.best is None:
        console.print("no trial is complete, so there is no best setting", style="bold")
        raise typer.Exit(1)
    output().print(_table(result))
    console.print(
        f"best: trial {result.best.number} → {folder.path / 'best.yaml'}; all trials → "
        f"{folder.path / 'trials.csv'}",
        highlight=False,
        soft_wrap=True,
    )


def _table(result: SearchResult) -> Table:
    """Settings as columns, best first; scores and what was varied as rows."""
    shown = result.ranked[:_SHOWN]
    table = plain_table("", *(f"trial {s.number}" for s in shown))
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("score", *(_figure(s.score) for s in shown))
    if any(s.confirmed for s in shown):
        table.add_row("confirmed: mean", *(_figure(s.confirmed_mean) for s in shown))
        table.add_row(
            "confirmed: lowest", *(_figure(min(s.confirmed, default=None)) for s in shown)
        )
    settings = [settings_of(result, s) for s in shown]
    for name in settings[0]:
        table.add_row(name, *(_short(s.get(name)) for s in settings))
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else label_of(value)


def _columns(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[finished]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        console=console,
        refresh_per_second=4,
    )


@dataclass
class _Stage:
    """How far one stage is, in epochs; its settings are trials, or single networks to confirm."""

    task: TaskID
    settings: int
    networks: int
    epochs_each: int
    epochs: dict[tuple[int, int], int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)

    def hear(self, event: Event) -> None:
        key = (event.number, event.step)
        if event.kind == "epoch":
            self.epochs[key] = self.epochs.get(key, 0) + 1
        elif event.kind == "killed":
            self.epochs[key] = 0
        elif event.kind == "scored":
            self.epochs[key] = self.epochs_each
        else:
            self.ended.add(event.number)

    @property
    def done(self) -> int:
        return sum(self.epochs.values())

    @property
    def total(self) -> float:
        """Epochs in all, if what is left takes as many as what has ended (pruned ones are few)."""
        of: Counter[int] = Counter()
        for (number, _), epochs in self.epochs.items():
            of[number] += epochs
        each = float(self.networks * self.epochs_each)
        if self.ended:
            each = sum(of[n] for n in self.ended) / len(self.ended)
        begun = of.keys() - self.ended
        left = max(0, self.settings - len(self.ended) - len(begun))
        return self.done + sum(max(0.0, each - of[n]) for n in begun) + left * each


class _Reporter:
    """Advances the bars; says aloud what failed or was killed."""

    def __init__(self, bar: Progress, console: Console, search: SearchSpec) -> None:
        self._bar, self._console, self._search = bar, console, search
        self._stages: dict[str, _Stage] = {}

    def __call__(self, event: Event) -> None:
        if event.kind == "begin":
            self._stages[event.stage] = self._begin(event)
            return
        stage = self._stages[event.stage]
        stage.hear(event)
        if event.kind == "failed":
            self._console.print(f"failed: trial {event.number}", highlight=False)
        elif event.kind == "killed":
            self._console.print(
                f"a worker was killed at trial {event.number}; trying the network again",
                highlight=False,
            )
        finished = f"{len(stage.ended)}/{stage.settings} trials"
        self._bar.update(stage.task, completed=stage.done, total=stage.total, finished=finished)

    def _begin(self, event: Event) -> _Stage:
        confirmation = self._search.confirm
        epochs, networks = self._search.base.epochs, len(self._search.over)
        if event.stage == "confirm" and confirmation is not None:
            epochs, networks = confirmation.epochs or epochs, len(self._search.confirm_over)
        words = {"search": "searching", "confirm": "confirming"}
        task = self._bar.add_task(
            words[event.stage],
            total=max(1, event.number * networks * epochs),
            finished=f"0/{event.number} trials",
            visible=event.number > 0,
        )
        return _Stage(task, event.number, networks, epochs)
