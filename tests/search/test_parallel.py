"""Several workers, killed workers and runs, shared and broken databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import search_scorers as scorers

from goaldriven.errors import SpecError, StudyError
from goaldriven.search import SearchFolder
from goaldriven.search import trials as trials_module
from goaldriven.search.events import Event
from goaldriven.search.results import SearchResult
from goaldriven.search.runner import run_search
from goaldriven.search.storage import open_storage, open_study
from goaldriven.search.trials import Trials

MOMENTUM = "rule.optimizer.momentum"


def run(path: Path, search, scorer=scorers.bowl, jobs: int = 0, **options) -> SearchResult:
    return run_search(SearchFolder.create(path, search), jobs=jobs, scorer=scorer, **options)


def what_happened(result: SearchResult) -> list[tuple]:
    return [(s.number, s.state, s.values, s.score, s.scores) for s in result.settings]


def test_two_workers_score_every_network_once(search_of, tmp_path):
    search = search_of(over={"model_seed": [0, 5]}, trials=8, pruning=None)
    events: list[Event] = []
    result = run(tmp_path / "out", search, scorers.slow, jobs=2, report=events.append)
    assert [s.number for s in result.settings] == list(range(8))
    assert {s.state for s in result.settings} == {"complete"}
    assert len({s.values[MOMENTUM] for s in result.settings}) == 8
    scored = [(e.number, e.step) for e in events if e.kind == "scored"]
    assert sorted(scored) == [(n, step) for n in range(8) for step in (0, 1)]
    for setting in result.settings:
        for score, variation in zip(setting.scores, search.over, strict=True):
            network = search.network(setting.values, variation)
            assert score == scorers.bowl(network, None, lambda: None)
    running = [len({n for n, _ in scored[: i + 1]}) for i in range(4)]
    assert running[-1] >= 2  # two trials at a time


def test_a_killed_worker_costs_its_network_only(search_of, tmp_path, monkeypatch):
    search = search_of(over={"model_seed": [0, 5]}, trials=6)
    monkeypatch.setenv("GOALDRIVEN_TEST_MARK", str(tmp_path / "mark"))
    events: list[Event] = []
    result = run(tmp_path / "out", search, scorers.deadly_once, jobs=1, report=events.append)
    assert [(e.number, e.step) for e in events if e.kind == "killed"] == [(0, 0)]
    assert what_happened(result) == what_happened(run(tmp_path / "whole", search))


def test_a_trial_that_kills_its_workers_has_failed(search_of, tmp_path):
    start = [{MOMENTUM: 0.9}, {MOMENTUM: 0.1}]
    search = search_of(start=start, trials=2)
    result = run(tmp_path / "out", search, scorers.deadly_when_large, jobs=1)
    assert [s.state for s in result.settings] == ["failed", "complete"]
    assert result.settings[0].failure == "its worker was killed 2 times (exit code -9)\n"


def test_a_killed_run_goes_on_as_if_nothing_had_been(search_of, tmp_path):
    """SIGKILL of the whole run: its trials in flight are taken up, with their numbers."""
    search = search_of(over={"model_seed": [0, 5]}, trials=8, pruning=None)
    process = run_apart(search, tmp_path, "out")
    assert process.stdout is not None
    scored = 0
    while scored < 5:
        scored += process.stdout.readline().startswith("scored")
    with pytest.raises(StudyError, match=f"is being searched by process {process.pid}"):
        run(tmp_path / "out", search)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    killed = open_study(search, open_storage(None, tmp_path / "out"))
    states = [t.state.name for t in killed.trials]
    assert states[:2] == ["COMPLETE", "COMPLETE"]
    assert len(states) < 8
    result = run(tmp_path / "out", search)
    assert what_happened(result) == what_happened(run(tmp_path / "whole", search))


def test_two_runs_share_a_database(search_of, tmp_path):
    """Both begin in an empty database at once; together they make the trials, each its own."""
    search = search_of(over={"model_seed": [0, 5]}, trials=10, pruning=None)
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    processes = [run_apart(search, tmp_path, out, url) for out in ("one", "two")]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    scored = [[line for line in output if line.startswith("scored")] for output in outputs]
    assert all(scored)
    study = open_study(search, open_storage(url, tmp_path))
    assert len(study.trials) in (10, 11)  # both may draw the last one
    assert {t.state.name for t in study.trials} == {"COMPLETE"}
    assert len({t.params[MOMENTUM] for t in study.trials}) == len(study.trials)
    assert len(scored[0]) + len(scored[1]) == 2 * len(study.trials)
    with pytest.raises(StudyError, match=r"storage must be the one that .* began with"):
        SearchFolder.create(tmp_path / "one", search)


def test_which_trials_of_others_are_abandoned(search_of, tmp_path, monkeypatch):
    """In a shared database: those of dead processes, silent machines, and released ones."""
    monkeypatch.setattr(trials_module, "_owner", lambda: None)
    monkeypatch.setattr(trials_module.socket, "gethostname", lambda: "here")
    now = time.time()
    owners = {
        "alive": {"host": "here", "pid": os.getpid(), "seen": now},
        "dead": {"host": "here", "pid": 2**22 + 1, "seen": now},
        "elsewhere": {"host": "there", "pid": 1, "seen": now - trials_module.SILENCE / 2},
        "silent": {"host": "there", "pid": 1, "seen": now - 2 * trials_module.SILENCE},
        "released": None,
    }
    search = search_of(trials=6)
    study = open_study(search, open_storage(None, tmp_path))
    for owner in owners.values():
        study.ask().set_user_attr("owner", owner)
    study.ask()  # has not signed yet
    events: list[Event] = []
    source = Trials(search, study, 6, False, events.append, lambda number, reason: None)
    taken = {source.next().number for _ in range(3)}
    assert [list(owners)[number] for number in sorted(taken)] == ["dead", "silent", "released"]
    assert source.next() is None


def test_a_trial_that_another_run_has_ended_is_let_go(search_of, tmp_path):
    """A machine wakes up and finds that another one has finished its trial."""
    search = search_of(trials=1)
    study = open_study(search, open_storage(None, tmp_path))
    events: list[Event] = []
    source = Trials(search, study, 1, True, events.append, lambda number, reason: None)
    unit = source.next()
    study.tell(unit.number, 0.25)
    source.scored(unit, 0.75)
    source.tick()
    assert source.next() is None
    assert [trial.value for trial in study.trials] == [0.25]
    assert events[-1].kind == "done"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("search.db", "storage must be a database URL such as sqlite:///search.db or "
         "postgresql://user@host/name, got 'search.db'"),
        ("sqlite:////no/such/folder/search.db", "storage must be a database that can be opened, "
         "got 'sqlite:////no/such/folder/search.db': .*unable to open database file"),
        ("oracel://me:secret@host/name", "storage must be a database that can be opened, got "
         r"'oracel://me:\*\*\*@host/name': Can't load plugin"),
    ],
)  # fmt: skip
def test_databases_that_cannot_be_used(url, message, tmp_path):
    with pytest.raises(SpecError, match=f"^{message}") as caught:
        open_storage(url, tmp_path)
    assert "secret" not in str(caught.value)


def test_a_database_that_goes_away_ends_the_run_with_a_word(search_of, tmp_path):
    def scorer(network, score_on, progress):
        (tmp_path / "out" / "search.db").write_bytes(b"not a database any more" * 99)
        return 0.5

    with pytest.raises(StudyError, match="storage cannot be used any more: "):
        run(tmp_path / "out", search_of(), scorer)


def test_folders_with_strange_names(search_of, tmp_path):
    out = tmp_path / "a {b} 100% ?c#d é"
    assert len(run(out, search_of(trials=2)).settings) == 2
    assert len(run(out, search_of(trials=3)).settings) == 3
    assert (out / "search.db").exists()


def test_workers_that_cannot_start_end_the_run(search_of, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(Path(__file__).parent)])
    with pytest.raises(StudyError, match="a worker process ended with exit code 1"):
        run(tmp_path / "out", search_of(), jobs=1)


def run_apart(search, folder: Path, out: str, *url: str) -> subprocess.Popen[str]:
    fields = folder / "search.json"
    fields.write_text(search.model_dump_json())
    script = Path(__file__).with_name("run_apart.py")
    command = [sys.executable, str(script), str(fields), str(folder / out), *url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
