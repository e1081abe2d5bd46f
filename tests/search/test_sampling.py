"""What is drawn, and when a trial is given up."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import optuna
import pytest
import search_scorers as scorers
from scipy import stats

from goaldriven.search.sampling import KeepBest, NumberedTPE, as_drawn, draw
from goaldriven.specs.search import Pruning, SearchSpec

optuna.logging.set_verbosity(optuna.logging.WARNING)


def new_study(search: SearchSpec, sampler=None) -> optuna.Study:
    sampler = sampler or NumberedTPE(search.seed, search.startup_trials)
    return optuna.create_study(direction="maximize", sampler=sampler)


def run(study: optuna.Study, search: SearchSpec, trials: int) -> list[dict]:
    drawn = []
    for _ in range(trials):
        trial = study.ask()
        values = draw(trial, search)
        network = search.network(values)
        study.tell(trial, scorers.bowl(network, search.score_on, lambda: None))
        drawn.append(values)
    return drawn


def test_random_draws_follow_the_stated_distributions():
    search = SearchSpec(
        name="s",
        base={"task": "digits", "architecture": "knet4", "rule": "sgdm", "epochs": 1},
        space={
            "rule.optimizer.learning_rate": {"low": "1e-4", "high": 10, "log": True},
            "rule.optimizer.momentum": {"low": 0.1, "high": 0.9},
            "model_seed": {"low": 3, "high": 6, "integer": True},
            "batch_size": [32, 64, 128],
        },
        startup_trials=400,
    )
    drawn = run(new_study(search), search, 400)
    columns = {name: [d[name] for d in drawn] for name in search.space}
    rates = np.log10(columns["rule.optimizer.learning_rate"])
    assert stats.kstest(rates, "uniform", args=(-4, 5)).pvalue > 0.01
    momenta = columns["rule.optimizer.momentum"]
    assert stats.kstest(momenta, "uniform", args=(0.1, 0.8)).pvalue > 0.01
    for name, values in (("model_seed", [3, 4, 5, 6]), ("batch_size", [32, 64, 128])):
        counts = Counter(columns[name])
        assert sorted(counts) == values
        assert stats.chisquare(list(counts.values())).pvalue > 0.01
    assert all(isinstance(value, int) for value in columns["model_seed"])


def test_numbers_are_rounded_and_nothing_else(search_of):
    search = search_of(
        space={
            "rule.optimizer.learning_rate": {"low": 1e-3, "high": 1},
            "rule.optimizer.momentum": [0.123, 0.456],
            "data_seed": {"low": 100, "high": 999, "integer": True},
        },
        significant_digits=2,
    )
    drawn = run(new_study(search), search, 12)
    for values in drawn:
        rate = values["rule.optimizer.learning_rate"]
        assert rate == pytest.approx(float(np.format_float_positional(rate, 2, fractional=False)))
        assert values["rule.optimizer.momentum"] in (0.123, 0.456)
    assert any(values["data_seed"] % 10 for values in drawn)


def test_a_trial_draws_the_same_after_a_restart(search_of):
    """A new sampler for every trial, as after a resume, changes nothing; the trials differ."""
    search = search_of(trials=12)
    together = run(new_study(search), search, 12)
    study, apart = new_study(search), []
    for _ in range(12):
        study.sampler = NumberedTPE(search.seed, search.startup_trials)
        apart += run(study, search, 1)
    assert apart == together
    assert len({values["rule.optimizer.momentum"] for values in together}) == 12
    assert run(new_study(search_of(seed=1)), search_of(seed=1), 2) != together[:2]


def test_tpe_finds_the_bowl_better_than_chance(search_of):
    """Mean over seeds of the best of 40, with a random search of the same streams beside it."""
    best: dict[int, list[float]] = {8: [], 40: []}
    for startup, found in best.items():
        for seed in range(5):
            search = search_of(seed=seed, startup_trials=startup)
            study = new_study(search)
            run(study, search, 40)
            found.append(study.best_value)
    print(best)
    assert np.mean(best[8]) > 0.99
    assert np.mean(1 - np.array(best[8])) < 0.3 * np.mean(1 - np.array(best[40]))


def test_pruning_is_the_quantile_rule():
    """Against a count by hand: pruned unless at least as good as the (1 − keep) quantile."""
    rng = np.random.default_rng(0)
    pruner = KeepBest(Pruning(keep=0.3, startup_trials=4))
    study = optuna.create_study(direction="maximize", pruner=pruner)
    completed: list[list[float]] = []
    pruned = 0
    for _ in range(60):
        trial, means = study.ask(), []
        for step in range(3):
            means.append(float(rng.normal()))
            trial.report(means[-1], step)
            before = sorted(values[step] for values in completed)
            expected = False
            if len(before) >= 4:
                position = 0.7 * (len(before) - 1)
                below, share = math.floor(position), position % 1
                above = min(below + 1, len(before) - 1)
                threshold = before[below] + share * (before[above] - before[below])
                expected = means[-1] < threshold
            assert trial.should_prune() == expected
            if expected:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                pruned += 1
                break
        else:
            completed.append(means)
            study.tell(trial, means[-1])
    assert 20 < pruned < 60


def test_a_good_first_variation_does_not_protect_a_trial():
    """The running mean falls; Optuna's percentile pruner looks at the best value so far."""
    pruner = KeepBest(Pruning(keep=0.5, startup_trials=1))
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for _ in range(3):
        trial = study.ask()
        for step, mean in enumerate((0.6, 0.55)):
            trial.report(mean, step)
        study.tell(trial, 0.55)
    trial = study.ask()
    trial.report(0.9, 0)
    assert not trial.should_prune()
    trial.report(0.5, 1)
    assert trial.should_prune()


def test_starting_values_become_what_the_sampler_knows(search_of):
    search = search_of(
        space={"rule.optimizer.learning_rate": {"low": 1e-4, "high": 1, "log": True},
               "rule.optimizer.reference_batch_size": [None, 64]}
    )  # fmt: skip
    rate, reference = search.distributions.values()
    assert as_drawn(rate, "1e-3") == 1e-3
    assert as_drawn(reference, None) == "null"
    assert as_drawn(reference, 64) == "64"
    study = new_study(search)
    study.enqueue_trial({"rule.optimizer.reference_batch_size": "null"})
    assert draw(study.ask(), search)["rule.optimizer.reference_batch_size"] is None
