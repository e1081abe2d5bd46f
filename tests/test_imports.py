"""Imports go one way; the command line starts quickly; light parts do not need torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import goaldriven

ROOT = Path(goaldriven.__file__).parent

# What each part may import of the package (besides itself, errors, specs and layers).
ALLOWED: dict[str, set[str]] = {
    "specs": set(),
    "errors": set(),
    "layers": set(),
    "heads": set(),
    "modes": set(),
    "rules": set(),
    "architectures": {"heads"},
    "tasks": {"heads"},
    "observables": set(),
    "trajectories": set(),
    "training": {"rules", "architectures", "tasks", "observables", "trajectories"},
    "studies": {"training", "trajectories"},
    "planning": {"rules", "architectures", "tasks", "heads"},
    "search": {"studies", "training", "tasks", "trajectories"},
    "identify": {"trajectories"},
    "synapses": {"trajectories"},
    "report": {"identify", "synapses", "trajectories"},
    "commands": {"studies", "planning", "search", "training", "trajectories", "identify",
                 "synapses", "report"},
    "cli": {"commands"},
    "__init__": {"rules", "architectures", "training", "studies", "search", "trajectories",
                 "identify", "report"},
}  # fmt: skip
COMMON = {"specs", "errors", "layers", "modes"}
LOWEST = {"errors", "layers", "heads", "modes"}
TORCH_FREE = ("specs", "errors", "layers", "trajectories", "identify", "synapses", "report",
              "studies", "cli", "commands", "__init__")  # fmt: skip
TORCH_ALLOWED = {
    "identify/conv1d.py",
    "identify/transformer.py",
    "studies/worker.py",
    "studies/executors/ray_task.py",
}


def _part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """Full dotted names that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    part = _part(path)
    known = {p.name.removesuffix(".py") for p in ROOT.iterdir()}
    parts = {n.split(".")[1] for n in _imports(path) if n.startswith("goaldriven.")} & known
    allowed = ALLOWED[part] | {part} | (COMMON if part not in LOWEST else LOWEST)
    assert parts <= allowed, f"{path.name} imports {sorted(parts - allowed)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_light_parts_do_not_import_torch(path):
    if _part(path) in TORCH_FREE and str(path.relative_to(ROOT)) not in TORCH_ALLOWED:
        assert not any(n.split(".")[0] == "torch" for n in _imports(path))


@pytest.mark.parametrize("module", ["goaldriven", "goaldriven.cli", "goaldriven.specs"])
def test_starting_up_loads_nothing_heavy(module):
    heavy = ("torch", "numpy", "pandas", "xarray", "sklearn", "matplotlib", "scipy")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_no_plotting_outside_the_report():
    for path in FILES:
        if _part(path) != "report":
            assert not any(n.startswith("matplotlib") for n in _imports(path)), path
