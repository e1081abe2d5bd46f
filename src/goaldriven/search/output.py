"""A search's results as files: ``trials.csv`` and ``best.yaml``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from goaldriven.errors import SpecError
from goaldriven.search.results import SearchResult, Setting
from goaldriven.specs.search import SearchSpec, TrainingSplit
from goaldriven.specs.search_space import get, label_of
from goaldriven.trajectories.atomic import write_bytes


def write_results(result: SearchResult, folder: Path) -> None:
    """Write all trials, and the best setting if a trial is complete, into a folder.

    Raises
    ------
    StudyError : a file cannot be written.
    """
    write_bytes(folder / "trials.csv", trials_csv(result).encode())
    if result.best is not None:
        write_bytes(folder / "best.yaml", best_yaml(result, result.best).encode())


def settings_of(result: SearchResult, setting: Setting) -> dict[str, Any]:
    """What a setting sets, by field path: drawn and derived values, and the variables."""
    derived: dict[str, Any] = {}
    if result.search.derived:
        try:
            fields = result.network(setting).model_dump(mode="json")
            derived = {path: get(fields, path) for path in result.search.derived}
        except (SpecError, KeyError):  # a trial that failed because of its settings
            pass
    return {**setting.values, **derived}


def trials_csv(result: SearchResult) -> str:
    """One line per trial: its settings, its score on every variation, what became of it."""
    search = result.search
    names = (*search.distributions, *search.derived)
    columns = [f"score: {variation_label(v)}" for v in search.over]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("trial", "state", "score", "confirmed_mean", "confirmed_lowest", "seconds",
         *names, *columns, "failure")
    )  # fmt: skip
    for setting in result.settings:
        settings = settings_of(result, setting)
        scores = [*setting.scores, *[None] * (len(columns) - len(setting.scores))]
        writer.writerow(
            (setting.number, setting.state, setting.score, setting.confirmed_mean,
             min(setting.confirmed, default=None), setting.seconds,
             *(label_of(settings[n]) if n in settings else None for n in names),
             *scores, (setting.failure.strip().splitlines() or [""])[-1])
        )  # fmt: skip
    return text.getvalue()


def variation_label(variation: Mapping[str, Any]) -> str:
    """``architecture=knet5 batch_size=32``; the base by itself is ``base``."""

    def short(value: Any) -> str:
        named = isinstance(value, Mapping) and set(value) == {"name"}
        return str(value["name"]) if named else label_of(value)

    return " ".join(f"{path}={short(value)}" for path, value in variation.items()) or "base"


def best_yaml(result: SearchResult, best: Setting) -> str:
    """The base network with the best setting, as a study of its own."""
    network, search = result.network(best), result.search
    fields = network.model_dump(mode="json")
    study = {
        "name": f"{search.name}_best",
        "tasks": [fields["task"]],
        "architectures": [fields["architecture"]],
        "rules": [fields["rule"]],
        "batch_sizes": [fields["batch_size"]],
        "model_seeds": [fields["model_seed"]],
        "data_seeds": [fields["data_seed"]],
        "epochs": fields["epochs"],
        "record_every": next(n for n in (5, 4, 3, 2, 1) if fields["epochs"] % n == 0),
    }
    body = yaml.safe_dump(study, sort_keys=False, default_flow_style=None, width=100)
    return "".join(f"# {line}\n" for line in _headline(search, best)) + body


def _headline(search: SearchSpec, best: Setting) -> list[str]:
    on = (
        f"a held-out {search.score_on.fraction:g} of the training stimuli"
        if isinstance(search.score_on, TrainingSplit)
        else "the validation stimuli"
    )
    lines = [
        f"The best setting of search {search.name}: trial {best.number}, scored on {on}:",
        f"mean {best.score:.4f} over {len(best.scores)} networks"
        + (
            f"; scored again: mean {best.confirmed_mean:.4f}, lowest {min(best.confirmed):.4f} "
            f"over {len(best.confirmed)} networks"
            if best.confirmed_mean is not None
            else ""
        ),
        "This is a study (goaldriven run best.yaml); its rule can be pasted into any other.",
    ]
    varied = {path for variation in search.over for path in variation}
    named = {name for d in search.derived.values() for name in d.names}
    if varied & named:
        lines.append(
            f"Settings derived from {', '.join(sorted(varied & named))} are those of the base."
        )
    return lines
