"""What a report is about: a study folder, read whole."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from goaldriven.errors import SpecError, StudyError
from goaldriven.report.tables import trained_only
from goaldriven.specs import NetworkSpec, Study
from goaldriven.trajectories import load_networks


@dataclass(frozen=True)
class StudyData:
    """A study with what there is of it so far.

    Attributes
    ----------
    folder : where it lies.
    study : the grid.
    networks : the trajectories of finished networks, trained or diverged, in the grid's order.
    failed : label of each network that failed → the last line of its traceback.
    """

    folder: Path
    study: Study
    networks: tuple[xr.Dataset, ...]
    failed: dict[str, str]

    @property
    def rules(self) -> list[str]:
        """The rules in the study's order, which decides their colours everywhere."""
        return [rule.name for rule in self.study.rules]

    @property
    def trained(self) -> list[xr.Dataset]:
        return trained_only(self.networks)

    @property
    def diverged(self) -> list[xr.Dataset]:
        return [n for n in self.networks if n.attrs["outcome"] != "trained"]

    def counts(self, rule: str | None = None) -> Counter[str]:
        """How many networks (of one rule, or all) are trained, diverged, failed and left."""
        outcomes = {n.attrs["network_id"]: str(n.attrs["outcome"]) for n in self.networks}
        specs = [s for s in self.study.networks() if rule in (None, s.rule.name)]
        return Counter(
            outcomes.get(s.network_id, "failed" if s.label in self.failed else "left")
            for s in specs
        )


def read_study(folder: Path) -> StudyData:
    """Read a study folder.

    Raises
    ------
    StudyError : there is no such folder, or it holds no readable study.
    DataError : a trajectory file cannot be read.
    """
    if not folder.is_dir():
        raise StudyError(f"DIR must be a study folder, got {str(folder)!r}, which does not exist")
    record = folder / "study.json"
    try:
        study = Study(**json.loads(record.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise StudyError(
            f"DIR must be a study folder (with a study.json), got {str(folder)!r}"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        kind = "holds no valid study" if isinstance(error, SpecError) else "cannot be read"
        raise StudyError(f"{record} {kind}: {error}") from None
    specs = study.networks()
    order = {spec.network_id: i for i, spec in enumerate(specs)}
    networks = [n for n in _load(folder) if n.attrs["network_id"] in order]
    networks.sort(key=lambda n: order[n.attrs["network_id"]])
    done = {n.attrs["network_id"] for n in networks}
    return StudyData(folder, study, tuple(networks), _failures(folder, specs, done))


def _load(folder: Path) -> list[xr.Dataset]:
    if not any((folder / "networks").glob("*.nc")):
        return []
    return list(load_networks(folder))


def _failures(folder: Path, specs: tuple[NetworkSpec, ...], done: set[str]) -> dict[str, str]:
    failures = {}
    for spec in specs:
        path = folder / "failed" / f"{spec.network_id}.json"
        if spec.network_id in done or not path.exists():
            continue
        try:
            lines = json.loads(path.read_text(encoding="utf-8"))["traceback"].strip().splitlines()
        except (OSError, ValueError, KeyError, TypeError):
            lines = ["the record of the failure cannot be read"]
        failures[spec.label] = lines[-1] if lines else ""
    return failures
