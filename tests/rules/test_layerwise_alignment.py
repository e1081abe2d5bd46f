"""Information alignment as a training step: what B learns and what it leaves alone."""

import copy

import pytest
import torch
from torch import nn

from goaldriven import rules
from goaldriven.errors import SpecError
from goaldriven.layers import LayerInfo
from goaldriven.specs.credit import LayerwiseOperations

from . import slow_alignment
from .aligned_networks import (
    SGD,
    batch,
    ia,
    inputs_of,
    loss_of,
    net,
    snapshot,
)


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("forward_bias", "forward_relu", "forward_batch_centring", "input_batch_centring"),
        tuple(LayerwiseOperations.model_fields),
    ],
    ids=["no operations", "weight mirror's", "all"],
)
def test_a_step_descends_every_layers_own_loss(names):
    """Also: rectified layers only get ReLUs; in-place ReLUs after a layer do not matter."""
    operations = LayerwiseOperations(**dict.fromkeys(names, True))
    model, data = net(), batch()
    layers = [
        LayerInfo("0", "1", "early", rectified=True),
        LayerInfo("2", "4", "middle", rectified=True),
        LayerInfo("6", "6", "deep", rectified=False),
    ]
    inputs = inputs_of(copy.deepcopy(model), data[0])
    credit = ia(operations=operations.model_dump()).attach(model, layers)
    before = snapshot(credit)
    credit.backward(loss_of(model, data))
    credit.step()
    for layer in layers:
        own = operations
        if not layer.rectified:
            own = operations.model_copy(update={"forward_relu": False, "backward_relu": False})
        module, b = model.get_submodule(layer.name), before[layer.name]
        gradient = slow_alignment.gradient(
            module, inputs[layer.name], b, own, amp=1.0, decay=0.1, null=0.5
        )
        expected = b - 0.1 * gradient
        torch.testing.assert_close(
            credit.backward_weights[layer.name], expected, rtol=1e-9, atol=1e-11
        )


def test_alignment_leaves_forward_weights_and_earlier_layers_alone():
    """With B equal to W a step of backward leaves backprop's gradients, and no others."""
    model, data = net(), batch()
    plain = copy.deepcopy(model)
    credit = ia().attach(model)
    for name, b in credit.backward_weights.items():
        b.copy_(model.get_submodule(name).weight.detach())
    ours = credit.backward(loss_of(model, data))
    theirs = loss_of(plain, data)()
    theirs.backward()
    assert torch.equal(ours, theirs.detach())
    assert not ours.requires_grad
    for (name, a), b in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-14, msg=name)
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)


def test_the_tasks_loss_never_moves_backward_weights():
    model = net()
    credit = ia(amp=0.0, decay=0.0, null=0.0).attach(model)
    before = snapshot(credit)
    for seed in range(3):
        credit.backward(loss_of(model, batch(seed)))
        credit.step()
    assert all(torch.equal(before[n], b) for n, b in credit.backward_weights.items())


def fixed_point(rule, layer, x, steps):
    credit = rule.attach(layer)
    for _ in range(steps):
        credit.backward(lambda: layer(x).sum())
        credit.step()
    (b,) = credit.backward_weights.values()
    return b


def test_fixed_point_of_information_alignment_for_a_frozen_linear_layer():
    """B = α (βI + γ W C Wᵀ)⁻¹ W C with C = ⟨x xᵀ⟩; the bias has no part in it."""
    alpha, beta, gamma = 0.8, 0.3, 0.5
    layer = nn.Linear(6, 4).double()
    x = torch.randn(40, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 0.5
    w, second_moment = layer.weight.detach().clone(), x.T @ x / 40
    inner = beta * torch.eye(4, dtype=torch.float64) + gamma * w @ second_moment @ w.T
    expected = alpha * torch.linalg.solve(inner, w @ second_moment)
    rate = {"learning_rate": 1.0 / inner.norm().item(), "momentum": 0.8}
    b = fixed_point(ia(alpha, beta, gamma, align=SGD | rate), layer, x, 400)
    torch.testing.assert_close(b, expected, rtol=1e-8, atol=1e-10)
    assert torch.equal(layer.weight, w)


def test_fixed_point_without_null_is_the_weight_mirrors():
    """Weight mirroring: B = (α/β) W C, by momentum; by Adam too."""
    layer = nn.Linear(6, 4).double()
    x = torch.randn(40, 6, dtype=torch.float64)
    expected = 0.8 / 0.3 * layer.weight.detach() @ (x.T @ x / 40)
    rule = ia(0.8, 0.3, 0.0, align=SGD | {"learning_rate": 0.5, "momentum": 0.5})
    b = fixed_point(rule, layer, x, 300)
    torch.testing.assert_close(b, expected, rtol=1e-9, atol=1e-11)


def test_fixed_point_with_unit_noise_points_along_the_forward_weights():
    """With noise in the input's place C = σ²I: B = (ασ²/β) W, whatever the layer's real input."""
    layer = nn.Linear(6, 4).double()
    x = 100 + torch.randn(20_000, 6, dtype=torch.float64)
    rule = ia(0.3, 0.3, 0.0, align=SGD | {"learning_rate": 3.0}, input_noise=0.5)
    b = fixed_point(rule, layer, x, 4)
    torch.testing.assert_close(b, 0.25 * layer.weight.detach(), rtol=0.1, atol=0.01)


def test_fixed_point_of_a_convolution_without_null():
    layer = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False).double()
    x = torch.randn(5, 2, 7, 6, dtype=torch.float64)
    y = layer(x).detach()
    expected = nn.grad.conv2d_weight(x, layer.weight.shape, y, stride=2, padding=1) / (5 * 2.0)
    rule = ia(1.0, 2.0, 0.0, align=SGD | {"learning_rate": 0.5})  # one step: 1 − 0.5·2 = 0
    torch.testing.assert_close(fixed_point(rule, layer, x, 1), expected, rtol=1e-10, atol=1e-12)


def test_calls_of_a_shared_layer_add_up_and_decay_counts_once():
    layer = nn.Linear(4, 4, bias=False).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    credit = ia(1.0, 0.2, 0.3).attach(layer)
    (before,) = snapshot(credit).values()
    credit.backward(lambda: layer(layer(x)).sum())
    credit.gather()
    (b,) = credit.backward_weights.values()
    no = LayerwiseOperations()
    hidden = layer(x).detach()
    expected = slow_alignment.gradient(layer, x, before, no, amp=1.0, decay=0.2, null=0.3)
    expected += slow_alignment.gradient(layer, hidden, before, no, amp=1.0, decay=0.0, null=0.3)
    torch.testing.assert_close(b.grad, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("calls", [1, 2])
def test_both_gradients_are_taken_at_the_same_weights(calls):
    """J + R is one loss: B is pulled towards the W of the pass, wherever W has gone since."""
    credit = {
        "name": "layerwise_alignment",
        "primitives": {"self": 0.3, "decay": 0.2},
        "optimizer": SGD,
    }
    layer, x = nn.Linear(3, 2).double(), torch.randn(5, 3, dtype=torch.float64)
    attached = rules.make("mine", credit=credit, optimizer=SGD).attach(layer)
    seen, (before,) = layer.weight.detach().clone(), snapshot(attached).values()
    for _ in range(calls):
        attached.backward(lambda: layer(x).square().sum())
    with torch.no_grad():
        layer.weight.mul_(-7.0)  # as an optimizer would
    attached.step()
    expected = before - 0.1 * (0.2 * before - 0.3 * seen)
    torch.testing.assert_close(attached.backward_weights[""], expected, rtol=1e-12, atol=1e-14)


def test_layers_without_activations_are_named():
    model = nn.ModuleDict({"used": nn.Linear(3, 3), "idle": nn.Linear(3, 3)}).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    credit = ia(1.0, 0.2, 0.3).attach(model)
    with pytest.raises(SpecError) as error:
        credit.backward(lambda: model["used"](x).sum())
    assert str(error.value) == (
        "primitives amp, null need every layer's activations, which the closure must compute, got "
        "none of layer 'idle' (leave it out by 'layers')"
    )
    credit.remove()
    credit = ia(1.0, 0.2, 0.3).attach(model, layers=["used"])
    credit.backward(lambda: model["used"](x).sum())
    assert list(credit.backward_weights) == ["used"]


def test_evaluation_teaches_nothing():
    model = net()
    credit = ia().attach(model)
    with torch.no_grad():
        model.eval()(batch()[0])
    model.train()(batch()[0]).sum().backward()
    assert all(b.grad is None for b in credit.backward_weights.values())


def test_a_failing_closure_leaves_nothing_switched_on():
    model = net()
    credit = ia().attach(model)

    def failing():
        raise RuntimeError("out of stimuli")

    with pytest.raises(RuntimeError, match="out of stimuli"):
        credit.backward(failing)
    model(batch()[0])
    assert all(b.grad is None for b in credit.backward_weights.values())
    with pytest.raises(SpecError, match=r"^closure must return the loss, a scalar tensor, got \(8"):
        credit.backward(lambda: model(batch()[0]))
