"""Learning rules as data: credit assignment + optimizer + metaparameters, under one name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from goaldriven.errors import unknown
from goaldriven.specs.base import NamedSpec, Spec, merge, name_only


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


class SGDM(NamedSpec):
    """Stochastic gradient descent with Nesterov momentum.

    ``weight_decay`` is λ of an L2 penalty (λ/2)‖W‖² on the forward kernels, not on biases or
    normalisation. ``reference_batch_size``: the learning rate is multiplied by batch size over
    this; None leaves it as it is.
    """

    name: Literal["sgdm"] = "sgdm"
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: NonNegativeFloat = 0.0
    reference_batch_size: PositiveInt | None = 256
    schedule: Schedule = Schedule()


class Adam(NamedSpec):
    """Adam; ``weight_decay`` is an L2 penalty on the kernels, inside the gradient (not AdamW)."""

    name: Literal["adam"] = "adam"
    learning_rate: PositiveFloat
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    reference_batch_size: PositiveInt | None = None
    schedule: Schedule = Schedule()


OptimizerSpec = Annotated[
    Annotated[SGDM | Adam, Field(discriminator="name")], BeforeValidator(name_only)
]


class Backprop(NamedSpec):
    """Exact error backpropagation: the backward weights are the forward weights' transpose."""

    name: Literal["backprop"] = "backprop"


class FeedbackAlignment(NamedSpec):
    """Errors travel through fixed random backward weights (Lillicrap et al. 2016)."""

    name: Literal["feedback_alignment"] = "feedback_alignment"


class LayerwiseOperations(Spec):
    """Operations on a layer's paths while its alignment loss is computed; see `rules.alignment`.

    *forward*: the forward path's output (uses W); *backward*: the backward path's output (uses B);
    *input*: the backward path's input. Batch centring subtracts the mean over the batch; feature
    centring subtracts, per sample, the mean over all features; feature normalisation does that and
    then divides by the L2 norm. Source: thesis Table 5.5.
    """

    forward_bias: bool = False
    forward_relu: bool = False
    forward_batch_centring: bool = False
    forward_feature_centring: bool = False
    forward_feature_normalisation: bool = False
    backward_bias: bool = False
    backward_relu: bool = False
    backward_feature_centring: bool = False
    backward_feature_normalisation: bool = False
    input_batch_centring: bool = False
    input_feature_centring: bool = False
    input_feature_normalisation: bool = False


class InformationAlignment(NamedSpec):
    """Backward weights learn from α·amp + β·decay + γ·null, layer by layer (Kunin et al. 2020).

    The primitives are the thesis' forms (Table 5.1, with the halves); ``amp``, ``decay`` and
    ``null`` are their weights α, β and γ. ``input_noise`` σ replaces each layer's input by
    N(0, σ²) noise in the alignment loss; None uses the input itself. ``alternating`` alternates
    one alignment step with one task step; ``delay_epochs`` aligns alone at first.
    """

    name: Literal["information_alignment"] = "information_alignment"
    amp: NonNegativeFloat
    decay: NonNegativeFloat
    null: NonNegativeFloat
    operations: LayerwiseOperations = LayerwiseOperations()
    input_noise: PositiveFloat | None = None
    alternating: bool = False
    delay_epochs: NonNegativeInt = 0
    optimizer: OptimizerSpec


CreditSpec = Annotated[
    Annotated[Backprop | FeedbackAlignment | InformationAlignment, Field(discriminator="name")],
    BeforeValidator(name_only),
]


class RuleSpec(NamedSpec):
    """A learning rule; the name is the label that classifiers learn."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$")]
    credit: CreditSpec
    optimizer: OptimizerSpec


# The metaparameters of the four rules come from `benchmarks/search_metaparameters.py`: TPE on the
# training digits only. docs/methods.md says which settings were scored again, and how.
_CATALOGUE: tuple[tuple[str, RuleSpec], ...] = (
    (
        "backprop, SGD with Nesterov momentum 0.9",
        RuleSpec(
            name="sgdm",
            credit=Backprop(),
            optimizer=SGDM(learning_rate=0.065, weight_decay=7.3e-4),
        ),
    ),
    (
        "backprop, Adam",
        RuleSpec(
            name="adam",
            credit=Backprop(),
            optimizer=Adam(learning_rate=0.0077, weight_decay=1.2e-6),
        ),
    ),
    (
        "feedback alignment: fixed random backward weights, Adam on the pseudogradient",
        RuleSpec(
            name="fa",
            credit=FeedbackAlignment(),
            optimizer=Adam(learning_rate=0.0031, weight_decay=1.5e-4),
        ),
    ),
    (
        "information alignment: backward weights learn by amp + decay + null; SGD with momentum",
        RuleSpec(
            name="ia",
            credit=InformationAlignment(
                amp=1.0,
                decay=0.12,
                null=4.0,
                operations=LayerwiseOperations(
                    forward_bias=True,
                    forward_relu=True,
                    forward_batch_centring=True,
                    input_batch_centring=True,
                ),
                optimizer=Adam(learning_rate=0.027),
            ),
            optimizer=SGDM(learning_rate=0.031, weight_decay=1.6e-4, reference_batch_size=None),
        ),
    ),
)

RULES: dict[str, RuleSpec] = {rule.name: rule for _, rule in _CATALOGUE}
RULE_SUMMARIES: dict[str, str] = {rule.name: text for text, rule in _CATALOGUE}


def expand_rule(value: Any) -> Any:
    """Let ``ia``, ``{name: ia, …}`` and ``{name: mine, like: ia, …}`` stand for a rule."""
    if isinstance(value, str):
        if value not in RULES:
            raise ValueError(unknown("rule", value, RULES))
        return RULES[value]
    if not isinstance(value, Mapping):
        return value
    given = dict(value)
    base = given.pop("like", given.get("name"))
    if base in RULES:
        return merge(RULES[base].model_dump(), given)
    if "like" in value:
        raise ValueError(unknown("rule: like", base, RULES))
    if "credit" not in given and "optimizer" not in given:
        raise ValueError(unknown("rule", base, RULES))
    return given


NamedRule = Annotated[RuleSpec, BeforeValidator(expand_rule)]
