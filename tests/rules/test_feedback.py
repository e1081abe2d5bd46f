"""One layer with backward weights: its gradients, and that it remains the user's layer."""

import copy
import pickle

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import nn
from torch.nn import functional

from goaldriven import rules
from goaldriven.rules import feedback
from goaldriven.rules.feedback import BUFFER, LayerFeedback, OwnWeights, Switch, backward_weight_of

from .slow_alignment import adjoint


def attached(layer, backward_weight=None, switch=None):
    weight = layer.weight.detach()
    backward_weight = weight.clone() if backward_weight is None else backward_weight
    LayerFeedback(layer, OwnWeights(), "", True, switch or Switch())
    layer.register_buffer(BUFFER, backward_weight, persistent=False)
    return layer


def gradients(model, x, *, inplace=True):
    """Output and gradients of input and parameters, of a loss of a ReLU of the output."""
    x = x.clone().requires_grad_()
    y = model(x)
    y = y.relu_() if inplace else y.relu()
    weights = torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).view_as(y)
    parameters = dict(model.named_parameters())
    grads = torch.autograd.grad((weights * y).sum(), [x, *parameters.values()])
    return dict(zip(["y", "x", *parameters], [y.detach(), *grads], strict=True))


def assert_same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance)


@pytest.mark.parametrize("inplace", [True, False])
def test_backward_weights_equal_to_the_forward_give_backprop(layer_and_input, inplace):
    layer, x = layer_and_input
    plain = gradients(layer, x, inplace=inplace)
    assert_same(gradients(attached(layer), x, inplace=inplace), plain, rtol=1e-14, atol=1e-14)


def test_gradcheck_where_backward_weights_equal_the_forward(layer_and_input):
    layer, x = layer_and_input
    x = (x[:2] if len(x) == 65 else x).clone().requires_grad_()  # of the large case, two samples
    attached(layer)
    parameters = [p for p in layer.parameters() if p.numel() < 200]

    def run(x, *parameters):
        return layer(x)

    assert torch.autograd.gradcheck(run, (x, *parameters), fast_mode=x.numel() > 300)


def test_the_error_goes_through_b_and_nothing_else_changes(layer_and_input):
    layer, x = layer_and_input
    plain = gradients(layer, x)
    backward_weight = torch.randn_like(layer.weight.detach())
    ours = gradients(attached(layer, backward_weight), x)
    weights = torch.linspace(0.5, 1.5, ours["y"].numel(), dtype=x.dtype).view_as(ours["y"])
    error = weights * (ours["y"] > 0)
    expected = adjoint(layer, error, backward_weight, x)
    torch.testing.assert_close(ours.pop("x"), expected, rtol=1e-12, atol=1e-12)
    plain.pop("x")
    assert_same(ours, plain, rtol=1e-14, atol=1e-14)


def test_true_gradients_holds_for_graphs_built_before():
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    x = torch.randn(6, 5, dtype=torch.float64)
    plain = gradients(model, x)["0.weight"]
    credit = rules.make("fa").attach(model)
    loss = (torch.linspace(0.5, 1.5, 18, dtype=x.dtype).view(6, 3) * model(x).relu()).sum()
    weight = model[0].weight
    with credit.true_gradients():
        inside = torch.autograd.grad(loss, weight, retain_graph=True)[0]
    outside = torch.autograd.grad(loss, weight)[0]
    torch.testing.assert_close(inside, plain, rtol=1e-13, atol=1e-13)
    assert (outside - plain).abs().max() > 0.1


def test_first_layers_get_no_error_computed(monkeypatch):
    masks = []
    original = feedback._convolution_backward

    def spying(*args):
        masks.append(tuple(args[-1]))
        return original(*args)

    monkeypatch.setattr(feedback, "_convolution_backward", spying)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3, bias=False))
    rules.make("fa").attach(model)
    model[0].weight.requires_grad_(False)
    model(torch.randn(2, 1, 6, 6)).sum().backward()
    assert masks == [(True, True, False), (False, False, True)]
    assert model[0].weight.grad is None


def small_net():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2, bias=False),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(6 * 9, 3),
    )


def test_the_model_stays_what_it_was():
    model = small_net()
    before = copy.deepcopy(model)
    parameters = dict(model.named_parameters())
    classes = [type(m) for m in model.modules()]
    credit = rules.make("ia").attach(model)
    assert {n: id(p) for n, p in model.named_parameters()} == {
        n: id(p) for n, p in parameters.items()
    }
    assert [type(m) for m in model.modules()] == classes
    assert model.state_dict().keys() == before.state_dict().keys()
    model.load_state_dict(before.state_dict(), strict=True)
    x = torch.randn(2, 2, 8, 8)
    assert torch.equal(model.eval()(x), before.eval()(x))
    credit.remove()
    for ours, theirs in zip(model.modules(), before.modules(), strict=True):
        state, reference = vars(ours), vars(theirs)
        assert state.keys() == reference.keys()
        for key in ("_forward_hooks", "_forward_hooks_with_kwargs", "_non_persistent_buffers_set"):
            assert state[key] == reference[key]
        assert state["_buffers"].keys() == reference["_buffers"].keys()
    rules.make("fa").attach(model)  # may be attached again


def test_gradients_after_removal_are_backprops():
    model, x = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)).double(), torch.randn(6, 5).double()
    plain = gradients(model, x)
    credit = rules.make("fa").attach(model)
    assert (gradients(model, x)["x"] - plain["x"]).abs().max() > 0.01
    credit.remove()
    assert credit.backward_weights == {}
    assert_same(gradients(model, x), plain, rtol=0, atol=0)


def test_deep_copies_and_pickles_work_and_are_independent():
    model, x = small_net().double(), torch.randn(3, 2, 8, 8).double()
    credit = rules.make("fa").attach(model)
    expected = gradients(model, x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        # batch norm's running statistics play no part in training mode
        assert_same(gradients(twin, x), expected, rtol=0, atol=0)
        with credit.true_gradients():
            assert_same(gradients(twin, x), expected, rtol=0, atol=0)
        backward_weight_of(twin[6]).zero_()
        assert gradients(twin, x)["x"].abs().max() == 0
        rules.detach(twin)
        assert rules.make("sgdm").attach(twin).backward_weights == {}
    assert_same(gradients(model, x), expected, rtol=0, atol=0)


def test_backward_weights_follow_the_model():
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    credit = rules.make("fa").attach(model)
    model.double()
    assert {b.dtype for b in credit.backward_weights.values()} == {torch.float64}
    model(torch.randn(2, 5).double()).sum().backward()
    model.to("meta")
    assert all(b.is_meta for b in credit.backward_weights.values())


def test_a_module_called_twice_sends_errors_back_through_b_twice():
    shared = nn.Linear(4, 4, bias=False).double()
    backward_weight = torch.randn(4, 4, dtype=torch.float64)
    attached(shared, backward_weight)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    error = torch.randn(3, 4, dtype=torch.float64)
    hidden = shared(x)
    dx, dweight = torch.autograd.grad(shared(hidden), (x, shared.weight), error)
    torch.testing.assert_close(dx, error @ backward_weight @ backward_weight)
    expected = error.T @ hidden.detach() + (error @ backward_weight).T @ x.detach()
    torch.testing.assert_close(dweight, expected)


def test_autocast_gives_what_it_gives_backprop():
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(True), nn.Flatten(), nn.Linear(4 * 36, 3)]
    model, x = nn.Sequential(*layers), torch.randn(5, 2, 6, 6)

    def run():
        model.zero_grad()
        given = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = model(given)
        assert y.dtype == torch.bfloat16
        y.float().square().sum().backward()
        return {n: p.grad.clone() for n, p in model.named_parameters()} | {"x": given.grad}

    plain = run()
    for layer in (model[0], model[3]):
        attached(layer)
    ours = run()
    assert {g.dtype for g in ours.values()} == {torch.float32}
    assert_same(ours, plain, rtol=2e-2, atol=2e-2)


def test_evaluation_is_pytorchs_own():
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    expected = layer(x).detach()
    attached(layer, torch.full_like(layer.weight.detach(), float("nan")))
    with torch.no_grad():
        assert torch.equal(layer(x), expected)
    with torch.inference_mode():
        assert torch.equal(layer.eval()(x), expected)
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    assert not layer(x).requires_grad


def test_the_input_may_be_named_and_user_hooks_see_the_final_output():
    layer, x = nn.Linear(4, 3).double(), torch.randn(2, 4).double().requires_grad_()
    seen = []
    layer.register_forward_hook(lambda module, args, y: seen.append(y))
    backward_weight = torch.randn(3, 4).double()
    y = attached(layer, backward_weight)(input=x)
    assert seen[0] is y
    y.sum().backward()
    torch.testing.assert_close(x.grad, backward_weight.sum(0).expand(2, 4))


def test_forward_mode_is_pytorchs_own_without_grad_and_refused_with():
    layer, x, tangent = nn.Linear(4, 3), torch.randn(2, 4), torch.randn(2, 4)
    attached(layer, torch.randn(3, 4))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, tangent)
        with torch.no_grad():
            derivative = forward_ad.unpack_dual(layer(dual)).tangent
        torch.testing.assert_close(derivative, functional.linear(tangent, layer.weight))
        with pytest.raises(NotImplementedError):
            layer(dual)


def test_gradients_can_be_differentiated_again():
    """Of a gradient penalty: B is a constant, so ∂‖dy B‖²/∂W comes through dy alone."""
    first, second = nn.Linear(4, 3, bias=False).double(), nn.Linear(3, 1, bias=False).double()
    backward_weight = torch.randn(3, 4).double()
    attached(first, backward_weight)
    x = torch.randn(5, 4).double().requires_grad_()
    hidden = first(x)
    (dx,) = torch.autograd.grad(second(hidden.square()).sum(), x, create_graph=True)
    (ours,) = torch.autograd.grad(dx.square().sum(), first.weight)
    weight = first.weight.detach().clone().requires_grad_()
    error = 2 * (x.detach() @ weight.T) * second.weight.detach()
    (expected,) = torch.autograd.grad((error @ backward_weight).square().sum(), weight)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
