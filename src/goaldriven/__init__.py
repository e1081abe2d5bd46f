"""goaldriven: goal-driven networks under any learning rule, measured and identified.

The public names, by what they are for:

- describe: `NetworkSpec`, `Study`, `load_study`; tables `RULES`, `ARCHITECTURES`, `TASKS`,
  `STATISTICS`, `PUBLISHED_STATISTICS`
- train: `train` (one network → its trajectory), `build` (the initial network), `run_study`,
  `StudyFolder`, `rules` (learning rules for any `torch.nn.Module`), `architectures`
- tune: `load_search`, `SearchFolder`, `run_search`
- read: `load_trajectory`, `load_networks`, `load_examples`
- answer: `identify`, `write_report`
- errors: `GoaldrivenError` and its kinds

Names are loaded on first use, so that ``import goaldriven`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from goaldriven import architectures, rules
    from goaldriven.errors import (
        DataError,
        GoaldrivenError,
        IdentificationError,
        SpecError,
        StudyError,
    )
    from goaldriven.identify import identify
    from goaldriven.report import write_report
    from goaldriven.search import SearchFolder, load_search
    from goaldriven.search.runner import run_search
    from goaldriven.specs import (
        ARCHITECTURES,
        PUBLISHED_STATISTICS,
        RULES,
        STATISTICS,
        TASKS,
        NetworkSpec,
        RuleSpec,
        Study,
    )
    from goaldriven.studies import StudyFolder, load_study, run_study
    from goaldriven.training import build, train
    from goaldriven.trajectories import load_examples, load_networks
    from goaldriven.trajectories import read as load_trajectory

_HOME: dict[str, str] = {
    **dict.fromkeys(
        ("DataError", "GoaldrivenError", "IdentificationError", "SpecError", "StudyError"),
        "goaldriven.errors",
    ),
    **dict.fromkeys(
        ("ARCHITECTURES", "PUBLISHED_STATISTICS", "RULES", "STATISTICS", "TASKS", "NetworkSpec",
         "RuleSpec", "Study"),
        "goaldriven.specs",
    ),
    **dict.fromkeys(("StudyFolder", "load_study", "run_study"), "goaldriven.studies"),
    **dict.fromkeys(("SearchFolder", "load_search"), "goaldriven.search"),
    "run_search": "goaldriven.search.runner",
    **dict.fromkeys(("build", "train"), "goaldriven.training"),
    **dict.fromkeys(("load_examples", "load_networks"), "goaldriven.trajectories"),
    "load_trajectory": "goaldriven.trajectories:read",
    "identify": "goaldriven.identify:",  # a callable package: gd.identify(…), gd.identify.load(…)
    "write_report": "goaldriven.report",
    "architectures": "goaldriven.architectures:",
    "rules": "goaldriven.rules:",
}  # fmt: skip

__all__ = [
    "ARCHITECTURES",
    "PUBLISHED_STATISTICS",
    "RULES",
    "STATISTICS",
    "TASKS",
    "DataError",
    "GoaldrivenError",
    "IdentificationError",
    "NetworkSpec",
    "RuleSpec",
    "SearchFolder",
    "SpecError",
    "Study",
    "StudyError",
    "StudyFolder",
    "architectures",
    "build",
    "identify",
    "load_examples",
    "load_networks",
    "load_search",
    "load_study",
    "load_trajectory",
    "rules",
    "run_search",
    "run_study",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'goaldriven' has no attribute {name!r}")
    home, _, original = _HOME[name].partition(":")
    module = importlib.import_module(home)
    value = module if _HOME[name].endswith(":") else getattr(module, original or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
