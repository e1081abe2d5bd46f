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

_CENTRED = LayerwiseOperations(
    forward_bias=True,
    forward_batch_centring=True,
    forward_feature_centring=True,
    backward_feature_centring=True,
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
                operations=_CENTRED,
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
            credit=DirectFeedbackAlignment(gain=0.031),
            optimizer=Adam(learning_rate=0.0015, weight_decay=2.9e-6),
        ),
    ),
    (
        "uniform sign symmetry: backward weights of the forward weights' signs; Adam",
        RuleSpec(
            name="usf",
            credit=UniformSignSymmetry(),
            optimizer=Adam(learning_rate=0.0055, weight_decay=5.4e-5),
        ),
    ),
    (
        "sign symmetry with magnitudes redrawn at every forward pass; Adam",
        RuleSpec(
            name="brsf",
            credit=BatchwiseRandomSignSymmetry(),
            optimizer=Adam(learning_rate=0.0023, weight_decay=2.8e-5),
        ),
    ),
    (
        "sign symmetry with fixed random magnitudes; Adam",
        RuleSpec(
            name="frsf",
            credit=FixedRandomSignSymmetry(),
            optimizer=Adam(learning_rate=0.0055, weight_decay=5.4e-5),
        ),
    ),
    (
        "weight mirror: backward weights learn by amp + decay from noise; SGDM",
        RuleSpec(
            name="wm",
            credit=WeightMirror(
                amp=1.0,
                decay=12.0,
                operations=_CENTRED,
                input_noise=1.0,
                alternating=True,
                optimizer=Adam(learning_rate=0.034),
            ),
            optimizer=SGDM(learning_rate=0.035, weight_decay=3.5e-5, reference_batch_size=None),
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
                    learning_rate=0.94, momentum=0.0, nesterov=False, reference_batch_size=None
                ),
            ),
            optimizer=SGDM(learning_rate=0.058, weight_decay=0.00014, schedule=_WARM_UP),
        ),
    ),
    (
        "activation alignment: backward weights learn by amp + sparse; SGD with momentum",
        RuleSpec(
            name="aa",
            credit=ActivationAlignment(
                amp=1.0,
                sparse=1.0,
                input_noise=1.0,
                delay_epochs=2,
                optimizer=Adam(learning_rate=0.02, beta2=0.98),
            ),
            optimizer=SGDM(learning_rate=0.021, weight_decay=2.4e-6, schedule=_WARM_UP),
        ),
    ),
    (
        "Kolen-Pollack: backward weights receive the forward weights' updates; SGD with momentum",
        RuleSpec(
            name="kp",
            credit=KolenPollack(),
            optimizer=SGDM(learning_rate=0.067, weight_decay=0.00017),
        ),
    ),
    (
        "weight perturbation: noise on all weights, correlated with the loss; Adam",
        RuleSpec(
            name="wp",
            credit=WeightPerturbation(sigma=0.0093),
            optimizer=Adam(learning_rate=0.029),
        ),
    ),
    (
        "node perturbation: noise on every layer's output, correlated with the loss; Adam",
        RuleSpec(
            name="np",
            credit=NodePerturbation(sigma=0.0011),
            optimizer=Adam(learning_rate=0.00011),
        ),
    ),
    (
        "node perturbation that teaches backward weights, which carry the error; Adam",
        RuleSpec(
            name="npf",
            credit=LearnedFeedback(sigma=0.27, optimizer=Adam(learning_rate=0.00015)),
            optimizer=Adam(learning_rate=0.0025),
        ),
    ),
)
