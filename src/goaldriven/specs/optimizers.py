"""Optimizers as data: what a weight makes of its (pseudo)gradient."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from goaldriven.specs.base import NamedSpec, Spec, name_only


class Schedule(Spec):
    """Linear warm-up from 0, then a drop by ``drop_factor`` at each of ``drop_epochs``."""

    warmup_epochs: NonNegativeInt = 0
    drop_epochs: tuple[PositiveInt, ...] = ()
    drop_factor: PositiveFloat = 0.1

    @model_validator(mode="after")
    def _ascending(self) -> Schedule:
        if list(self.drop_epochs) != sorted(set(self.drop_epochs)):
            raise ValueError(f"drop_epochs must ascend without repeats, got {self.drop_epochs}")
        return self


class _Decaying(NamedSpec):
    """What L2 acts on. A file that does not ask for biases reads as it did before they could be."""

    decay_biases: bool = False

    @model_serializer(mode="wrap")
    def _without_default(self, fields_of: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = fields_of(self)
        if not self.decay_biases:
            fields.pop("decay_biases", None)  # ids of networks are hashes of these fields
        return fields


class SGDM(_Decaying):
    """Stochastic gradient descent with Nesterov momentum; momentum 0 is plain descent.

    ``weight_decay`` is λ of an L2 penalty (λ/2)‖W‖² on the forward kernels, and with
    ``decay_biases`` on the biases of their layers, never on normalisation.
    ``reference_batch_size``: the learning rate is multiplied by batch size over this; None leaves
    it as it is. ``update_noise`` is the variance of the Gaussian noise of noisy updates: the
    learning rate times N(0, variance) is added to every weight after its step.
    """

    name: Literal["sgdm"] = "sgdm"
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: NonNegativeFloat = 0.0
    reference_batch_size: PositiveInt | None = 256
    schedule: Schedule = Schedule()
    update_noise: NonNegativeFloat = 0.0


class Adam(_Decaying):
    """Adam; ``weight_decay`` is an L2 penalty on the kernels, inside the gradient (not AdamW).

    ``decay_biases``, ``reference_batch_size`` and ``update_noise`` are those of `SGDM`.
    """

    name: Literal["adam"] = "adam"
    learning_rate: PositiveFloat
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    reference_batch_size: PositiveInt | None = None
    schedule: Schedule = Schedule()
    update_noise: NonNegativeFloat = 0.0


OptimizerSpec = Annotated[
    Annotated[SGDM | Adam, Field(discriminator="name")], BeforeValidator(name_only)
]
OPTIMIZERS: tuple[type[NamedSpec], ...] = (SGDM, Adam)
