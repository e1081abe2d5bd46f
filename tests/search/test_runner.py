"""Running searches: found, resumed, interrupted, killed, confirmed."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import search_scorers as scorers
import yaml

from goaldriven.errors import StudyError
from goaldriven.search import SearchFolder
from goaldriven.search import trials as trials_module
from goaldriven.search.events import Event
from goaldriven.search.results import SearchResult
from goaldriven.search.runner import run_search
from goaldriven.search.storage import open_storage, open_study
from goaldriven.studies.files import load_study, study_from_yaml

RATE, MOMENTUM = "rule.optimizer.learning_rate", "rule.optimizer.momentum"


def run(path: Path, search, scorer=scorers.bowl, jobs: int = 0, **options) -> SearchResult:
    return run_search(SearchFolder.create(path, search), jobs=jobs, scorer=scorer, **options)


def what_happened(result: SearchResult) -> list[tuple]:
    return [(s.number, s.state, s.values, s.score, s.scores) for s in result.settings]


@pytest.fixture(scope="module")
def pruned_search(search_of):
    """Two variations a trial, some of them pruned."""
    return search_of(
        over={"model_seed": [0, 5]}, trials=14, pruning={"keep": 0.5, "startup_trials": 3}
    )


@pytest.fixture(scope="module")
def uninterrupted(pruned_search, tmp_path_factory):
    return run(tmp_path_factory.mktemp("search") / "whole", pruned_search)


def test_scores_are_means_over_variations_and_the_best_is_the_best(uninterrupted, pruned_search):
    states = [s.state for s in uninterrupted.settings]
    assert len(states) == 14
    assert set(states) == {"complete", "pruned"}
    for setting in uninterrupted.settings:
        variations = pruned_search.over[: len(setting.scores)]
        expected = [
            scorers.bowl(pruned_search.network(setting.values, v), None, lambda: None)
            for v in variations
        ]
        assert list(setting.scores) == expected
        assert setting.score == pytest.approx(np.mean(expected))
        assert (setting.state == "complete") == (len(setting.scores) == 2)
    complete = [s for s in uninterrupted.settings if s.state == "complete"]
    assert uninterrupted.best.score == max(s.score for s in complete)
    assert uninterrupted.best.score > 0.9


def test_resumed_equals_uninterrupted(uninterrupted, pruned_search, search_of, tmp_path):
    for trials in (1, 3, 5, 9):
        part = run(tmp_path / "parts", pruned_search.model_copy(update={"trials": trials}))
        assert len(part.settings) == trials
    whole = run(tmp_path / "parts", pruned_search)
    assert what_happened(whole) == what_happened(uninterrupted)
    calls = []
    again = run(tmp_path / "parts", pruned_search, lambda *a: calls.append(a))
    assert not calls
    assert what_happened(again) == what_happened(uninterrupted)


@pytest.mark.parametrize("after", [0, 1, 2, 9])
def test_interrupted_in_the_middle_of_a_trial(after, uninterrupted, pruned_search, tmp_path):
    """Ctrl-C while the network after so many is scored: nothing scored is scored again."""
    done: list[str] = []

    def interrupted(network, score_on, progress):
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(network.network_id)
        return scorers.bowl(network, score_on, progress)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", pruned_search, interrupted)
    if after >= 2:
        assert (tmp_path / "parts" / "trials.csv").exists()  # the results so far
    again: list[str] = []

    def counted(network, score_on, progress):
        again.append(network.network_id)
        return scorers.bowl(network, score_on, progress)

    result = run(tmp_path / "parts", pruned_search, counted)
    assert what_happened(result) == what_happened(uninterrupted)
    assert not set(done) & set(again)
    assert len(done) + len(again) == sum(len(s.scores) for s in uninterrupted.settings)


def test_ctrl_c_waits_for_the_end_of_a_transaction(uninterrupted, pruned_search, tmp_path):
    """SIGINT while an outcome is being written: it is written, then the run stops."""
    seen: list[Event] = []

    def interrupt(event: Event) -> None:
        seen.append(event)
        if [e.kind for e in seen].count("scored") == 4 and event.kind == "scored":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", pruned_search, report=interrupt)
    written = open_study(pruned_search, open_storage(None, tmp_path / "parts"))
    assert sum(len(t.user_attrs["scores"]) for t in written.trials) == 4
    assert written.trials[-1].state.name != "RUNNING"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert what_happened(run(tmp_path / "parts", pruned_search)) == what_happened(uninterrupted)


def test_what_a_dead_run_left_half_written_is_completed(uninterrupted, pruned_search, tmp_path):
    """Trials that were asked for and not drawn, drawn and not scored, scored and not reported."""
    for state in ("asked", "drawn", "scored"):
        folder = SearchFolder.create(tmp_path / state, pruned_search)
        study = open_study(pruned_search, open_storage(None, folder.path))
        trial = study.ask()
        if state != "asked":
            trials_module.draw(trial, pruned_search)
        if state == "scored":
            trial.set_user_attr("scores", list(uninterrupted.settings[0].scores[:1]))
        del study
        result = run(tmp_path / state, pruned_search)
        assert what_happened(result) == what_happened(uninterrupted)


def test_a_changed_search_is_refused_and_a_longer_one_goes_on(search_of, tmp_path):
    first = run(tmp_path / "out", search_of(trials=3))
    changed = search_of(trials=3, seed=1, over={"model_seed": [1]})
    with pytest.raises(StudyError) as caught:
        SearchFolder.create(tmp_path / "out", changed)
    assert str(caught.value) == (
        f"out must be a folder of search 'bowl' as it stands in the file; '{tmp_path / 'out'}' "
        "belongs to search 'bowl', which differs in over, seed; give another --out"
    )
    longer = run(tmp_path / "out", search_of(trials=5, description="more", confirm={"best": 1}))
    assert what_happened(longer)[:3] == what_happened(first)
    assert len(longer.settings) == 5
    with pytest.raises(StudyError, match=r"holds another search called 'bowl', .* differs in seed"):
        open_study(search_of(seed=3), open_storage(None, tmp_path / "out"))


def test_starting_points_come_first_and_are_completed_by_drawing(search_of, tmp_path):
    start = [{RATE: "1e-2", MOMENTUM: 0.3}, {RATE: 0.5}]
    result = run(tmp_path / "out", search_of(start=start, trials=4))
    first, second, third = result.settings[:3]
    assert first.values == {RATE: 1e-2, MOMENTUM: 0.3}
    assert first.score == 1.0
    assert second.values[RATE] == 0.5
    assert 0 <= second.values[MOMENTUM] < 0.99
    assert third.values[RATE] not in (1e-2, 0.5)
    assert result.best is first


def test_failed_trials_are_recorded_and_the_search_goes_on(search_of, tmp_path):
    result = run(tmp_path / "out", search_of(trials=10), scorers.picky)
    failed = [s for s in result.settings if s.state == "failed"]
    assert len(result.settings) == 10
    assert 0 < len(failed) < 10
    for setting in result.settings:
        assert (setting.state == "failed") == (setting.values[MOMENTUM] > 0.5)
    traceback = (tmp_path / "out" / "failed" / f"trial-{failed[0].number:04d}.txt").read_text()
    assert traceback == failed[0].failure
    assert traceback.startswith("Traceback")
    assert "in picky" in traceback
    lines = [*csv.DictReader((tmp_path / "out" / "trials.csv").open())]
    message = f"RuntimeError: no momentum of {failed[0].values[MOMENTUM]}"
    assert lines[failed[0].number]["failure"] == message


def test_settings_that_make_no_network_fail_by_themselves(search_of, tmp_path):
    """Each end of the range is valid on its own, their combination is not."""
    search = search_of(
        space={"task.train_limit": [1000, 30], "batch_size": [20, 64]}, score_on="validation",
        start=[{"task.train_limit": 30, "batch_size": 64}], trials=6,
    )  # fmt: skip
    result = run(tmp_path / "out", search)
    assert result.settings[0].state == "failed"
    assert "batch_size must be at most the 30 training stimuli" in result.settings[0].failure
    assert any(s.state == "complete" for s in result.settings)


def test_confirmation_tells_a_robust_setting_from_a_lucky_one(search_of, tmp_path):
    """The best on seed 0 lies beyond the edge of stability of all other seeds."""
    fields = {
        "base": {"task": "digits", "architecture": "knet4", "rule": "sgdm", "epochs": 2},
        "space": {RATE: [0.05, 0.1, 0.2, 0.4]}, "trials": 12, "startup_trials": 12,
        "start": [{RATE: r} for r in (0.4, 0.2, 0.1, 0.1, 0.05)],
        "confirm": {"best": 3, "over": {"model_seed": [1, 2]}, "epochs": 7},
    }  # fmt: skip
    search = search_of(**fields)
    confirmed = []

    def scorer(network, score_on, progress):
        if network.model_seed:
            confirmed.append((network.epochs, network.model_seed))
        return scorers.fragile(network, score_on, progress)

    events: list[Event] = []
    result = run(tmp_path / "out", search, scorer, report=events.append)
    assert [s.values[RATE] for s in result.ranked[:3]] == [0.1, 0.4, 0.2]
    assert result.best.confirmed == (0.1, 0.1)
    assert result.best.number == 2  # the first of the equal settings
    assert result.ranked[1].confirmed == (0.0, 0.0)
    assert sorted(confirmed) == sorted([(7, 1), (7, 2)] * 3)
    begun = {e.stage: e.number for e in events if e.kind == "begin"}
    assert begun == {"search": 12, "confirm": 3}
    again = run(tmp_path / "out", search, scorer)
    assert len(confirmed) == 6  # kept from the first run
    assert again.ranked == result.ranked
    fewer = run(
        tmp_path / "out", search_of(**fields | {"confirm": fields["confirm"] | {"best": 1}}), scorer
    )
    assert fewer.ranked == result.ranked  # a setting's confirmation outlives its place at the top


def test_best_yaml_is_a_study_with_the_best_rule(search_of, tmp_path):
    search = search_of(
        derived={"rule.optimizer.weight_decay": {"product": ["batch_size", RATE, 1e-3]}},
        confirm={"best": 2, "over": {"model_seed": [3]}},
    )
    result = run(tmp_path / "out", search)
    study = load_study(tmp_path / "out" / "best.yaml")
    (network,) = study.networks()
    assert network == result.network(result.best)
    optimizer = network.rule.optimizer
    assert optimizer.learning_rate == result.best.values[RATE]
    assert optimizer.weight_decay == pytest.approx(64 * optimizer.learning_rate * 1e-3)
    pasted = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())["rules"]
    other = {"name": "s", "tasks": ["digits"], "architectures": ["knet5"], "rules": pasted}
    (elsewhere,) = study_from_yaml(yaml.safe_dump(other)).networks()
    assert elsewhere.rule == network.rule


def test_trials_csv_has_every_trial(uninterrupted, pruned_search, tmp_path):
    run(tmp_path / "out", pruned_search)
    lines = [*csv.DictReader((tmp_path / "out" / "trials.csv").open())]
    assert len(lines) == 14
    for line, setting in zip(lines, uninterrupted.settings, strict=True):
        assert (int(line["trial"]), line["state"]) == (setting.number, setting.state)
        assert float(line["score"]) == setting.score
        assert {n: float(line[n]) for n in (RATE, MOMENTUM)} == setting.values
        scores = [line[f"score: model_seed={seed}"] for seed in (0, 5)]
        assert [float(s) for s in scores if s] == list(setting.scores)
