"""A search: which settings of a network to vary, and on what to score them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_serializer,
    model_validator,
)

from goaldriven.errors import SpecError, unknown
from goaldriven.specs.base import NamedSpec, RootSpec, Spec, name_only
from goaldriven.specs.network import NetworkSpec
from goaldriven.specs.search_space import (
    Derived,
    Distribution,
    Values,
    Variation,
    Variations,
    get,
    parse,
    put,
)


class TrainingSplit(NamedSpec):
    """Score on training stimuli held out, stratified; validation stimuli are never touched."""

    name: Literal["training_split"] = "training_split"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.25
    seed: NonNegativeInt = 0


class Validation(NamedSpec):
    """Score on the validation stimuli, which then no longer tell how the result generalises."""

    name: Literal["validation"] = "validation"


_SCORED_ON: dict[str, type[TrainingSplit] | type[Validation]] = {
    "training_split": TrainingSplit,
    "validation": Validation,
}


def _score_on(value: Any) -> Any:
    if isinstance(value, (TrainingSplit, Validation)):
        return value
    fields = name_only(value)
    name = fields.get("name") if isinstance(fields, Mapping) else value
    if name not in _SCORED_ON:
        raise ValueError(unknown("score_on", name, _SCORED_ON))
    return parse(_SCORED_ON[name], fields)


ScoreOn = Annotated[TrainingSplit | Validation, BeforeValidator(_score_on)]


class Pruning(Spec):
    """Stops a trial after a variation if its mean so far is below the best ``keep`` share.

    It is held against the means that the completed trials had after as many variations, as soon
    as there are ``startup_trials`` of them. ``keep`` 0.5 is the median rule.
    """

    keep: Annotated[float, Field(gt=0, lt=1)] = 0.5
    startup_trials: PositiveInt = 5


class Confirmation(Spec):
    """The ``best`` settings of a search are scored again, e.g. on other seeds and for longer.

    ``over`` and ``epochs`` replace the search's own where they are given.
    """

    best: PositiveInt = 5
    over: Variations | None = None
    epochs: PositiveInt | None = None


def _network(value: Any) -> Any:
    """The base network; nothing is recorded in a search, so ``record_every`` has no meaning."""
    if isinstance(value, NetworkSpec) or not isinstance(value, Mapping):
        return value
    if "record_every" in value:
        raise ValueError("record_every must be left out: a search records nothing but its score")
    epochs = value.get("epochs", NetworkSpec.model_fields["epochs"].default)
    valid = isinstance(epochs, int) and epochs > 0
    try:
        return NetworkSpec(**{**value, "record_every": epochs if valid else 1})
    except SpecError as error:
        raise ValueError("; ".join(str(error).splitlines())) from None


class SearchSpec(RootSpec):
    """A search for the settings under which networks score best.

    A trial draws a value for everything in ``space`` and ``variables`` and trains one network for
    each variation of ``over``: the base with the variation's fields, then the drawn fields, then
    the derived ones, in this order. Its score is the mean over variations of the task's metric
    after the last epoch; a network that diverged, or is worse than 0, counts as 0.

    Attributes
    ----------
    base : the network that is varied: task, architecture, rule, batch size, seeds, epochs.
    space : field path (``rule.optimizer.learning_rate``) → range or choices.
    variables : names that are no fields → range or choices; for ``derived`` to use.
    derived : field path → the product or the copy of other settings, in the order given.
    over : list of {field path: value}, or {field path: list} for the Cartesian product.
    start : settings to try first; what one leaves out is drawn.
    score_on : ``training_split`` (a held-out part of the training stimuli) or ``validation``.
    trials : how many in all; ``startup_trials`` of them are drawn at random.
    pruning : when to give a trial up; None never does.
    seed : of the sampler. The same seed, trials one at a time: the same search.
    significant_digits : drawn numbers are rounded to so many before use; None does not.
    confirm : the best settings are scored again.

    Raises
    ------
    SpecError : naming the field, what was given and what is allowed.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    base: Annotated[NetworkSpec, BeforeValidator(_network)]
    space: Annotated[dict[str, Distribution], Field(min_length=1)]
    variables: dict[str, Distribution] = Field(default_factory=dict)
    derived: dict[str, Derived] = Field(default_factory=dict)
    over: Variations = ({},)
    start: tuple[dict[str, Any], ...] = ()
    score_on: ScoreOn = TrainingSplit()
    trials: PositiveInt = 40
    startup_trials: PositiveInt = 10
    pruning: Pruning | None = Pruning()
    seed: NonNegativeInt = 0
    significant_digits: PositiveInt | None = None
    confirm: Confirmation | None = None

    EXTENSIBLE: ClassVar[frozenset[str]] = frozenset({"description", "trials", "confirm"})
    """Fields that may change while a search goes on: they do not decide what a trial is."""

    @field_serializer("base")
    def _without_records(self, base: NetworkSpec) -> dict[str, Any]:
        return base.model_dump(mode="json", exclude={"record_every"})

    @model_validator(mode="after")
    def _consistent(self) -> SearchSpec:
        _check_names(self)
        _check_order(self)
        _check_networks(self)
        _check_starts(self)
        return self

    @property
    def distributions(self) -> dict[str, Distribution]:
        """Everything that a trial draws."""
        return {**self.space, **self.variables}

    @property
    def confirm_over(self) -> tuple[Variation, ...]:
        """The variations that the best settings are scored on again."""
        return self.over if self.confirm is None or self.confirm.over is None else self.confirm.over

    @property
    def first_values(self) -> dict[str, Any]:
        """One valid setting: the low ends and the first choices."""
        return {name: d.examples[0] for name, d in self.distributions.items()}

    def identity(self) -> dict[str, Any]:
        """What makes it this search and no other, as plain data.

        The base stands there as the network that one setting makes of it, so that it is the same
        search after a rule of the catalogue has got other values for what is searched.
        """
        fields = {k: v for k, v in self.model_dump(mode="json").items() if k not in self.EXTENSIBLE}
        return {**fields, "base": self.network(self.first_values).model_dump(mode="json")}

    def network(
        self, values: Values, variation: Values | None = None, epochs: int | None = None
    ) -> NetworkSpec:
        """The network that the drawn ``values`` make of one variation of the base.

        Raises
        ------
        SpecError : it is not a valid network.
        """
        fields = self.base.model_dump(mode="json")
        fields["epochs"] = epochs or fields["epochs"]
        space = {path: values[path] for path in self.space}
        try:
            for path, value in (*_outermost_first(variation or {}), *_outermost_first(space)):
                fields = put(fields, path, value)
            for path, derived in self.derived.items():
                fields = put(fields, path, derived.value(_lookup(values, _expanded(fields))))
        except SpecError:
            raise
        except ValueError as error:
            raise SpecError(str(error)) from None
        return _expand(fields)


def _expand(fields: Mapping[str, Any]) -> NetworkSpec:
    return NetworkSpec(**{**fields, "record_every": fields["epochs"]})


def _expanded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Names written out: a rule given by name has the fields of that rule."""
    return _expand(fields).model_dump(mode="json")


def _lookup(values: Values, fields: Mapping[str, Any]) -> Any:
    return lambda name: values[name] if name in values else get(fields, name)


def _outermost_first(settings: Values) -> list[tuple[str, Any]]:
    """A whole rule before a field of it, whatever the order in the file."""
    return sorted(settings.items(), key=lambda item: item[0].count("."))


def _check_names(search: SearchSpec) -> None:
    """Variables are no fields and are used; derived settings refer to what there is."""
    for name in search.variables:
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or name in NetworkSpec.model_fields:
            raise ValueError(
                f"variables: a name must be made of letters, digits and '_' and be no field of a "
                f"network, got {name!r}"
            )
    fields = search.base.model_dump(mode="json")
    for path, derived in search.derived.items():
        for name in derived.names:
            if name in search.distributions or name in search.derived or _has(fields, name):
                continue
            known = (*search.distributions, *search.derived)
            raise ValueError(
                unknown(f"derived.{path}: a name, if not a field of the base,", name, known)
            )
    used = {name for derived in search.derived.values() for name in derived.names}
    for name in search.variables:
        if name not in used:
            raise ValueError(f"variables.{name} must be used in derived, which it is not")


def _has(fields: Mapping[str, Any], path: str) -> bool:
    try:
        get(fields, path)
    except KeyError:
        return False
    return True


def _check_order(search: SearchSpec) -> None:
    """What is set later must not undo what was set before: over, then space, then derived."""
    over = dict.fromkeys(p for v in (*search.over, *search.confirm_over) for p in v)
    groups: list[tuple[str, Iterable[str]]] = [
        ("over", over), ("space", search.space), ("derived", search.derived),
    ]  # fmt: skip
    for i, (later, paths) in enumerate(groups):
        for earlier, set_before in groups[:i]:
            for path in paths:
                undone = [p for p in set_before if f"{p}.".startswith(f"{path}.")]
                if undone:
                    raise ValueError(
                        f"{later}.{path} must not set what {earlier} sets, got {undone[0]!r} in "
                        f"{earlier}"
                    )
    if "record_every" in {path for _, paths in groups for path in paths}:
        raise ValueError("record_every must be left out: a search records nothing but its score")


def _check_networks(search: SearchSpec) -> None:
    """Every setting by itself, at the ends of its range and at each choice, makes a network."""
    for name, over, epochs in _stages(search):
        for i, variation in enumerate(over):
            first = search.first_values
            where = f"{name}[{i}]: " if variation else ""
            _check_network(search, first, variation, epochs, f"{where}space: ")
            for path, distribution in search.distributions.items():
                field = f"{'space' if path in search.space else 'variables'}.{path}"
                for value in distribution.examples[1:]:
                    shown = f"{value:.4g}" if isinstance(value, float) else value
                    here = f"{where}{field} at {shown}: "
                    _check_network(search, {**first, path: value}, variation, epochs, here)


def _stages(search: SearchSpec) -> Iterator[tuple[str, Iterable[Variation], int | None]]:
    yield "base", ({},), None  # of which the best setting is reported
    yield "over", search.over if search.over != ({},) else (), None
    if search.confirm is not None:
        yield "confirm.over", search.confirm_over, search.confirm.epochs


def _check_network(
    search: SearchSpec, values: Values, variation: Variation, epochs: int | None, where: str
) -> None:
    try:
        network = search.network(values, variation, epochs)
    except SpecError as error:
        raise ValueError("; ".join(f"{where}{line}" for line in str(error).splitlines())) from None
    known = [n for n in (network.task.train_limit, network.task.available_train) if n is not None]
    if not known or not isinstance(search.score_on, TrainingSplit):
        return
    kept = min(known) - round(min(known) * search.score_on.fraction)
    if network.batch_size > kept:
        raise ValueError(
            f"{where}batch_size must be at most the {kept} training stimuli of task "
            f"{network.task.name} that score_on leaves, got {network.batch_size}"
        )


def _check_starts(search: SearchSpec) -> None:
    for i, start in enumerate(search.start):
        for path, value in start.items():
            if path not in search.distributions:
                raise ValueError(unknown(f"start[{i}]: every key", path, search.distributions))
            problem = search.distributions[path].problem(value)
            if problem is not None:
                raise ValueError(f"start[{i}].{path} {problem}")
