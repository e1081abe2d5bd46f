"""Credit assignment as data: how error reaches the layers of a network."""

from __future__ import annotations

import typing
from typing import Annotated, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from goaldriven.specs.base import NamedSpec, Spec, name_only
from goaldriven.specs.optimizers import OptimizerSpec
from goaldriven.specs.primitives import Locality, locality


class Backprop(NamedSpec):
    """Exact error backpropagation: the backward weights are the forward weights' transpose."""

    name: Literal["backprop"] = "backprop"


class FeedbackAlignment(NamedSpec):
    """Errors travel through fixed random backward weights (Lillicrap et al. 2016)."""

    name: Literal["feedback_alignment"] = "feedback_alignment"


class DirectFeedbackAlignment(NamedSpec):
    """The output's error reaches every layer directly, by fixed random weights (Nøkland 2016).

    ``gain`` multiplies their Xavier-uniform initialisation.
    """

    name: Literal["direct_feedback_alignment"] = "direct_feedback_alignment"
    gain: PositiveFloat = 1.0


class UniformSignSymmetry(NamedSpec):
    """Backward weights have the forward weights' signs and one magnitude (Liao et al. 2016).

    B = s·sign(W), with s = √(2/(fan_in + fan_out)) (``xavier``) or 1/√(3·fan_in) (``kaiming``).
    """

    name: Literal["uniform_sign_symmetry"] = "uniform_sign_symmetry"
    scale: Literal["xavier", "kaiming"] = "xavier"


class BatchwiseRandomSignSymmetry(NamedSpec):
    """The forward weights' signs, with magnitudes drawn anew at every forward pass.

    B = |M| ∘ sign(W), M Xavier-uniform. Source: Liao et al. 2016.
    """

    name: Literal["batchwise_random_sign_symmetry"] = "batchwise_random_sign_symmetry"


class FixedRandomSignSymmetry(NamedSpec):
    """The forward weights' signs, with magnitudes drawn once.

    B = |M| ∘ sign(W), M Xavier-uniform. Source: Liao et al. 2016.
    """

    name: Literal["fixed_random_sign_symmetry"] = "fixed_random_sign_symmetry"


class LayerwiseOperations(Spec):
    """Operations on a layer's paths while its alignment loss is computed; see `rules.operations`.

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


class Alignment(NamedSpec):
    """What all rules share whose backward weights learn layer by layer.

    The backward weights descend Σ weight · primitive, the primitives in the thesis' forms (Table
    5.1, with the halves). ``input_noise`` σ replaces each layer's input by noise of that standard
    deviation in the alignment loss, normal or uniform; None uses the input itself. ``alternating``
    alternates one alignment step with one task step; ``delay_epochs`` aligns alone at first.
    """

    WEIGHTS: ClassVar[tuple[str, ...]] = ()

    @property
    def primitive_weights(self) -> dict[str, float]:
        """Primitive → its weight, where that is not 0."""
        weights = {name: float(getattr(self, name)) for name in self.WEIGHTS}
        return {name: weight for name, weight in weights.items() if weight}

    @property
    def locality(self) -> Locality:
        """Local where all its primitives are."""
        return locality(self.primitive_weights)


class _LossOfActivations(Alignment):
    operations: LayerwiseOperations = LayerwiseOperations()
    input_noise: PositiveFloat | None = None
    noise_distribution: Literal["normal", "uniform"] = "normal"
    alternating: bool = False
    delay_epochs: NonNegativeInt = 0
    optimizer: OptimizerSpec


class WeightMirror(_LossOfActivations):
    """Backward weights learn from α·amp + β·decay (Akrout et al. 2019)."""

    name: Literal["weight_mirror"] = "weight_mirror"
    amp: NonNegativeFloat
    decay: NonNegativeFloat
    WEIGHTS = ("amp", "decay")


class InformationAlignment(_LossOfActivations):
    """Backward weights learn from α·amp + β·decay + γ·null, layer by layer (Kunin et al. 2020)."""

    name: Literal["information_alignment"] = "information_alignment"
    amp: NonNegativeFloat
    decay: NonNegativeFloat
    null: NonNegativeFloat
    WEIGHTS = ("amp", "decay", "null")


class ActivationAlignment(_LossOfActivations):
    """Backward weights learn from α·amp + β·sparse (Kunin et al. 2020).

    With α = β and linear layers that is the squared distance between Wx and Bᵀx.
    """

    name: Literal["activation_alignment"] = "activation_alignment"
    amp: NonNegativeFloat
    sparse: NonNegativeFloat
    WEIGHTS = ("amp", "sparse")


class SymmetricAlignment(Alignment):
    """Backward weights learn from α·decay + β·self (Kunin et al. 2020).

    With α = β that is the squared distance between W and Bᵀ. It needs no activations.
    """

    name: Literal["symmetric_alignment"] = "symmetric_alignment"
    decay: NonNegativeFloat
    self: NonNegativeFloat
    alternating: bool = False
    delay_epochs: NonNegativeInt = 0
    optimizer: OptimizerSpec
    WEIGHTS = ("decay", "self")


class KolenPollack(Alignment):
    """Backward weights receive the forward weights' updates, both decay (Kolen & Pollack 1994).

    B's gradient is angle + λ·decay: the pseudogradient of W, and λB. ``decay`` and ``optimizer``
    default to the weight decay λ and the optimizer of the forward weights; then, with SGD, W − Bᵀ
    shrinks by the factor 1 − ηλ a step, whatever the data. Noisy updates are those of the
    optimizer that asks for them: B's are noisy where ``optimizer`` is given with ``update_noise``.
    """

    name: Literal["kolen_pollack"] = "kolen_pollack"
    decay: NonNegativeFloat | None = None
    optimizer: OptimizerSpec | None = None

    @property
    def primitive_weights(self) -> dict[str, float]:
        return {"angle": 1.0, **({"decay": self.decay} if self.decay else {})}


class Primitives(Spec):
    """The weights of the primitives of an alignment loss; those left out are 0."""

    decay: NonNegativeFloat = 0.0
    amp: NonNegativeFloat = 0.0
    null: NonNegativeFloat = 0.0
    sparse: NonNegativeFloat = 0.0
    self: NonNegativeFloat = 0.0
    angle: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _some(self) -> Primitives:
        if not any(self.model_dump().values()):
            raise ValueError("primitives must give a weight above 0 to at least one, got none")
        return self


class LayerwiseAlignment(_LossOfActivations):
    """Backward weights learn from any combination of the six primitives."""

    name: Literal["layerwise_alignment"] = "layerwise_alignment"
    primitives: Primitives

    @property
    def primitive_weights(self) -> dict[str, float]:
        return {name: weight for name, weight in self.primitives.model_dump().items() if weight}


class _Perturbation(NamedSpec):
    sigma: PositiveFloat = 1e-3
    samples: PositiveInt = 1
    antithetic: bool = False


class WeightPerturbation(_Perturbation):
    """Noise on all weights; its correlation with the loss stands for the gradient.

    ``sigma``: standard deviation of the noise; ``samples``: how many a step averages;
    ``antithetic``: half the loss at +ξ less that at −ξ, instead of the loss at ξ less that at 0.
    """

    name: Literal["weight_perturbation"] = "weight_perturbation"


class NodePerturbation(_Perturbation):
    """Noise on every layer's output; its correlation with the loss stands for the error there.

    ``sigma``, ``samples`` and ``antithetic`` as in `WeightPerturbation`.
    """

    name: Literal["node_perturbation"] = "node_perturbation"


class LearnedFeedback(_Perturbation):
    """Backward weights learn to predict node perturbation's errors (Lansdell et al. 2019).

    Errors travel through B, which ``optimizer`` fits to the errors that noise on every layer's
    input estimates; ``sigma``, ``samples`` and ``antithetic`` as in `WeightPerturbation`.
    ``delay_epochs`` fits B alone at first.
    """

    name: Literal["node_perturbation_feedback"] = "node_perturbation_feedback"
    delay_epochs: NonNegativeInt = 0
    optimizer: OptimizerSpec


Credit = (
    Backprop
    | FeedbackAlignment
    | DirectFeedbackAlignment
    | UniformSignSymmetry
    | BatchwiseRandomSignSymmetry
    | FixedRandomSignSymmetry
    | WeightMirror
    | InformationAlignment
    | SymmetricAlignment
    | ActivationAlignment
    | KolenPollack
    | LayerwiseAlignment
    | WeightPerturbation
    | NodePerturbation
    | LearnedFeedback
)
CREDITS: tuple[type[NamedSpec], ...] = typing.get_args(Credit)
CreditSpec = Annotated[Annotated[Credit, Field(discriminator="name")], BeforeValidator(name_only)]
