"""What a report is about: a folder of networks, a study's or a collection, read whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from goaldriven.errors import SpecError, StudyError
from goaldriven.report.tables import FACTORS, has_performance, trained_only
from goaldriven.specs import RULES, NetworkSpec, Study
from goaldriven.trajectories import load_networks
from goaldriven.trajectories.collection import is_collection, sources_of


@dataclass(frozen=True)
class StudyData:
    """A study with what there is of it so far, or a collection.

    Attributes
    ----------
    folder : where it lies.
    study : the grid; None for a collection.
    networks : the trajectories of finished networks, trained or diverged, in the grid's order; of a
        collection in the order of their factors.
    failed : label of each network that failed → the last line of its traceback.
    sources : the files and folders that a collection was made from.
    """

    folder: Path
    study: Study | None
    networks: tuple[xr.Dataset, ...]
    failed: dict[str, str]
    sources: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """``"study"`` or ``"collection"``."""
        return "collection" if self.study is None else "study"

    @property
    def rules(self) -> list[str]:
        """The rules in the study's order, which decides their colours everywhere."""
        if self.study is None:
            return _rules_in_order(self.networks)
        return [rule.name for rule in self.study.rules]

    @property
    def trained(self) -> list[xr.Dataset]:
        return trained_only(self.networks)

    @property
    def diverged(self) -> list[xr.Dataset]:
        return [n for n in self.networks if n.attrs["outcome"] != "trained"]

    @property
    def with_performance(self) -> list[xr.Dataset]:
        """The networks whose performance was recorded; imported ones have none."""
        return [n for n in self.networks if has_performance(n)]

    def counts(self, rule: str | None = None) -> Counter[str]:
        """How many networks (of one rule, or all) are trained, diverged, failed and left."""
        if self.study is None:
            return Counter(
                str(n.attrs["outcome"]) for n in self.networks if rule in (None, n.attrs["rule"])
            )
        outcomes = {n.attrs["network_id"]: str(n.attrs["outcome"]) for n in self.networks}
        specs = [s for s in self.study.networks() if rule in (None, s.rule.name)]
        return Counter(
            outcomes.get(s.network_id, "failed" if s.label in self.failed else "left")
            for s in specs
        )


def read_folder(folder: Path) -> StudyData:
    """Read a study's folder or a collection; see `read_study` and `read_collection`."""
    return read_collection(folder) if is_collection(folder) else read_study(folder)


def read_collection(folder: Path) -> StudyData:
    """Read a collection.

    Raises
    ------
    StudyError : its record cannot be read.
    DataError : a trajectory file cannot be read, or there are none.
    """
    networks = load_networks(folder)
    order = {rule: i for i, rule in enumerate(_rules_in_order(networks))}
    networks.sort(key=lambda n: [order[n.attrs[f]] if f == "rule" else n.attrs[f] for f in FACTORS])
    return StudyData(folder, None, tuple(networks), {}, sources_of(folder))


def _rules_in_order(networks: Iterable[xr.Dataset]) -> list[str]:
    """In the catalogue's order, those that it lacks behind, by name."""
    known = {name: i for i, name in enumerate(RULES)}
    rules = {str(n.attrs["rule"]) for n in networks}
    return sorted(rules, key=lambda rule: (known.get(rule, len(known)), rule))


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
