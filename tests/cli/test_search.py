"""``goaldriven search`` on the digits: real trials, interrupted and resumed."""

from __future__ import annotations

import csv
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from goaldriven import cli
from goaldriven.search import shipped_searches
from goaldriven.search.score import score_network
from goaldriven.specs.search import TrainingSplit
from goaldriven.studies import load_study

RATE = "rule.optimizer.learning_rate"


def test_searches_are_listed(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["goaldriven", "list", "searches"])
    with pytest.raises(SystemExit):
        cli.main()
    listed = capsys.readouterr().out
    assert all(name in listed for name in shipped_searches())


REAL = """\
name: real
base: {task: digits, architecture: {name: knet4, width: 0.1}, rule: adam, epochs: 1}
space:
  rule.optimizer.learning_rate: {low: 1e-4, high: 3e-2, log: true}
derived:
  rule.optimizer.weight_decay: {product: rule.optimizer.learning_rate, divided_by: 1000}
trials: 3
significant_digits: 2
confirm: {best: 1, over: {model_seed: [3]}}
"""


def test_a_real_search(tmp_path, monkeypatch, capsys):
    """Three trials on the digits in a worker process; every score is that network's own."""
    path, out = tmp_path / "search.yaml", tmp_path / "out"
    path.write_text(REAL)
    monkeypatch.setattr(
        "sys.argv", ["goaldriven", "search", str(path), "--out", str(out), "--jobs", "1"]
    )
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    captured = capsys.readouterr()
    assert "3 trials: 3 complete" in captured.err
    assert "best: trial" in captured.err
    assert "rule.optimizer.weight_decay" in captured.out
    lines = [*csv.DictReader((out / "trials.csv").open())]
    assert [line["state"] for line in lines] == ["complete"] * 3
    (best,) = load_study(out / "best.yaml").networks()
    winner = max(lines, key=lambda line: float(line["score"]))
    assert best.rule.optimizer.learning_rate == float(winner[RATE])
    assert best.rule.optimizer.weight_decay == float(winner[RATE]) / 1000
    score = score_network(best, TrainingSplit(), threads=1)
    assert float(winner["score"]) == score
    again = score_network(best.model_copy(update={"model_seed": 3}), TrainingSplit(), threads=1)
    assert float(winner["confirmed_mean"]) == again


@pytest.mark.slow
def test_interrupt_keeps_what_is_scored_and_says_how_to_go_on(tmp_path):
    """SIGINT to the whole process group, as Ctrl-C in a terminal sends it."""
    path, out = tmp_path / "search.yaml", tmp_path / "out"
    path.write_text(REAL.replace("trials: 3", "trials: 400"))
    command = [sys.executable, "-m", "goaldriven.cli", "search", str(path), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--jobs", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    database, deadline = out / "search.db", time.monotonic() + 120
    while time.monotonic() < deadline and not (database.exists() and _complete(database) >= 2):
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "what was scored is kept" in errors
    assert "Traceback" not in errors
    complete = _complete(database)
    assert 2 <= complete < 400
    assert len((out / "trials.csv").read_text().splitlines()) > complete
    resumed = subprocess.run(
        [*command, "--jobs", "1", "--trials", str(complete + 3)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"{complete + 3} trials: {complete + 3} complete" in resumed.stderr


def _complete(database: Path) -> int:
    with sqlite3.connect(database, timeout=30) as connection:
        try:
            rows = connection.execute("select count(*) from trials where state = 'COMPLETE'")
            return int(rows.fetchone()[0])
        except sqlite3.OperationalError:  # its tables are being made
            return 0
