"""A study: a grid of networks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from goaldriven.errors import SpecError, unknown
from goaldriven.specs.architectures import ARCHITECTURES, ArchitectureSpec
from goaldriven.specs.base import RootSpec, Spec, explain, merge
from goaldriven.specs.network import NetworkSpec
from goaldriven.specs.rule import RuleSpec
from goaldriven.specs.rules import NamedRule
from goaldriven.specs.tasks import TASKS, TaskSpec


class Exclusion(Spec):
    """Leaves out every network that agrees with all the fields given."""

    task: str | None = None
    architecture: str | None = None
    rule: str | None = None
    batch_size: PositiveInt | None = None
    model_seed: NonNegativeInt | None = None
    data_seed: NonNegativeInt | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Exclusion:
        if not self.model_fields_set:
            raise ValueError("exclude: each entry must name at least one field, got {}")
        if self.task is not None and self.task not in TASKS:
            raise ValueError(unknown("task", self.task, TASKS))
        if self.architecture is not None and self.architecture not in ARCHITECTURES:
            raise ValueError(unknown("architecture", self.architecture, ARCHITECTURES))
        return self

    def matches(self, network: NetworkSpec) -> bool:
        given = self.model_dump(exclude_none=True)
        return all(factor(network, field) == value for field, value in given.items())


class Adjustment(Spec):
    """Settings that the tasks or rules of some networks have otherwise than the study's lists say.

    Attributes
    ----------
    tasks, architectures, rules : names; the networks of these, left out for those of all.
    task, rule : settings laid over the task's and the rule's, nested ones key by key. Names stay.
    """

    tasks: tuple[str, ...] | None = None
    architectures: tuple[str, ...] | None = None
    rules: tuple[str, ...] | None = None
    task: dict[str, Any] = Field(default_factory=dict)
    rule: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _says_something(self) -> Adjustment:
        if not self.task and not self.rule:
            raise ValueError("adjust: each entry must give settings of task or rule, got neither")
        for field in ("task", "rule"):
            if "name" in getattr(self, field):
                raise ValueError(
                    f"adjust: {field} must keep its name, got {getattr(self, field)['name']!r}"
                )
        return self

    def matches(self, task: str, architecture: str, rule: str) -> bool:
        return all(
            names is None or name in names
            for names, name in (
                (self.tasks, task),
                (self.architectures, architecture),
                (self.rules, rule),
            )
        )


FACTORS: tuple[str, ...] = (
    "task", "architecture", "rule", "batch_size", "model_seed", "data_seed",
)  # fmt: skip


def factor(network: NetworkSpec, name: str) -> str | int:
    """A network's level of one of the six factors; variants count by their name."""
    value = getattr(network, name)
    return value if isinstance(value, int) else str(value.name)


class Study(RootSpec):
    """A grid of networks: the Cartesian product of the lists, less the exclusions.

    ``adjust``: settings of tasks and rules that depend on what they are combined with; one
    adjustment after the other.

    Examples
    --------
    >>> study = Study(name="tiny", tasks=["digits"], architectures=["knet4"],
    ...               rules=["sgdm", "fa"], model_seeds=[0, 1])
    >>> len(study.networks())
    4
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    tasks: Annotated[tuple[TaskSpec, ...], Field(min_length=1)]
    architectures: Annotated[tuple[ArchitectureSpec, ...], Field(min_length=1)]
    rules: Annotated[tuple[NamedRule, ...], Field(min_length=1)]
    batch_sizes: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (64,)
    model_seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    data_seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    epochs: PositiveInt = 100
    record_every: PositiveInt = 5
    exclude: tuple[Exclusion, ...] = ()
    adjust: tuple[Adjustment, ...] = ()

    @model_validator(mode="after")
    def _no_repeats(self) -> Study:
        for field in (
            "tasks", "architectures", "rules", "batch_sizes", "model_seeds", "data_seeds",
        ):  # fmt: skip
            values = getattr(self, field)
            repeated = [v for i, v in enumerate(values) if v in values[:i]]
            if repeated:
                what = getattr(repeated[0], "name", repeated[0])
                raise ValueError(f"{field} must not repeat a choice, got {what!r} twice")
        for adjustment in self.adjust:
            for field in ("tasks", "architectures", "rules"):
                known = [choice.name for choice in getattr(self, field)]
                for name in getattr(adjustment, field) or ():
                    if name not in known:
                        raise ValueError(unknown(f"adjust: {field}: every name", name, known))
        self.networks()
        return self

    def networks(self) -> tuple[NetworkSpec, ...]:
        """All networks of the grid, in the order of the lists.

        Raises
        ------
        SpecError : a combination is impossible, or nothing is left after the exclusions.
        """
        grid = itertools.product(
            self._adjusted(), self.batch_sizes, self.model_seeds, self.data_seeds
        )
        combinations = [self._network(*chosen, *curriculum) for chosen, *curriculum in grid]
        kept = tuple(n for n in combinations if not any(e.matches(n) for e in self.exclude))
        if not kept:
            raise SpecError(
                f"exclude must leave at least one network, got 0 of {len(combinations)}"
            )
        return kept

    def _adjusted(self) -> Iterator[tuple[TaskSpec, ArchitectureSpec, RuleSpec]]:
        """The combinations of the first three lists, with the settings they have together."""
        for task, architecture, rule in itertools.product(
            self.tasks, self.architectures, self.rules
        ):
            changes = [a for a in self.adjust if a.matches(task.name, architecture.name, rule.name)]
            yield (
                _changed(task, _TASK, [a.task for a in changes]),
                architecture,
                _changed(rule, _RULE, [a.rule for a in changes]),
            )

    def _network(self, *choice: object) -> NetworkSpec:
        fields = dict(zip(FACTORS, choice, strict=True))
        return NetworkSpec(**fields, epochs=self.epochs, record_every=self.record_every)


_TASK: TypeAdapter[Any] = TypeAdapter(TaskSpec)
_RULE: TypeAdapter[Any] = TypeAdapter(RuleSpec)


def _changed(choice: Any, kind: TypeAdapter[Any], changes: Iterable[Mapping[str, Any]]) -> Any:
    """A task or rule with changes laid over it.

    Raises
    ------
    SpecError : a setting that it has not, or cannot have.
    """
    changes = [change for change in changes if change]
    if not changes:
        return choice
    fields = choice.model_dump()
    for change in changes:
        fields = merge(fields, change)
    try:
        return kind.validate_python(fields)
    except ValidationError as error:
        complaints = explain(error, type(choice)).splitlines()
        raise SpecError("\n".join(f"adjust: {choice.name}: {c}" for c in complaints)) from None
