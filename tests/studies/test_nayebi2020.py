"""The published study: numbers of networks and layers, and the settings of each kind."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from goaldriven import architectures
from goaldriven.heads import Contrastive, Readout
from goaldriven.specs import NetworkSpec
from goaldriven.specs.credit import Backprop, FeedbackAlignment, InformationAlignment
from goaldriven.studies.files import load_study


@pytest.fixture(scope="module")
def networks() -> tuple[NetworkSpec, ...]:
    return load_study("nayebi2020").networks()


def kind(name: str) -> str:
    return next(k for k in ("alexnet", "resnet", "knet") if name.startswith(k))


def test_there_are_1056_networks_of_22_kinds(networks):
    assert len(networks) == len({n.network_id for n in networks}) == 1056
    pairs = Counter((n.task.name, n.architecture.name) for n in networks)
    assert len(pairs) == 3 * 6 + 4
    assert set(pairs.values()) == {48}
    assert Counter(n.rule.name for n in networks) == dict.fromkeys(
        ("sgdm", "adam", "fa", "ia"), 264
    )
    assert {n.batch_size for n in networks} == {128, 256, 512}
    assert all(len(n.record_epochs) == 21 and n.epochs == 100 for n in networks)


@pytest.mark.slow
def test_they_have_20736_layers(networks):
    counted: dict[tuple[str, str], int] = {}
    for n in networks:
        pair = n.task.name, n.architecture.name
        if pair not in counted:
            head = Contrastive(16) if n.task.name == "imagenet_simclr" else Readout(10)
            shape = (3, 32, 32) if n.task.name == "cifar10" else (3, 224, 224)
            thin = n.architecture.model_copy(update={"width": 0.05})
            built = architectures.build(thin, shape, head, torch.Generator().manual_seed(0))
            counted[pair] = len(built.layers)
    assert sum(counted[n.task.name, n.architecture.name] for n in networks) == 20_736


# Thesis section 6.3.8; the L2 from the published code.
RATES = {"alexnet": 0.0125, "resnet": 0.125, "knet": 0.01}
L2 = {"alexnet": 5e-4, "resnet": 1e-4, "knet": 1e-5}


def test_rates_schedules_and_l2_are_the_published_ones(networks):
    for n in networks:
        optimizer, family = n.rule.optimizer, kind(n.architecture.name)
        scaled = n.rule.name in ("sgdm", "ia")
        assert optimizer.name == ("sgdm" if scaled else "adam")
        assert optimizer.learning_rate == (RATES[family] if scaled else 0.001)
        assert optimizer.reference_batch_size == (256 if scaled else None)
        l2 = 1e-6 if n.task.name == "imagenet_simclr" else L2[family]
        assert optimizer.weight_decay == l2
        assert optimizer.decay_biases
        warm, drops = (0, ()) if n.task.name == "cifar10" else (6, (30, 60, 80))
        schedules = [optimizer.schedule]
        if n.rule.name == "ia":
            schedules.append(n.rule.credit.optimizer.schedule)
            assert n.rule.credit.optimizer.learning_rate == 0.0098
        for schedule in schedules:
            assert (schedule.warmup_epochs, schedule.drop_epochs) == (warm, drops)
            assert schedule.drop_factor == 0.1
        if scaled:
            assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)


def test_credit_is_backprop_fixed_feedback_or_the_fourth_column_of_table_5_5(networks):
    kinds = {"sgdm": Backprop, "adam": Backprop, "fa": FeedbackAlignment}
    for n in networks:
        assert type(n.rule.credit) is kinds.get(n.rule.name, InformationAlignment)
    (ia,) = {n.rule.credit for n in networks if n.rule.name == "ia" and n.task.name == "imagenet"}
    assert ia.alternating
    assert ia.delay_epochs == 1
    assert ia.input_noise == 0.8176
    assert ia.decay == 7.9990
    assert ia.amp / ia.decay == pytest.approx(129.1123)
    on = {name for name, value in ia.operations.model_dump().items() if value}
    assert on == {
        "forward_bias", "forward_relu", "forward_batch_centring", "forward_feature_centring",
        "backward_bias", "backward_feature_centring", "backward_feature_normalisation",
    }  # fmt: skip


def test_version_two_sees_inceptions_preprocessing_on_imagenet(networks):
    for n in networks:
        if n.task.name == "imagenet":
            expected = "inception" if n.architecture.name.endswith("_v2") else "resnet"
            assert n.task.preprocessing == expected
            assert n.task.image_size == (299 if expected == "inception" else 224)
