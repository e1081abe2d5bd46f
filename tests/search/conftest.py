"""A search with two settings, and how its runs are compared."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from goaldriven.specs.search import SearchSpec


@event.listens_for(Engine, "connect")
def _need_not_survive_a_power_cut(connection: Any, record: Any) -> None:
    """SQLite waits for the disk at every commit, which is most of the time of these tests."""
    connection.execute("PRAGMA synchronous=OFF")


sys.path.insert(0, str(Path(__file__).parent))  # worker processes inherit it: search_scorers


def make_search(**changes: Any) -> SearchSpec:
    """Learning rate and momentum of SGD on the digits; `search_scorers.bowl` is its bowl."""
    fields: dict[str, Any] = {
        "name": "bowl",
        "base": {
            "task": "digits",
            "architecture": {"name": "knet4", "width": 0.1},
            "rule": "sgdm",
            "epochs": 1,
        },
        "space": {
            "rule.optimizer.learning_rate": {"low": 1e-5, "high": 1, "log": True},
            "rule.optimizer.momentum": {"low": 0, "high": 0.99},
        },
        "trials": 12,
        "startup_trials": 4,
    }
    return SearchSpec(**(fields | changes))


@pytest.fixture(scope="session")
def search_of() -> Callable[..., SearchSpec]:
    return make_search
