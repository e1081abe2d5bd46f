"""How a trial's settings are drawn, and when a trial is given up."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from goaldriven.specs.search import Pruning, SearchSpec
from goaldriven.specs.search_space import Choice, Distribution, as_number, label_of, significant


class NumberedTPE(BaseSampler):
    """Multivariate tree-structured Parzen estimators with a random stream for every trial.

    A sampler with one stream begins it again whenever a search is resumed, and draws what it has
    drawn before. Here trial n draws from stream (seed, n): what it draws depends on that and on
    the trials before it alone, so a resumed search is the same as an uninterrupted one. Trials
    that still run count as bad ones, so that those drawn beside them keep away.

    Source: Bergstra et al. 2011; multivariate: Falkner et al. 2018; Optuna's implementation.
    """

    def __init__(self, seed: int, startup_trials: int) -> None:
        self._seed = seed
        self._startup_trials = startup_trials
        self._tpe: BaseSampler | None = None

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        stream = np.random.SeedSequence([self._seed, trial.number]).generate_state(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._tpe = TPESampler(
                seed=int(stream[0]),
                n_startup_trials=self._startup_trials,
                multivariate=True,
                constant_liar=True,
            )

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._of(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        sampler = self._of(study, trial)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _of(self, study: optuna.Study, trial: FrozenTrial) -> BaseSampler:
        if self._tpe is None:
            self.before_trial(study, trial)
        assert self._tpe is not None  # narrows the type
        return self._tpe


class KeepBest(BasePruner):
    """Gives a trial up whose latest value is below the (1 − keep) quantile of completed trials'.

    Optuna's percentile pruner compares a trial's best value so far instead, which a running mean
    over variations, the first of them easy, never lowers.
    """

    def __init__(self, pruning: Pruning) -> None:
        self._pruning = pruning

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None:
            return False
        completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        others = [t.intermediate_values[step] for t in completed if step in t.intermediate_values]
        if len(others) < self._pruning.startup_trials:
            return False
        threshold = float(np.quantile(others, 1 - self._pruning.keep))
        return trial.intermediate_values[step] < threshold


def draw(trial: optuna.Trial, search: SearchSpec) -> dict[str, Any]:
    """Values for everything that the search draws, rounded as they are used."""
    digits = search.significant_digits
    return {name: _draw_one(trial, name, d, digits) for name, d in search.distributions.items()}


def _draw_one(
    trial: optuna.Trial, name: str, distribution: Distribution, digits: int | None
) -> Any:
    if isinstance(distribution, Choice):
        label = trial.suggest_categorical(name, list(distribution.labels))
        return distribution.choices[distribution.labels.index(label)]
    low, high, log = distribution.low, distribution.high, distribution.log
    if distribution.integer:
        return trial.suggest_int(name, int(low), int(high), log=log)
    return significant(trial.suggest_float(name, low, high, log=log), digits)


def as_drawn(distribution: Distribution, value: Any) -> Any:
    """A starting value as the sampler knows it."""
    if isinstance(distribution, Choice):
        return label_of(value)
    number = as_number(value)
    assert number is not None  # checked when the search was read
    return int(number) if distribution.integer else float(number)
