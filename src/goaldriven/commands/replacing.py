"""What a new identification replaces, in a line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console

from goaldriven.identify.store import RECORD
from goaldriven.specs import PUBLISHED_STATISTICS
from goaldriven.trajectories import admissible, trained


def say_replaced(
    folder: Path,
    examples: xr.Dataset,
    console: Console,
    *,
    grid: str,
    statistics: str,
    splits: int,
    seed: int,
    classifiers: Sequence[str],
    alpha: float,
) -> None:
    """Say how an identification differs from that in the folder, which it will replace.

    Nothing is said where there is none, where it cannot be read, or where nothing differs.
    """
    old = _old(folder / RECORD)
    if old is None:
        return
    names = admissible(examples) if statistics == "admissible" else PUBLISHED_STATISTICS
    new = {
        "grid": grid,
        "splits of each kind": str(splits),
        "classifiers": _listed(classifiers),
        "seed": str(seed),
        "alpha": f"{alpha:g}",
        "statistics": str(len(names)),
        "networks": str(len(np.unique(trained(examples)["network"].values))),
    }
    changes = [f"{what} {old[what]} → {told}" for what, told in new.items() if old[what] != told]
    if changes:
        console.print(
            f"replaces the identification in {folder}: {'; '.join(changes)}",
            style="bold",
            highlight=False,
            soft_wrap=True,
        )


def _old(path: Path) -> dict[str, str] | None:
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        settings = record["settings"]
        counts = Counter(split["kind"] for split in record["splits"])
        return {
            "grid": str(settings["grid"]),
            "splits of each kind": str(max(counts.values(), default=0)),
            "classifiers": _listed(settings["classifiers"]),
            "seed": str(settings["seed"]),
            "alpha": f"{settings['alpha']:g}",
            "statistics": str(max(map(len, settings["statistics"].values()), default=0)),
            "networks": str(len(settings["networks"])),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged, or of another version: it is no loss


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)
