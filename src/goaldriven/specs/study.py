"""A study: a grid of networks."""

from __future__ import annotations

import itertools
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from goaldriven.errors import SpecError, unknown
from goaldriven.specs.architectures import ARCHITECTURES, ArchitectureSpec
from goaldriven.specs.base import RootSpec, Spec
from goaldriven.specs.network import NetworkSpec
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


FACTORS: tuple[str, ...] = (
    "task", "architecture", "rule", "batch_size", "model_seed", "data_seed",
)  # fmt: skip


def factor(network: NetworkSpec, name: str) -> str | int:
    """A network's level of one of the six factors; variants count by their name."""
    value = getattr(network, name)
    return value if isinstance(value, int) else str(value.name)


class Study(RootSpec):
    """A grid of networks: the Cartesian product of the lists, less the exclusions.

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
        self.networks()
        return self

    def networks(self) -> tuple[NetworkSpec, ...]:
        """All networks of the grid, in the order of the lists.

        Raises
        ------
        SpecError : a combination is impossible, or nothing is left after the exclusions.
        """
        grid = itertools.product(
            self.tasks, self.architectures, self.rules,
            self.batch_sizes, self.model_seeds, self.data_seeds,
        )  # fmt: skip
        combinations = [self._network(*choice) for choice in grid]
        kept = tuple(n for n in combinations if not any(e.matches(n) for e in self.exclude))
        if not kept:
            raise SpecError(
                f"exclude must leave at least one network, got 0 of {len(combinations)}"
            )
        return kept

    def _network(self, *choice: object) -> NetworkSpec:
        fields = dict(zip(FACTORS, choice, strict=True))
        return NetworkSpec(**fields, epochs=self.epochs, record_every=self.record_every)
