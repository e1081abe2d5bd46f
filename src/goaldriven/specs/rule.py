"""Learning rules as data: credit assignment + optimizer + metaparameters, under one name."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from goaldriven.specs.base import NamedSpec
from goaldriven.specs.credit import CreditSpec
from goaldriven.specs.optimizers import OptimizerSpec


class RuleSpec(NamedSpec):
    """A learning rule; the name is the label that classifiers learn."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$")]
    credit: CreditSpec
    optimizer: OptimizerSpec
