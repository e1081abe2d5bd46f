"""Stacks of networks against the same networks trained one by one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from goaldriven.errors import SpecError
from goaldriven.rules.feedback import BUFFER
from goaldriven.rules.stacking import stack_layers
from goaldriven.specs.runtime import RuntimeOptions
from goaldriven.training import build, loop, train
from goaldriven.training.loop import train_epoch
from goaldriven.training.record import Recorder
from goaldriven.training.stack import Stack
from goaldriven.training.stacked import train_stack

from .stacked_networks import (
    AMPLIFIED,
    CLOSE,
    assert_stack_is_the_same_networks,
    build_double,
    networks,
    relative,
    spec,
)

AA = {"name": "early_aa", "like": "aa", "credit": {"delay_epochs": 1}}
SLOW_FA = {"name": "slow_fa", "like": "fa", "optimizer": {"learning_rate": 1e-4}}
NOISELESS = {
    "name": "all_primitives",
    "credit": {
        "name": "layerwise_alignment",
        "primitives": {"amp": 0.5, "null": 0.3, "sparse": 0.2, "decay": 0.1, "self": 0.1},
        "operations": {
            "forward_bias": True,
            "forward_relu": True,
            "forward_feature_normalisation": True,
            "forward_batch_centring": True,
            "backward_relu": True,
            "input_feature_centring": True,
        },
        "optimizer": {"name": "adam", "learning_rate": 0.01},
    },
    "optimizer": {"name": "sgdm", "learning_rate": 0.05},
}


@pytest.mark.parametrize(
    ("architecture", "task", "chosen", "tolerance"),
    [
        ("knet4", "digits", ["sgdm", "adam", "fa", SLOW_FA, "ia"], CLOSE),
        ("knet4_lrn", "digits", ["usf", "frsf", "brsf", "wm", NOISELESS], CLOSE),
        ("resnet10", "digits", ["sgdm", "sa", AA, "kp"], AMPLIFIED),
        ("resnet10_v2", "digits", ["fa", "ia"], AMPLIFIED),
        ("knet4", "digits_simclr", ["ia", "sgdm"], CLOSE),
        ("mlp", "digits_autoencoder", ["ia", AA, "adam"], CLOSE),
    ],
)
def test_a_stack_of_rules_and_seeds_is_the_same_networks_in_float64(
    architecture, task, chosen, tolerance
):
    assert_stack_is_the_same_networks(networks(architecture, task, chosen), tolerance)


@pytest.mark.parametrize("rules", [("adam", "fa", "ia"), ("dfa", "np", "npf")])
def test_trajectories_of_a_stack_are_those_of_single_training(rules, monkeypatch):
    specs = [spec(rule=rule, model_seed=seed) for rule in rules for seed in (0, 1)]
    found, steps = {}, []
    train_stack(
        specs,
        finished=lambda one, trajectory: found.__setitem__(one.network_id, trajectory),
        progress=lambda one: steps.append(one.network_id),
        build=build_double,
    )
    monkeypatch.setattr(loop, "build", build_double)
    assert sorted(steps) == sorted(2 * [one.network_id for one in specs])
    for one in specs:
        expected, trajectory = train(one), found[one.network_id]
        assert trajectory.attrs.keys() == expected.attrs.keys()
        assert trajectory.attrs["spec"] == expected.attrs["spec"]
        assert trajectory.attrs["outcome"] == "trained"
        for name in expected.data_vars:
            # update_angle and gradient_angle are arc cosines: at 0 they show the root of rounding
            np.testing.assert_allclose(
                trajectory[name], expected[name], rtol=1e-6, atol=1e-5, err_msg=name
            )
        np.testing.assert_allclose(
            trajectory["observable"].sel(statistic="weight_raw_norm"),
            expected["observable"].sel(statistic="weight_raw_norm"),
            rtol=1e-12,
        )


def test_in_float32_a_stack_differs_by_rounding():
    specs = [spec(rule=rule, epochs=1) for rule in ("sgdm", "fa", "ia")]
    stack = Stack(list(map(build, specs)), build)
    stack.train_epoch(0)
    for one, stacked in zip(specs, stack.networks, strict=True):
        alone = build(one)
        train_epoch(alone, 0)
        for ours, theirs in zip(stacked.model.parameters(), alone.model.parameters(), strict=True):
            assert relative(ours, theirs) < 1e-4


@pytest.mark.parametrize("rule", ["sgdm", "kp", "ia", "dfa", "wp", "np", "npf"])
def test_a_network_that_diverges_leaves_the_others_alone(rule):
    """It ends where it would by itself, and its neighbours' bits are those they would have."""
    wild = {"name": "wild", "like": rule, "optimizer": {"learning_rate": 1e200, "schedule": {}}}
    tame = [spec(rule=rule, model_seed=seed) for seed in (0, 1)]
    specs = [tame[0], spec(rule=wild, model_seed=0), tame[1]]
    found, order = {}, []

    def finished(one, trajectory):
        found[one.network_id] = trajectory
        order.append(one.network_id)

    train_stack(specs, finished=finished, build=build_double)
    assert order[0] == specs[1].network_id
    assert found[specs[1].network_id].attrs["outcome"] == "diverged"
    observable = found[specs[1].network_id]["observable"].sel(statistic="weight_raw_norm")
    assert np.isfinite(observable[0]).all()
    assert np.isnan(observable[-1]).all()
    stack = Stack(list(map(build_double, specs)), build_double)
    for epoch in range(2):
        stack.train_epoch(epoch)
    assert not all(p.isfinite().all() for p in stack.networks[1].model.parameters())
    for i in (0, 2):
        assert found[specs[i].network_id].attrs["outcome"] == "trained"
        alone = build_double(specs[i])
        for epoch in range(2):
            train_epoch(alone, epoch)
        ours = stack.networks[i].model.parameters()
        for mine, theirs in zip(ours, alone.model.parameters(), strict=True):
            assert relative(mine, theirs) <= CLOSE


def test_two_networks_of_one_rule_of_which_one_diverges():
    """In one segment, which one optimizer steps: stimuli of one network alone are not finite."""
    specs = [spec(rule="ia", model_seed=seed) for seed in (0, 1)]
    stack = Stack(list(map(build_double, specs)), build_double)
    with torch.no_grad():
        next(stack.networks[0].model.parameters()).fill_(torch.inf)
    losses = stack.train_epoch(0)
    alone = build_double(specs[1])
    assert not np.isfinite(losses[0])
    assert losses[1] == pytest.approx(train_epoch(alone, 0))
    for name, kernel in alone.credit.backward_weights.items():
        assert relative(stack.networks[1].credit.backward_weights[name], kernel) <= CLOSE
    for mine, theirs in zip(
        stack.networks[1].model.parameters(), alone.model.parameters(), strict=True
    ):
        assert relative(mine, theirs) <= CLOSE


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(5, 3),
        nn.Linear(5, 3, bias=False),
        nn.Conv2d(4, 6, 3, padding=1, stride=2),
        nn.Conv2d(4, 6, 3, groups=2, bias=False),
        nn.Conv2d(4, 6, 3, padding="same", padding_mode="circular"),
        nn.Conv1d(4, 6, 3, padding=1, dilation=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("shared", [False, True])
def test_a_stacked_layer_is_each_network_s_own(layer, shared):
    """Its value is PyTorch's; dx goes through B, which by hand is a layer with B for weights."""
    layer.double()
    k, generator = 3, torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    sizes = {nn.Linear: (5,), nn.Conv1d: (4, 9), nn.Conv2d: (4, 7, 7)}[type(layer)]
    x = draw(*(() if shared else (k,)), 2, *sizes).requires_grad_()
    names = [n for n, _ in layer.named_parameters()]
    own = {n: draw(k, *p.shape).requires_grad_() for n, p in layer.named_parameters()}
    kernel = draw(k, *layer.weight.shape)
    holder = nn.Sequential(layer)
    stack_layers(holder)
    tensors = {f"0.{n}": t for n, t in own.items()} | {f"0.{BUFFER}": kernel}
    y = torch.vmap(
        lambda tensors, x: torch.func.functional_call(holder, tensors, (x,)),
        in_dims=(0, None if shared else 0),
    )(tensors, x)
    dy = draw(*y.shape)
    gradients = torch.autograd.grad(y, [x, *own.values()], dy)
    del layer.__dict__["forward"]
    dx = []
    for i in range(k):
        given = x.detach() if shared else x[i].detach()
        mine = {n: t[i].detach().requires_grad_() for n, t in own.items()}
        out = torch.func.functional_call(layer, mine, (given,))
        torch.testing.assert_close(y[i], out, rtol=1e-12, atol=1e-12)
        for name, expected in zip(
            names, torch.autograd.grad(out, list(mine.values()), dy[i]), strict=True
        ):
            torch.testing.assert_close(gradients[1 + names.index(name)][i], expected)
        at = given.clone().requires_grad_()
        through = torch.func.functional_call(layer, {**mine, "weight": kernel[i]}, (at,))
        dx.append(torch.autograd.grad(through, at, dy[i])[0])
    expected = torch.stack(dx).sum(0) if shared else torch.stack(dx)
    torch.testing.assert_close(gradients[0], expected)


def test_recording_and_views_change_nothing_of_the_program():
    """The networks of a stack are views: what the program learns is in them at once."""
    stack = Stack([build(spec(rule="fa", model_seed=s)) for s in (0, 1)], build)
    before = [p.detach().clone() for p in stack.networks[1].model.parameters()]
    kernels = {n: b.clone() for n, b in stack.networks[1].credit.backward_weights.items()}
    stack.train_epoch(0)
    after = list(stack.networks[1].model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
    alone = build(spec(rule="fa", model_seed=1))
    for name, kernel in stack.networks[1].credit.backward_weights.items():
        assert torch.equal(kernel, kernels[name])
        assert torch.equal(kernel, alone.credit.backward_weights[name])


def test_what_does_not_go_together_is_refused():
    with pytest.raises(SpecError, match="must share task, architecture, batch size"):
        Stack([build(spec()), build(spec(batch_size=8))], build)
    with pytest.raises(SpecError, match="at least one"):
        Stack([], build)


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_steps_round_as_those_of_single_training_and_records_never(precision, monkeypatch):
    """PyTorch's own default would round convolutions to TF32 on a GPU."""
    seen = {"steps": set(), "records": set()}

    def noted(kind, function):
        def call(*given):
            switches = torch.backends.cudnn, torch.backends.cuda.matmul
            seen[kind] |= {switch.allow_tf32 for switch in switches}
            return function(*given)

        return call

    monkeypatch.setattr(Stack, "train_epoch", noted("steps", Stack.train_epoch))
    monkeypatch.setattr(Recorder, "measure", noted("records", Recorder.measure))
    found = []
    train_stack(
        [spec(rule="fa", model_seed=seed) for seed in (0, 1)],
        finished=lambda one, trajectory: found.append(trajectory),
        runtime=RuntimeOptions(precision=precision),
    )
    assert seen == {"steps": {precision == "tf32"}, "records": {False}}
    assert {json.loads(t.attrs["runtime"])["precision"] for t in found} == {precision}


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"compile": True}, {"micro_batch": 8}])
def test_options_that_stacks_do_not_have_are_refused(options):
    with pytest.raises(SpecError, match="in float32 or tf32, with the default layout"):
        train_stack([spec()], finished=print, runtime=RuntimeOptions(**options))
