"""Precision, layout, compilation and micro-batches: what they change, and what they do not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from goaldriven.errors import SpecError
from goaldriven.specs import RULES, NetworkSpec
from goaldriven.specs.runtime import RuntimeOptions
from goaldriven.training import build, train
from goaldriven.training.loop import backward, train_epoch
from goaldriven.training.numerics import products

from . import double_networks

KNET = {"name": "knet4", "width": 0.1}
DRAWS_NOISE = ("ia", "wm", "aa", "wp", "np", "npf", "brsf")
EXACT = [name for name in RULES if "/" not in name and name not in DRAWS_NOISE]


def spec(**changes) -> NetworkSpec:
    small = {
        "task": {"name": "digits", "train_limit": 64, "validation_limit": 32},
        "architecture": KNET,
        "rule": "fa",
        "batch_size": 32,
        "epochs": 1,
        "record_every": 1,
    }
    return NetworkSpec(**small | changes)


@pytest.mark.parametrize("rule", EXACT)
def test_micro_batches_train_the_network_of_the_whole_batch(rule):
    whole = double_networks.trained({"rule": rule, "architecture": KNET})
    parts = {"rule": rule, "architecture": KNET, "runtime": {"micro_batch": 8}}
    for key, tensor in double_networks.trained(parts).items():
        torch.testing.assert_close(tensor, whole[key], rtol=1e-6, atol=1e-9, msg=key)


@pytest.mark.parametrize("rule", DRAWS_NOISE)
def test_rules_that_draw_noise_learn_from_micro_batches_too(rule):
    network = build(spec(rule=rule), runtime=RuntimeOptions(micro_batch=8))
    before = [p.detach().clone() for p in network.model.parameters()]
    assert np.isfinite(train_epoch(network, 3))  # after delay epochs
    moved = zip(before, network.model.parameters(), strict=True)
    assert any(not torch.equal(b, p) for b, p in moved)


def test_batch_norm_sees_micro_batches():
    resnet = {"name": "resnet10", "width": 0.1}
    given = {"rule": "sgdm", "architecture": resnet}
    whole = double_networks.trained(given)
    parts = double_networks.trained({**given, "runtime": {"micro_batch": 8}})
    assert not torch.allclose(whole["losses"], parts["losses"], rtol=1e-6)


def test_micro_batches_must_divide_the_batch():
    with pytest.raises(SpecError, match="micro_batch must divide the 32 stimuli"):
        build(spec(), runtime=RuntimeOptions(micro_batch=12))
    with pytest.raises(SpecError, match="micro_batch must be greater than 0, got 0"):
        RuntimeOptions(micro_batch=0)


@pytest.mark.parametrize("rule", [name for name in RULES if "/" not in name])
def test_channels_last_changes_the_layout_and_no_number_beyond_rounding(rule):
    plain, laid = (
        build(spec(rule=rule), runtime=RuntimeOptions(channels_last=layout))
        for layout in (False, True)
    )
    kernel = laid.model.get_submodule("conv2").weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    losses = []
    for network in (plain, laid):
        network.model.train()
        network.credit.set_progress(0.5)
        batch = next(network.task.train_batches(32, network.data_generator))
        losses.append(backward(network, batch))
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)


BF16_LOSS = 0.02  # relative; bfloat16 has eight bits of mantissa


@pytest.mark.parametrize("rule", ["sgdm", "fa", "ia", "kp", "dfa", "usf", "sa"])
def test_bf16_gradients_point_where_float32_ones_do(rule):
    found = []
    for precision in ("float32", "bf16"):
        network = build(spec(rule=rule), runtime=RuntimeOptions(precision=precision))
        network.model.train()
        network.credit.set_progress(3.0)
        for batch in list(network.task.train_batches(32, network.data_generator))[:1]:
            loss = backward(network, batch)
            if not network.credit.task_rate:  # an aligning step: the next one learns the task
                network.optimizer.step()
                network.credit.step()
                network.optimizer.zero_grad(set_to_none=True)
                loss = backward(network, batch)
        assert all(p.grad.dtype == torch.float32 for p in network.model.parameters())
        kernel = network.model.get_submodule("conv2").weight.grad
        found.append((float(loss), kernel.flatten().double()))
    (loss, exact), (rounded_loss, rounded) = found
    assert rounded_loss == pytest.approx(loss, rel=BF16_LOSS)
    assert rounded_loss != loss
    assert torch.nn.functional.cosine_similarity(exact, rounded, 0) > 0.99


def test_trajectories_say_how_they_were_computed_and_keep_their_identity():
    plain = train(spec())
    options = RuntimeOptions(precision="bf16", channels_last=True, micro_batch=16)
    other = train(spec(), runtime=options)
    assert other.attrs["network_id"] == plain.attrs["network_id"]
    assert json.loads(other.attrs["runtime"]) == {
        "precision": "bf16", "channels_last": True, "compile": False, "micro_batch": 16,
        "batch_norm": "joined", "device": "cpu", "ranks": 1,
    }  # fmt: skip
    # The initial network is the same, and recorded in float32.
    np.testing.assert_allclose(
        other["observable"].values[0], plain["observable"].values[0], rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["sgdm", "fa", "ia", "wp"])
def test_compiled_steps_train_the_same_network(rule, monkeypatch):
    inductor = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: inductor(model, backend="aot_eager"))
    plain, compiled = (
        build(spec(rule=rule), runtime=RuntimeOptions(compile=c)) for c in (False, True)
    )
    assert compiled.called is not compiled.model
    for network in (plain, compiled):
        train_epoch(network, 0)
    for a, b in zip(plain.model.parameters(), compiled.model.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)


def test_rounding_of_products_is_the_process_own_again_afterwards():
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    for precision, expected in (("float32", False), ("tf32", True), ("bf16", False)):
        with products(RuntimeOptions(precision=precision)):
            assert cudnn.allow_tf32 is expected
            assert torch.backends.cuda.matmul.allow_tf32 is expected
        assert cudnn.allow_tf32 == before
