"""One network: task × architecture × rule × batch size × model seed × data seed."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from goaldriven.specs.architectures import ArchitectureSpec
from goaldriven.specs.base import RootSpec
from goaldriven.specs.rules import NamedRule
from goaldriven.specs.tasks import TaskSpec


class NetworkSpec(RootSpec):
    """Everything that decides a network, its training and what is recorded of it.

    Attributes
    ----------
    task, architecture, rule : a name (``"digits"``, ``"knet4"``, ``"ia"``) or a spec or a mapping.
    batch_size : stimuli per training step.
    model_seed : sets the initial forward and backward weights and nothing else.
    data_seed : sets the order and the augmentation of the stimuli and nothing else.
    epochs : passes over the training stimuli.
    record_every : epochs between records; the initial network is always recorded.

    Raises
    ------
    SpecError : naming the field, what was given and what is allowed.

    Examples
    --------
    >>> spec = NetworkSpec(task="digits", architecture="knet4", rule="fa")
    >>> spec.rule.credit.name, spec.batch_size, len(spec.network_id)
    ('feedback_alignment', 64, 12)
    """

    task: TaskSpec
    architecture: ArchitectureSpec
    rule: NamedRule
    batch_size: Annotated[int, Field(ge=2)] = 64
    model_seed: NonNegativeInt = 0
    data_seed: NonNegativeInt = 0
    epochs: PositiveInt = 100
    record_every: PositiveInt = 5

    @model_validator(mode="after")
    def _consistent(self) -> NetworkSpec:
        if self.epochs % self.record_every:
            raise ValueError(
                f"record_every must divide epochs ({self.epochs}), got {self.record_every}"
            )
        limits = [n for n in (self.task.train_limit, self.task.available_train) if n is not None]
        if limits and self.batch_size > min(limits):
            raise ValueError(
                f"batch_size must be at most the {min(limits)} training stimuli of task "
                f"{self.task.name}, got {self.batch_size}"
            )
        return self

    @cached_property
    def network_id(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:12]

    def canonical_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def record_epochs(self) -> tuple[int, ...]:
        """Epochs after which the network is recorded; 0 is the initial network."""
        return tuple(range(0, self.epochs + 1, self.record_every))

    @property
    def label(self) -> str:
        """For people: ``digits/knet4/ia/b64/m0/d0``."""
        return (
            f"{self.task.name}/{self.architecture.name}/{self.rule.name}"
            f"/b{self.batch_size}/m{self.model_seed}/d{self.data_seed}"
        )
