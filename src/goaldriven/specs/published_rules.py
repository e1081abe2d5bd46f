"""Rules with published metaparameters, tuned by their authors for ResNet-18 on ImageNet.

Thesis Table 5.5 and section 5.9; Kunin et al. 2020 and its published code. All are trained for 90
to 100 epochs at batch sizes of 256 to 4096. The L2 penalty is the published code's, 10⁻⁴, on
the readout's bias too. Weights
of primitives are in the thesis' forms, with the halves; where a table was not legible the value is
recalled, which a comment says.
"""

from __future__ import annotations

from goaldriven.specs.credit import (
    ActivationAlignment,
    InformationAlignment,
    LayerwiseOperations,
    SymmetricAlignment,
    WeightMirror,
)
from goaldriven.specs.optimizers import SGDM, Adam, Schedule
from goaldriven.specs.rule import RuleSpec

_DROPS = (30, 60, 80)
_SEARCHED = Schedule(warmup_epochs=6, drop_epochs=_DROPS)
_NOT_SEARCHED = Schedule(warmup_epochs=5, drop_epochs=_DROPS)
_MIRROR: dict[str, bool] = {
    "forward_bias": True,
    "forward_relu": True,
    "forward_batch_centring": True,
    "input_batch_centring": True,
}
# The task's optimizer of the searches: learning rate = batch size / 2048.
_FORWARD = SGDM(
    learning_rate=1.0, reference_batch_size=2048, weight_decay=1e-4, decay_biases=True,
    schedule=_SEARCHED,
)  # fmt: skip
_BACKPROP_LIKE = SGDM(
    learning_rate=0.1, reference_batch_size=256, weight_decay=1e-4, decay_biases=True,
    schedule=_NOT_SEARCHED,
)  # fmt: skip
_PLAIN_DESCENT = SGDM(
    learning_rate=1.0, momentum=0.0, nesterov=False, reference_batch_size=None, schedule=_SEARCHED
)


PUBLISHED: tuple[tuple[str, RuleSpec], ...] = (
    (
        "weight mirror by a search over its metaparameters (R_WM^TPE, batch 2048)",
        RuleSpec(
            name="weight_mirror/tpe",
            credit=WeightMirror(
                amp=15.6607 * 0.0283,
                decay=0.0283,
                operations=LayerwiseOperations(**_MIRROR),
                input_noise=0.6905,
                alternating=True,
                delay_epochs=2,
                optimizer=_PLAIN_DESCENT,
            ),
            optimizer=_FORWARD,
        ),
    ),
    (
        "weight mirror with an adaptive optimizer (R_WM+AD^TPE, batch 256)",
        RuleSpec(
            name="weight_mirror/tpe_adaptive",
            credit=WeightMirror(
                amp=13.9040 * 2.8109e-8,
                decay=2.8109e-8,  # recalled
                operations=LayerwiseOperations(**_MIRROR),
                input_noise=0.9500,
                alternating=True,
                optimizer=Adam(learning_rate=0.0053, schedule=_SEARCHED),
            ),
            optimizer=_FORWARD,
        ),
    ),
    (
        "weight mirror with an adaptive optimizer and operations (R_WM+AD+OPS^TPE, batch 256)",
        RuleSpec(
            name="weight_mirror/tpe_adaptive_operations",
            credit=WeightMirror(
                amp=0.1344 * 232.7856,
                decay=232.7856,
                operations=LayerwiseOperations(
                    **_MIRROR,
                    forward_feature_centring=True,
                    backward_relu=True,
                    backward_feature_normalisation=True,
                ),
                input_noise=0.6402,
                alternating=True,
                optimizer=Adam(learning_rate=0.0025, schedule=_SEARCHED),
            ),
            optimizer=_FORWARD,
        ),
    ),
    (
        "information alignment by a search (R_IA^TPE, batch 256)",
        RuleSpec(
            name="information_alignment/tpe",
            credit=InformationAlignment(
                amp=129.1123 * 7.9990,
                decay=7.9990,
                null=3.1610e-6,  # recalled
                operations=LayerwiseOperations(
                    forward_bias=True,
                    forward_relu=True,
                    forward_batch_centring=True,
                    forward_feature_centring=True,
                    backward_bias=True,
                    backward_feature_centring=True,
                    backward_feature_normalisation=True,
                ),
                input_noise=0.8176,
                alternating=True,
                delay_epochs=1,
                optimizer=Adam(learning_rate=0.0098, schedule=_SEARCHED),
            ),
            optimizer=_FORWARD,
        ),
    ),
    (
        "weight mirror as in the published fully connected networks (batch 128)",
        RuleSpec(
            name="weight_mirror/akrout2019",
            # Noise U(−0.05, 0.05); B += 0.01 Σ x yᵀ over the batch, of which ours is the mean; one
            # epoch of mirroring before training, then one mirror pass for every batch. Theirs were
            # sigmoid units; here a layer's output is rectified where the layer is.
            credit=WeightMirror(
                amp=1.0,
                decay=0.0,
                operations=LayerwiseOperations(forward_bias=True, forward_relu=True),
                input_noise=0.1 / 12**0.5,
                noise_distribution="uniform",
                delay_epochs=1,
                optimizer=SGDM(
                    learning_rate=1.28,
                    momentum=0.0,
                    nesterov=False,
                    reference_batch_size=128,
                ),
            ),
            optimizer=SGDM(
                learning_rate=0.05, momentum=0.0, nesterov=False, reference_batch_size=None
            ),
        ),
    ),
    (
        "symmetric alignment as published (batch 256)",
        RuleSpec(
            name="symmetric_alignment/kunin2020",
            credit=SymmetricAlignment(
                decay=2e-3, self=2e-3, optimizer=Adam(learning_rate=1e-3, schedule=_NOT_SEARCHED)
            ),
            optimizer=_BACKPROP_LIKE,
        ),
    ),
    (
        "activation alignment as published (batch 256)",
        RuleSpec(
            name="activation_alignment/kunin2020",
            credit=ActivationAlignment(
                amp=2e-3,
                sparse=2e-3,
                operations=LayerwiseOperations(forward_bias=True, backward_bias=True),
                optimizer=Adam(learning_rate=1e-3, schedule=_NOT_SEARCHED),
            ),
            optimizer=_BACKPROP_LIKE,
        ),
    ),
)
"""Summary and rule."""
