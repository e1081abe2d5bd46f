"""Learning rules as data: credit assignment + optimizer + metaparameters, under one name."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from goaldriven.specs.base import NamedSpec
from goaldriven.specs.credit import CreditSpec
from goaldriven.specs.optimizers import OptimizerSpec


class RuleSpec(NamedSpec):
    """A learning rule; the name is the label that classifiers learn."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$")]
    credit: CreditSpec
    optimizer: OptimizerSpec

    @model_validator(mode="after")
    def _backward_weights_without_biases(self) -> RuleSpec:
        if getattr(getattr(self.credit, "optimizer", None), "decay_biases", False):
            raise ValueError(
                "credit.optimizer.decay_biases must be false, as backward weights have no biases, "
                "got true"
            )
        return self
