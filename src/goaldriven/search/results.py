"""What a search has found: settings with their scores, as a table and as a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from goaldriven.search.confirm import confirmation_units, confirmed_scores
from goaldriven.specs import NetworkSpec
from goaldriven.specs.search import SearchSpec
from goaldriven.specs.search_space import label_of

State = Literal["complete", "pruned", "failed", "running"]
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


@dataclass(frozen=True)
class Setting:
    """One trial's setting and what is known of it.

    Attributes
    ----------
    number : the trial's; state : how it ended.
    values : what was drawn, by field path or variable, rounded as it was used.
    score : mean of ``scores``, one per variation; of those it got to, for a pruned trial.
    confirmed : scores on the confirmation's networks, where it was among the best.
    failure : traceback of a failed trial.
    """

    number: int
    state: State
    values: dict[str, Any]
    score: float | None
    scores: tuple[float, ...]
    seconds: float | None = None
    confirmed: tuple[float, ...] = ()
    failure: str = ""

    @property
    def confirmed_mean(self) -> float | None:
        return sum(self.confirmed) / len(self.confirmed) if self.confirmed else None


@dataclass(frozen=True)
class SearchResult:
    """All trials of a search, in their order."""

    search: SearchSpec
    settings: tuple[Setting, ...]

    @property
    def ranked(self) -> tuple[Setting, ...]:
        """Complete trials, best first: by the confirmed mean, where there is one, else the score.

        Of equals the earlier trial comes first.
        """

        def key(setting: Setting) -> tuple[bool, float, float, int]:
            score = setting.score or 0.0
            mean = setting.confirmed_mean
            first = score if mean is None else mean
            return (mean is None, -first, -score, setting.number)

        complete = [s for s in self.settings if s.state == "complete"]
        return tuple(sorted(complete, key=key))

    @property
    def best(self) -> Setting | None:
        """The best setting; None if no trial is complete."""
        return self.ranked[0] if self.ranked else None

    def network(self, setting: Setting) -> NetworkSpec:
        """The base network with a setting."""
        return self.search.network(setting.values)


def candidates(search: SearchSpec, study: optuna.Study) -> tuple[Setting, ...]:
    """The settings that the confirmation is about: the best, each different setting once."""
    if search.confirm is None:
        return ()
    return _different(search, study)[: search.confirm.best]


def _different(search: SearchSpec, study: optuna.Study) -> tuple[Setting, ...]:
    """Complete trials, best score first, each different setting once."""
    ranked = SearchResult(search, _settings(search, study, confirmed=False)).ranked
    first_of = {label_of(setting.values): setting for setting in reversed(ranked)}
    return tuple(s for s in ranked if first_of[label_of(s.values)] is s)


def collect(search: SearchSpec, study: optuna.Study) -> SearchResult:
    """What the database holds of a search."""
    return SearchResult(search, _settings(search, study, confirmed=True))


def _settings(search: SearchSpec, study: optuna.Study, confirmed: bool) -> tuple[Setting, ...]:
    # Not only of the candidates: what was learned of a setting that was among the best once is not
    # forgotten when the search goes on.
    asked = confirmed and search.confirm is not None
    chosen = {s.number for s in _different(search, study)} if asked else set()
    trials = [t for t in study.get_trials(deepcopy=False) if t.state in _STATES]
    return tuple(_setting(search, study, t, t.number in chosen) for t in trials)


def _setting(
    search: SearchSpec, study: optuna.Study, trial: FrozenTrial, confirmed: bool
) -> Setting:
    values = dict(trial.user_attrs.get("values", {}))
    scores = tuple(trial.user_attrs.get("scores", ()))
    score = trial.value
    if score is None and scores:
        score = sum(scores) / len(scores)
    again: tuple[float, ...] | None = None
    if confirmed:
        again = confirmed_scores(study, confirmation_units(search, trial.number, values))
    return Setting(
        number=trial.number,
        state=_STATES[trial.state],
        values=values,
        score=score,
        scores=scores,
        seconds=trial.duration.total_seconds() if trial.duration is not None else None,
        confirmed=again or (),
        failure=str(trial.user_attrs.get("failure", "")),
    )
