"""Direct feedback alignment: what is replaced, what is not, and by what."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from goaldriven.rules import feedback
from goaldriven.rules.feedback_alignment import FeedbackAlignment

from .direct_networks import (
    Skips,
    assert_same,
    attach,
    by_hand,
    gradients,
    output_error,
    square,
)
from .numpy_network import (
    assert_gradients,
    batch,
    network,
    numpy_gradients,
    torch_gradients,
)


def test_gradients_equal_those_by_hand():
    model = network()
    credit = attach(model)
    found = torch_gradients(model)
    expected = by_hand(model, credit)
    assert_gradients(found, expected)
    plain = numpy_gradients(model)
    for name in ("stem.weight", "one.conv1.weight", "one.bn2.weight", "two.shortcut.weight"):
        assert np.abs(plain[name] - expected[name]).max() > 1e-3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_and_running_statistics_are_the_plain_models(layout):
    plain, model = (network().to(memory_format=layout) for _ in range(2))
    credit = attach(model)
    x = batch()[0].to(memory_format=layout)
    for train in (True, False):
        plain.train(train), model.train(train)
        assert torch.equal(model(x), plain(x))
        with torch.no_grad():
            assert torch.equal(model(x), plain(x))
    for ours, theirs in zip(model.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    functional.cross_entropy(model(x), batch()[1]).backward()
    assert model.state_dict().keys() == plain.state_dict().keys()
    layouts = {d.is_contiguous(memory_format=layout) for d in conv_weights(credit)}
    assert layouts == {True}


def conv_weights(credit):
    return [d for name, d in credit.feedback_weights.items() if name != "fc"]


def test_channels_last_gives_the_same_gradients():
    model, other = network(), network().to(memory_format=torch.channels_last)
    attach(model), attach(other)
    assert_gradients(torch_gradients(other), torch_gradients(model))
    twin = network()  # a D that was drawn in the one layout serves in the other
    attach(twin)
    torch_gradients(twin)
    twin.to(memory_format=torch.channels_last)
    twin.load_state_dict(network().state_dict())
    assert_gradients(torch_gradients(twin), torch_gradients(other))


def test_with_one_hidden_layer_it_is_feedback_alignment():
    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()

    direct, layerwise = model(), model()
    credit = attach(direct)
    x = torch.randn(5, 4, dtype=torch.float64)
    found = gradients(direct, square, x)
    fa = FeedbackAlignment(layerwise, None, torch.Generator().manual_seed(0))
    fa.backward_weights["2"].copy_(credit.feedback_weights["2"])
    assert_same(found, gradients(layerwise, square, x), rtol=1e-13, atol=1e-14)


def test_weights_are_xavier_uniform_times_gain_and_independent():
    model = nn.Sequential(nn.Linear(4, 300), nn.Linear(300, 300), nn.Linear(300, 20))
    credit = attach(model, gain=2.5)
    model(torch.randn(2, 4)).sum().backward()
    one, two = (credit.feedback_weights[name].flatten().numpy() for name in "12")
    bound = 2.5 * math.sqrt(6 / 320)
    for found in (one, two):
        assert stats.kstest(found, stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.01
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / math.sqrt(6000)
    assert "0" not in credit.feedback_weights


def test_draws_depend_on_the_generator_alone():
    models = [network() for _ in range(3)]
    state = torch.get_rng_state()
    for model, seed in zip(models, (1, 1, 2), strict=True):
        attach(model, seed)
    with torch.no_grad():  # nor on what is done before
        models[1].eval()(batch()[0])
        models[1].train().load_state_dict(models[0].state_dict())
    found = [torch_gradients(model)["stem.weight"] for model in models]
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_true_gradients_are_backprops_also_of_graphs_built_before():
    model = network()
    credit = attach(model)
    x, labels = batch()
    loss = functional.cross_entropy(model(x), labels)
    parameters = dict(model.named_parameters())
    direct = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
    with credit.true_gradients():
        exact = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
    again = torch.autograd.grad(loss, list(parameters.values()))
    named = [{n: g.numpy() for n, g in zip(parameters, gs, strict=True)} for gs in (direct, exact)]
    assert_gradients(named[1], numpy_gradients(model))
    assert_gradients(named[0], by_hand(model, credit))
    assert all(torch.equal(a, b) for a, b in zip(direct, again, strict=True))


def test_no_layer_computes_the_gradient_at_its_input(monkeypatch):
    masks = []
    original = feedback._convolution_backward

    def spying(*args):
        masks.append(tuple(args[-1]))
        return original(*args)

    monkeypatch.setattr(feedback, "_convolution_backward", spying)
    model = network()
    credit = attach(model)
    torch_gradients(model)
    assert len(masks) == 6
    assert not any(needs_x for needs_x, _, _ in masks)
    with credit.true_gradients():
        torch_gradients(model)
    assert sum(needs_x for needs_x, _, _ in masks) == 5


def test_the_whole_gradient_at_a_tensor_is_replaced_once():
    model = Skips().double()
    credit = attach(model)
    x = torch.randn(4, 5, dtype=torch.float64)
    found = gradients(model, square, x)
    d = credit.feedback_weights
    assert d.keys() == {"b", "out"}
    with torch.no_grad():
        e = output_error(model(x))
        h = torch.tanh(model.a(x))
        dsum = e @ d["out"]
        da = (e @ d["b"]) * (1 - h**2)  # whatever comes by exp, sin, and c
        active = model.c(h) > 0
    torch.testing.assert_close(found["a.weight"], da.T @ x)
    torch.testing.assert_close(found["b.weight"], dsum.T @ h)
    torch.testing.assert_close(found["c.weight"], (dsum * active).T @ h)


class Changing(nn.Module):
    """A tensor that is changed in place between the layers that read it: two tensors."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(5, 5) for _ in range(3))

    def forward(self, x):
        h = self.a(x) * 1.0
        read = self.b(h)
        h += 1.0
        return self.c(h) + read.detach()  # b.weight would need the old h


def test_a_change_in_place_makes_another_tensor():
    model = Changing().double()
    credit = attach(model)
    x = torch.randn(4, 5, dtype=torch.float64)
    y = model(x)
    found = torch.autograd.grad(square(y), [model.a.weight, model.c.weight])
    with torch.no_grad():
        e, h = output_error(y), model.a(x)
    torch.testing.assert_close(found[1], e.T @ (h + 1))
    assert credit.feedback_weights.keys() == {"b", "c"}
    torch.testing.assert_close(found[0], (e @ credit.feedback_weights["b"]).T @ x)


def test_layers_left_out_carry_exact_errors():
    model = nn.Sequential(*(nn.Linear(5, 5) for _ in range(4))).double()
    credit = attach(model, layers=["0", "2"])
    x = torch.randn(4, 5, dtype=torch.float64)
    found = gradients(model, square, x)
    ((name, d),) = credit.feedback_weights.items()
    assert name == "2"
    with torch.no_grad():
        h = [x]
        for layer in model:
            h.append(layer(h[-1]))
        d3 = output_error(h[-1])
        e = d3 @ model[3].weight  # at the output of layer 2, the last that is attached
        at_2 = e @ d
        at_1 = at_2 @ model[1].weight
    torch.testing.assert_close(found["3.weight"], d3.T @ h[3])
    torch.testing.assert_close(found["2.weight"], e.T @ h[2])
    torch.testing.assert_close(found["1.weight"], at_2.T @ h[1])
    torch.testing.assert_close(found["0.weight"], at_1.T @ h[0])


SHAPES = {
    "unbatched": ((5,), (2,)),
    "tokens": ((3, 4, 5), (3, 4, 2)),
}


@pytest.mark.parametrize(("shape", "out"), SHAPES.values(), ids=SHAPES)
def test_features_are_all_but_the_samples(shape, out):
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    credit = attach(model)
    x = torch.randn(shape, dtype=torch.float64)
    found = gradients(model, square, x)
    samples = 1 if len(shape) == 1 else shape[0]
    (d,) = credit.feedback_weights.values()
    assert tuple(d.shape) == (math.prod(out) // samples, *shape[1:-1], 6)
    with torch.no_grad():
        hidden = torch.tanh(model[0](x))
        e = output_error(model[2](hidden))
    at_hidden = torch.tensordot(e.reshape(samples, -1), d, 1).reshape(hidden.shape)
    expected = (at_hidden * (1 - hidden**2)).reshape(-1, 6).T @ x.reshape(-1, 5)
    torch.testing.assert_close(found["0.weight"], expected)


def test_unbatched_convolutions():
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Tanh(), nn.Conv1d(3, 2, 3)).double()
    attach(model)
    x = torch.randn(2, 9, dtype=torch.float64)
    found = gradients(model, square, x)
    assert_same(found, gradients(model, lambda y: square(y[0]), x[None]))


class Shared(nn.Module):
    """One layer called twice in a pass, by way of another."""

    def __init__(self):
        super().__init__()
        self.shared, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        h = torch.tanh(self.shared(x))
        return self.out(torch.tanh(self.shared(h)))


def test_a_layer_called_twice_has_one_d():
    model = Shared().double()
    credit = attach(model)
    x = torch.randn(3, 4, dtype=torch.float64)
    found = gradients(model, square, x)
    d = credit.feedback_weights
    with torch.no_grad():
        one = torch.tanh(model.shared(x))
        two = torch.tanh(model.shared(one))
        y = model.out(two)
        e = output_error(y)
        d2, d1 = (e @ d["out"]) * (1 - two**2), (e @ d["shared"]) * (1 - one**2)
    torch.testing.assert_close(found["shared.weight"], d2.T @ one + d1.T @ x)
