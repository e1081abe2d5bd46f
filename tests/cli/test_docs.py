"""What the documents show, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from goaldriven.identify import DEFAULT_CLASSIFIERS, identify
from goaldriven.identify.experiments import load_material, run
from goaldriven.trajectories import load_examples

from .test_identifying import make

ROOT = Path(__file__).parents[2]


def snippet(document: str, holding: str) -> str:
    """The one block of Python in a document that holds this."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text("utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if holding in block]
    return found


def test_a_model_of_ones_own_is_measured(capsys):
    exec(snippet("docs/experiments.md", "record_measured"), {})
    shape, value = capsys.readouterr().out.splitlines()
    assert shape == "(2, 2, 45)"
    assert float(value) > 0


def test_a_recording_without_a_model_is_judged(tmp_path, monkeypatch, capsys):
    folder = make(tmp_path / "results" / "demo", ["fa", "ia"], 16)
    identify(
        load_examples(folder.path), classifiers=["random_forest"], splits=["network"], n_splits=1,
        permutations=0,
    ).save(folder.path / "identify")  # fmt: skip
    assert "random_forest" in DEFAULT_CLASSIFIERS
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(snippet("docs/experiments.md", "activation_statistics"), names)
    assert names["examples"].sizes == {"example": 2, "epoch": 3, "statistic": 21}
    table = names["gd"].identify.verdicts(names["fitted"], names["examples"])
    assert isinstance(table, pd.DataFrame)
    assert table[["network", "rule"]].values.tolist() == [["animal1", "unknown"]]
    assert "animal1" in capsys.readouterr().out


def test_the_experiment_of_contributing(tmp_path):
    names: dict = {"__name__": "half"}
    exec(snippet("CONTRIBUTING.md", "Experiment("), names)
    (entry,) = names["ENTRIES"]
    folder = make(tmp_path / "study", ["fa", "ia"], 8)
    results = run(entry, load_material(folder.path, n_splits=1))
    (finding,) = entry.findings(results)
    assert finding.statement.startswith("From the first half: ")
    assert finding.status == "not in the paper"
    assert set(results.table["seen"]) == {"first half"}
