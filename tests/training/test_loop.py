"""The training loop against a loop written by hand, and what a record holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from goaldriven import observables
from goaldriven.specs import RULES, STATISTICS, NetworkSpec
from goaldriven.training import build, train
from goaldriven.training.loop import train_epoch
from goaldriven.training.record import measure


def spec(**changes) -> NetworkSpec:
    small = {
        "task": {"name": "digits", "train_limit": 256, "validation_limit": 64},
        "architecture": {"name": "knet4", "width": 0.25},
        "rule": "sgdm",
        "batch_size": 32,
        "epochs": 4,
        "record_every": 2,
    }
    return NetworkSpec(**small | changes)


@pytest.mark.parametrize("rule", ["sgdm", "adam"])
def test_backprop_equals_a_plain_pytorch_loop(rule):
    one = spec(rule=rule)
    ours, reference = build(one), build(one)
    optimizer_spec = one.rule.optimizer
    rate = optimizer_spec.learning_rate
    if optimizer_spec.reference_batch_size is not None:
        rate *= one.batch_size / optimizer_spec.reference_batch_size
    model = reference.model
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [
        {"params": kernels, "weight_decay": optimizer_spec.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    plain: torch.optim.Optimizer
    if rule == "sgdm":
        plain = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    else:
        plain = torch.optim.Adam(groups, lr=rate)
    for epoch in range(2):
        train_epoch(ours, epoch)
        model.train()
        for batch in reference.task.train_batches(32, reference.data_generator):
            plain.zero_grad()
            F.cross_entropy(model(batch.stimuli), batch.labels).backward()
            plain.step()
    for (name, a), b in zip(ours.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=name)


def test_the_trajectory_holds_what_was_asked_for():
    one = spec(rule="fa")
    steps = []
    trajectory = train(one, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(i, 4) for i in range(1, 5)]
    assert trajectory["epoch"].values.tolist() == [0, 2, 4]
    assert trajectory["layer"].values.tolist() == ["conv1", "conv2", "conv3", "fc4"]
    assert trajectory["position"].values.tolist() == ["early", "middle", "deep", "deep"]
    assert trajectory["statistic"].values.tolist() == list(STATISTICS)
    assert np.isnan(trajectory["training_loss"].values[0])
    assert trajectory.attrs["outcome"] == "trained"
    assert NetworkSpec.model_validate_json(trajectory.attrs["spec"]) == one
    assert trajectory.attrs["network_id"] == one.network_id


def test_the_first_record_is_the_initial_network():
    one = spec()
    trajectory = train(one)
    network = build(one)
    expected = observables.record(
        network.model, network.model.layers, network.task.validation_batches(64)
    )
    np.testing.assert_allclose(trajectory["observable"].values[0], expected, rtol=1e-6)


def test_loss_and_metric_are_the_validation_set_s():
    network = build(spec())
    train_epoch(network, 0)
    record = measure(network, 0.0)
    network.model.eval()
    stimuli = torch.cat(list(network.task.validation_batches(64)))
    labels = torch.cat([batch.labels for batch in network.task.validation_objective_batches(64)])
    with torch.no_grad():
        logits = network.model(stimuli)
    assert record.loss == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
    assert record.metric == pytest.approx(float((logits.argmax(1) == labels).double().mean()))


def test_measuring_changes_nothing():
    network = build(spec(architecture={"name": "resnet10", "width": 0.25}, rule="ia"))
    train_epoch(network, 0)
    modes = [m.training for m in network.model.modules()]
    before = {k: v.clone() for k, v in network.model.state_dict().items()}
    backward = {k: v.clone() for k, v in network.credit.backward_weights.items()}
    measure(network, 0.0)
    assert [m.training for m in network.model.modules()] == modes
    for name, value in network.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in network.credit.backward_weights.items():
        assert torch.equal(value, backward[name]), name


def test_gradient_angle_is_zero_where_backward_equals_forward_and_for_the_last_layer():
    network = build(spec(rule="fa"))
    angles = measure(network, 0.0).gradient_angle
    # the readout's error does not pass through any backward weight
    assert angles[-1] == pytest.approx(0.0, abs=1e-2)
    assert np.all(angles[:-1] > 5)
    with torch.no_grad():
        for name, backward in network.credit.backward_weights.items():
            backward.copy_(network.model.get_submodule(name).weight)
    record = measure(network, 0.0)
    np.testing.assert_allclose(record.gradient_angle, 0.0, atol=0.1)
    np.testing.assert_allclose(record.weight_angle, 0.0, atol=0.1)
    np.testing.assert_allclose(record.weight_norm_ratio, 1.0, rtol=1e-6)


def test_gradient_angle_equals_gradients_taken_by_hand():
    """The true gradient from a backprop twin with the same forward weights."""
    aligned, twin = build(spec(rule="fa")), build(spec(rule="sgdm"))
    batch = next(iter(aligned.task.validation_objective_batches(64)))
    gradients = []
    for network in (aligned, twin):
        network.model.eval()
        weights = [network.model.get_submodule(layer.name).weight for layer in network.model.layers]
        loss = network.task.loss(network.model, batch)
        gradients.append([g.flatten().double() for g in torch.autograd.grad(loss, weights)])
    expected = [
        float(torch.rad2deg(torch.acos((p @ t / (p.norm() * t.norm())).clamp(-1, 1))))
        for p, t in zip(*gradients, strict=True)
    ]
    np.testing.assert_allclose(measure(aligned, 0.0).gradient_angle, expected, atol=0.05)


def test_divergence_keeps_the_records_up_to_it():
    wild = {"name": "sgdm", "optimizer": {"learning_rate": 1e30}}
    trajectory = train(spec(rule=wild))
    assert trajectory.attrs["outcome"] == "diverged"
    observable = trajectory["observable"].sel(statistic="weight_raw_norm").values
    assert np.isfinite(observable[0]).all()
    assert np.isnan(observable[-1]).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("architecture", ["knet4", "resnet10"])
def test_the_activity_change_recorded_is_the_true_jacobian_s(rule, architecture):
    """Brute force, through the forward weights only, whatever the rule has attached."""
    network = build(
        spec(
            rule=rule,
            architecture={"name": architecture, "width": 0.1},
            task={"name": "digits", "train_limit": 64, "validation_limit": 4},
        )
    )
    train_epoch(network, 0)
    model, layers = network.model, network.model.layers
    values = observables.record(model, layers, network.task.validation_batches(4))
    column = list(STATISTICS).index("activity_change_raw")
    model.eval()
    for row, layer in enumerate(layers):
        module = model.get_submodule(layer.name)
        inputs: list[torch.Tensor] = []
        handle = module.register_forward_pre_hook(lambda _, args, seen=inputs: seen.append(args[0]))
        with torch.no_grad():
            model(torch.cat(list(network.task.validation_batches(4))))
        handle.remove()
        expected = _summed_jacobian(module, inputs[0].double(), rectify=layer.output != layer.name)
        assert values[row, column] == pytest.approx(expected, rel=1e-4, abs=1e-7), layer.name


def _summed_jacobian(module: torch.nn.Module, x: torch.Tensor, rectify: bool) -> float:
    weight, bias = module.weight.detach().double(), module.bias
    bias = None if bias is None else bias.detach().double()

    def forward(a: torch.Tensor) -> torch.Tensor:
        if isinstance(module, torch.nn.Linear):
            y = F.linear(a, weight, bias)
        else:
            y = F.conv2d(a, weight, bias, module.stride, module.padding)
        return F.relu(y) if rectify else y

    sums = []
    for stimulus in x:
        jacobian = torch.autograd.functional.jacobian(forward, stimulus[None])
        n_outputs = forward(stimulus[None]).numel()
        sums.append(float(jacobian.sum()) / n_outputs)
    return float(np.mean(sums))
