"""Rules ready to use on small images, their metaparameters tuned here."""

from __future__ import annotations

from goaldriven.specs.credit import (
    ActivationAlignment,
    Backprop,
    BatchwiseRandomSignSymmetry,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    FixedRandomSignSymmetry,
    InformationAlignment,
    KolenPollack,
    LayerwiseOperations,
    LearnedFeedback,
    NodePerturbation,
    SymmetricAlignment,
    UniformSignSymmetry,
    WeightMirror,
    WeightPerturbation,
)
from goaldriven.specs.optimizers import SGDM, Adam, Schedule
from goaldriven.specs.rule import RuleSpec

# Akrout et al.'s choice of layer-wise operations, as in thesis section 5.9.1.
_MIRROR_OPERATIONS = LayerwiseOperations(
    forward_bias=True,
    forward_relu=True,
    forward_batch_centring=True,
    input_batch_centring=True,
)

# The metaparameters come from searches on the training digits only; docs/methods.md says which.
# Until B has aligned, large steps of the forward weights can end learning for good; published, too.
_WARM_UP = Schedule(warmup_epochs=5)

TUNED: tuple[tuple[str, RuleSpec], ...] = (
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
        "information alignment: backward weights learn by amp + decay + null from noise; SGDM",
        RuleSpec(
            name="ia",
            credit=InformationAlignment(
                amp=1.0,
                decay=2.8,
                null=1.0,
                operations=LayerwiseOperations(
                    forward_bias=True,
                    forward_batch_centring=True,
                    forward_feature_centring=True,
                    backward_feature_centring=True,
                    input_batch_centring=True,
                ),
                input_noise=1.0,
                alternating=True,
                optimizer=Adam(learning_rate=0.015),
            ),
            optimizer=SGDM(learning_rate=0.099, weight_decay=8.9e-5, reference_batch_size=None),
        ),
    ),
    (
        "direct feedback alignment: the output's error straight to every layer; Adam",
        RuleSpec(
            name="dfa",
            credit=DirectFeedbackAlignment(),
            optimizer=Adam(learning_rate=0.003),
        ),
    ),
    (
        "uniform sign symmetry: backward weights of the forward weights' signs; Adam",
        RuleSpec(
            name="usf",
            credit=UniformSignSymmetry(),
            optimizer=Adam(learning_rate=0.003),
        ),
    ),
    (
        "sign symmetry with magnitudes redrawn at every forward pass; Adam",
        RuleSpec(
            name="brsf",
            credit=BatchwiseRandomSignSymmetry(),
            optimizer=Adam(learning_rate=0.003),
        ),
    ),
    (
        "sign symmetry with fixed random magnitudes; Adam",
        RuleSpec(
            name="frsf",
            credit=FixedRandomSignSymmetry(),
            optimizer=Adam(learning_rate=0.003),
        ),
    ),
    (
        "weight mirror: backward weights learn by amp + decay from noise; SGDM",
        RuleSpec(
            name="wm",
            credit=WeightMirror(
                amp=1.0,
                decay=1.0,
                operations=_MIRROR_OPERATIONS,
                input_noise=1.0,
                alternating=True,
                optimizer=Adam(learning_rate=0.003),
            ),
            optimizer=SGDM(learning_rate=0.03, weight_decay=1.6e-4, reference_batch_size=None),
        ),
    ),
    (
        "symmetric alignment: backward weights learn by decay + self; SGD with momentum",
        RuleSpec(
            name="sa",
            credit=SymmetricAlignment(
                decay=1.0,
                self=1.0,
                optimizer=SGDM(
                    learning_rate=0.5, momentum=0.0, nesterov=False, reference_batch_size=None
                ),
            ),
            optimizer=SGDM(learning_rate=0.065, weight_decay=7.3e-4, schedule=_WARM_UP),
        ),
    ),
    (
        "activation alignment: backward weights learn by amp + sparse; SGD with momentum",
        RuleSpec(
            name="aa",
            credit=ActivationAlignment(
                amp=1.0, sparse=1.0, optimizer=Adam(learning_rate=0.01, beta1=0.0)
            ),
            optimizer=SGDM(learning_rate=0.065, weight_decay=7.3e-4, schedule=_WARM_UP),
        ),
    ),
    (
        "Kolen-Pollack: backward weights receive the forward weights' updates; SGD with momentum",
        RuleSpec(
            name="kp",
            credit=KolenPollack(),
            optimizer=SGDM(learning_rate=0.065, weight_decay=5e-3),
        ),
    ),
    (
        "weight perturbation: noise on all weights, correlated with the loss; Adam",
        RuleSpec(
            name="wp",
            credit=WeightPerturbation(),
            optimizer=Adam(learning_rate=0.001),
        ),
    ),
    (
        "node perturbation: noise on every layer's output, correlated with the loss; Adam",
        RuleSpec(
            name="np",
            credit=NodePerturbation(),
            optimizer=Adam(learning_rate=0.001),
        ),
    ),
    (
        "node perturbation that teaches backward weights, which carry the error; Adam",
        RuleSpec(
            name="npf",
            credit=LearnedFeedback(optimizer=Adam(learning_rate=0.001)),
            optimizer=Adam(learning_rate=0.001),
        ),
    ),
)
