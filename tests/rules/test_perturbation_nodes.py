"""Node perturbation: errors at the outputs of layers."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from goaldriven.errors import SpecError
from goaldriven.layers import LayerInfo
from goaldriven.rules import theory
from goaldriven.rules.feedback_alignment import FeedbackAlignment
from goaldriven.rules.learned_feedback import LearnedFeedback
from goaldriven.rules.node_perturbation import NodePerturbation
from goaldriven.specs import credit as specs


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def attach(model, layers=None, seed=7, **settings):
    return NodePerturbation(model, layers, specs.NodePerturbation(**settings), generator(seed))


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors]).double()


def estimates(credit, closure, model, repeats):
    found = []
    for _ in range(repeats):
        model.zero_grad()
        credit.backward(closure)
        found.append(flat(p.grad for p in model.parameters()))
    return torch.stack(found)


def truth_of(closure, model):
    return flat(torch.autograd.grad(closure().mean(), list(model.parameters())))


# --- one draw, by its formula -----------------------------------------------------------------


@pytest.mark.parametrize("antithetic", [False, True])
def test_one_draw_on_every_kind_of_layer(layer_and_input, antithetic):
    """On a loss ⟨c, h⟩ the gradients are the layer's own for the error λ̂ = ⟨c, ξ⟩ξ."""
    layer, x = layer_and_input
    y = layer(x)
    c = torch.randn_like(y)
    credit = attach(layer, sigma=0.1, antithetic=antithetic)
    xi = torch.empty_like(y).normal_(generator=generator(7))
    parameters = list(layer.parameters())
    expected = torch.autograd.grad(y, parameters, (c * xi).sum() * xi)
    credit.backward(lambda: (c * layer(x)).sum())
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_one_draw_with_losses_of_stimuli(layer_and_input):
    """Each stimulus has an error of its own: λ̂_i = ⟨c_i, ξ_i⟩ξ_i/n."""
    layer, x = layer_and_input
    y = layer(x)
    if x.dim() == (1 if isinstance(layer, nn.Linear) else 1 + len(layer.kernel_size)):
        pytest.skip("one stimulus without a batch axis")
    c = torch.randn_like(y)
    xi = torch.empty_like(y).normal_(generator=generator(7))
    each = (c * xi).flatten(1).sum(1).view(-1, *[1] * (y.dim() - 1))
    parameters = list(layer.parameters())
    expected = torch.autograd.grad(y, parameters, each * xi / len(x))
    attach(layer, sigma=0.1).backward(lambda: (c * layer(x)).flatten(1).sum(1))
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


# --- unbiased on whole networks ---------------------------------------------------------------


class Winding(nn.Module):
    """Convolutions, batch norm, a skip connection, a layer called twice, a scale of its own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.twice = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.scale = nn.Parameter(torch.tensor([1.3, 0.6]))
        self.out = nn.Linear(2, 3)

    def forward(self, x):
        x = self.norm(self.stem(x)).tanh()
        x = x + self.twice(self.twice(x).tanh())
        return self.out(self.scale * x.mean((2, 3)))


def winding():
    model = Winding().double()
    x = torch.randn(3, 1, 3, 3, generator=generator(2)).double()
    target = torch.randn(3, 3, generator=generator(3)).double()
    return model, lambda: (model(x) - target).square().sum(1)


@pytest.mark.parametrize("several", [False, True])
def test_estimates_on_a_winding_network_are_unbiased(several):
    """Every component of the mean lies within its standard errors of autograd's gradient."""
    model, losses = winding()
    if several:
        model.eval()
    closure = losses if several else lambda: losses().mean()
    truth = truth_of(closure, model)
    credit = attach(model, sigma=1e-4, samples=30)
    found = estimates(credit, closure, model, 150)
    error = found.std(0) / math.sqrt(len(found))
    z = (found.mean(0) - truth) / error
    assert z.abs().max() < 4.2
    assert z.square().mean().sqrt() == pytest.approx(1.0, abs=0.25)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    found_at_all = torch.split(truth / error, list(sizes.values()))
    for name, part in zip(sizes, found_at_all, strict=True):
        dead = name == "stem.bias" and not several  # batch norm in training mode takes it away
        assert (part.norm() < 1e-6) if dead else (part.norm() > 3.5), name


def test_error_is_as_predicted_and_smaller_with_losses_of_stimuli():
    """Σ over stimuli, of which each depends on its own outputs: about √n less error."""
    torch.manual_seed(5)
    n, inputs, nodes = 16, 3, 4
    model = nn.Linear(inputs, nodes, bias=False).double()
    x, g = torch.randn(n, inputs).double(), torch.randn(n, nodes).double()
    losses = lambda: (g * model(x)).sum(1)  # noqa: E731
    truth = truth_of(losses, model)
    measured = {}
    for several in (False, True):
        closure = losses if several else lambda: losses().mean()
        credit = attach(model, samples=2)
        found = estimates(credit, closure, model, 1500)
        credit.remove()
        measured[several] = float((found - truth).square().sum(1).mean())
        expected = theory.node_perturbation_error(g.numpy(), x.numpy(), 2, several)
        assert measured[several] == pytest.approx(expected, rel=0.1)
    assert measured[False] / measured[True] == pytest.approx(n, rel=0.3)


def linear_error(inputs, nodes, samples=1, repeats=700):
    """Relative error of node perturbation of one linear layer that sees one stimulus."""
    torch.manual_seed(inputs + nodes)
    model = nn.Linear(inputs, nodes, bias=False).double()
    x, g = torch.randn(1, inputs).double(), torch.randn(1, nodes).double()
    closure = lambda: (g * model(x)).sum()  # noqa: E731
    truth = truth_of(closure, model)
    found = estimates(attach(model, samples=samples), closure, model, repeats)
    return float((found - truth).square().sum(1).mean().sqrt() / truth.norm())


def slope(x, y):
    x, y = torch.log(torch.tensor(x).double()), torch.log(torch.tensor(y).double())
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def test_error_grows_as_the_root_of_the_nodes_and_not_of_the_weights():
    numbers = [8, 32, 128, 512]
    by_nodes = [linear_error(4, n) for n in numbers]
    assert slope(numbers, by_nodes) == pytest.approx(0.5, abs=0.04)
    expected = [theory.perturbation_relative_error(n, 1) for n in numbers]
    assert by_nodes == pytest.approx(expected, rel=0.12)
    by_inputs = [linear_error(n, 8) for n in numbers]
    assert slope(numbers, by_inputs) == pytest.approx(0.0, abs=0.04)


def test_error_falls_as_the_root_of_samples():
    numbers = [1, 4, 16, 64]
    errors = [linear_error(3, 8, samples=s, repeats=2000 // s) for s in numbers]
    assert slope(numbers, errors) == pytest.approx(-0.5, abs=0.06)


def test_error_on_a_convolution_grows_with_its_positions():
    """One stimulus, all positions of one channel: N nodes, of which the weights see the sum."""
    errors, numbers = [], [4, 8, 16, 32]
    for size in numbers:
        torch.manual_seed(size)
        model = nn.Conv1d(1, 1, 1, bias=False).double()
        closure = lambda model=model, size=size: model(torch.ones(1, 1, size).double()).sum()  # noqa: E731
        found = estimates(attach(model), closure, model, 1500)
        assert float(found.mean()) == pytest.approx(size, rel=0.15)
        errors.append(float((found - size).square().mean().sqrt() / size))
    # (Σξ)² is χ² of one degree, times N: its relative deviation is √2, however many positions.
    assert errors == pytest.approx([math.sqrt(2)] * 4, rel=0.15)


# --- what else it must do ---------------------------------------------------------------------


def test_layers_left_out_are_perturbed_at_their_weights():
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    x = torch.randn(5, 3).double()
    credit = attach(model, [LayerInfo("2", "2", "deep", False)], samples=3000)
    assert "forward" not in vars(model[0])
    closure = lambda: model(x).square().sum(1)  # noqa: E731
    truth = truth_of(closure, model)
    (found,) = estimates(credit, closure, model, 1)
    assert functional.cosine_similarity(found, truth, 0) > 0.97


def test_parametrized_weights_are_perturbed_themselves():
    torch.manual_seed(0)
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 2))).double()
    x = torch.randn(5, 3).double()
    closure = lambda: model(x).square().sum(1)  # noqa: E731
    truth = truth_of(closure, model)
    (found,) = estimates(attach(model, samples=4000), closure, model, 1)
    assert len(found) == 10
    assert functional.cosine_similarity(found, truth, 0) > 0.97


def test_batch_norm_in_training_mode_takes_a_scalar_loss():
    model, losses = winding()
    credit = attach(model)
    assert not credit.per_stimulus
    with pytest.raises(SpecError) as error:
        credit.backward(losses)
    assert str(error.value) == (
        "closure must return a scalar loss where batch norm in training mode makes stimuli depend "
        "on each other, got losses (3,) and batch norm 'norm'; return their mean, or put batch "
        "norm in eval mode"
    )
    model.eval()
    assert credit.per_stimulus
    credit.backward(losses)


def test_losses_must_fit_the_layers():
    model = nn.Linear(3, 2)
    x = torch.randn(4, 5, 3)
    credit = attach(model)
    credit.backward(lambda: model(x).square().sum((1, 2)))
    with pytest.raises(SpecError, match=r"axis is not of the 4 stimuli, got losses \(4,\) and a"):
        credit.backward(lambda: model(x.flatten(0, 1)).view(4, 10).square().sum(1))


def test_inputs_must_stay_as_the_layer_saw_them():
    model = nn.Sequential(nn.Linear(3, 2))

    def closure():
        x = torch.ones(4, 3)
        loss = model(x).square().mean()
        x.zero_()
        return loss

    with pytest.raises(SpecError, match="input of layer '0' must stay as the layer saw it"):
        attach(model).backward(closure)


def test_outputs_may_be_changed_in_place():
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)).double()
    plain = copy.deepcopy(model)
    plain[1].inplace = False
    x = torch.randn(4, 3).double()
    for one in (model, plain):
        attach(one, samples=2).backward(lambda one=one: one(x).square().sum(1))
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize(
    ("later", "message"),
    [("ab", "a call of layer 'b'"), ("bab", "one more call of layer 'b'"),
     ("b", "fewer calls of layer 'a'")],
)  # fmt: skip
def test_passes_must_call_the_same_layers(later, message):
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    orders = iter(["ba", later])
    if later == "ab":
        message = message.replace("'b'", "'a'")

    def closure():
        x = torch.ones(3, 2)
        for name in next(orders):
            x = model[name](x)
        return x.square().sum(1)

    credit = attach(model)
    with pytest.raises(SpecError) as error:
        credit.backward(closure)
    assert str(error.value) == (
        f"closure must call the layers in the same order at every pass, got {message}"
    )
    assert torch.equal(model["a"](torch.ones(3, 2)), model["a"](torch.ones(3, 2)))


def test_layers_that_are_not_called_get_no_gradient():
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    attach(model).backward(lambda: model["a"](torch.ones(3, 2)).square().sum(1))
    assert model["a"].weight.grad is not None
    assert model["b"].weight.grad is None


def learned_feedback(model):
    spec = specs.LearnedFeedback(optimizer={"name": "adam", "learning_rate": 0.01})
    return LearnedFeedback(model, None, generator(), generator(1), spec, None)


@pytest.mark.parametrize("first", [attach, learned_feedback])
@pytest.mark.parametrize("second", [attach, learned_feedback])
def test_a_model_is_attached_to_once(first, second):
    model = nn.Sequential(nn.Linear(2, 2))
    credit = first(model)
    with pytest.raises(SpecError, match=r"got a layer '0' that has; remove\(\) the earlier"):
        second(model)
    credit.remove()
    second(model)


def test_backward_weights_are_in_the_way():
    model = nn.Sequential(nn.Linear(2, 2))
    FeedbackAlignment(model, None, generator())
    for rule in (attach, learned_feedback):
        with pytest.raises(SpecError, match=r"got a layer '0' that has; remove\(\) the earlier"):
            rule(model)


def test_copies_are_silent_and_independent():
    model = nn.Sequential(nn.Linear(2, 2))
    credit = attach(model, sigma=1.0)
    twin = copy.deepcopy(model)
    x = torch.ones(3, 2)
    seen = []

    def closure():
        seen.append(twin(x).detach())
        return model(x).square().sum(1)

    credit.backward(closure)
    assert torch.equal(*seen)


def test_keyword_inputs():
    layer = nn.Linear(3, 2)
    x = torch.randn(4, 3)
    credit = attach(layer)
    credit.backward(lambda: layer(x).square().sum(1))
    expected = layer.weight.grad.clone()
    credit.remove()
    layer.zero_grad()
    attach(layer).backward(lambda: layer(input=x).square().sum(1))
    assert torch.equal(layer.weight.grad, expected)
