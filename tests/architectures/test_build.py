"""What must hold of every architecture."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from goaldriven.architectures import BUILDERS, Normal, build
from goaldriven.architectures.network import Observed, assemble, dense
from goaldriven.errors import SpecError
from goaldriven.heads import Contrastive, Readout
from goaldriven.layers import layer_position
from goaldriven.specs import ARCHITECTURES

HEADS = [Readout(10), Contrastive(16)]
SHAPES = [(1, 8, 8), (3, 32, 32)]
LARGE = ("alexnet", "alexnet_lrn", *(n for n in ARCHITECTURES if n[6:9] in ("101", "152")))
NONLINEARITIES = {nn.ReLU: torch.relu, nn.Tanh: torch.tanh}


def make(name, shape=(1, 8, 8), head=HEADS[0], seed=0, width=0.25):
    generator = torch.Generator().manual_seed(seed)
    return build(ARCHITECTURES[name](name=name, width=width), shape, head, generator)


def equal(a, b):
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_every_specified_architecture_has_a_builder():
    assert BUILDERS.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ARCHITECTURES)
class TestEveryArchitecture:
    def test_seed_decides_all_weights(self, name, shape, head):
        assert equal(make(name, shape, head, seed=1), make(name, shape, head, seed=1))
        one, two = make(name, shape, head, seed=1), make(name, shape, head, seed=2)
        for layer in one.layers:
            a, b = (m.get_submodule(layer.name).weight for m in (one, two))
            assert torch.isclose(a, b).double().mean() < 1e-3, "coincidences alone"

    def test_global_generator_is_neither_read_nor_moved(self, name, shape, head):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        one = make(name, shape, head)
        assert torch.equal(before, torch.get_rng_state())
        torch.manual_seed(2)
        assert equal(one, make(name, shape, head))

    def test_layers_are_the_modules_with_kernels(self, name, shape, head):
        model = make(name, shape, head)
        weighted = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
        assert {layer.name for layer in model.layers} == weighted
        assert len({layer.name for layer in model.layers}) == len(model.layers)

    def test_activity_follows_from_the_kernel(self, name, shape, head):
        """The output module sees the layer's own output, or is the layer."""
        model, seen = make(name, shape, head), {}
        for path in {p for layer in model.layers for p in (layer.name, layer.output)}:
            hook = lambda _m, inputs, output, path=path: seen.update({path: (inputs[0], output)})  # noqa: E731
            model.get_submodule(path).register_forward_hook(hook)
        model.eval()(torch.randn(3, *shape))
        for layer in model.layers:
            produced, activity = seen[layer.name][1], seen[layer.output][1]
            if layer.output != layer.name:
                assert torch.equal(seen[layer.output][0], produced)
                nonlinearity = NONLINEARITIES[type(model.get_submodule(layer.output))]
                assert torch.equal(activity, nonlinearity(produced))
            assert activity.shape[0] == 3

    def test_forward_is_the_head_on_flat_features(self, name, shape, head):
        model = make(name, shape, head).eval()
        x = torch.randn(5, *shape)
        features, output = model.features(x), model(x)
        assert features.ndim == 2
        last = model.layers[-1].name
        if isinstance(head, Readout):
            assert output.shape == (5, 10)
            torch.testing.assert_close(model.get_submodule(last)(features), output)
        else:
            assert output.shape == (5, 16)
            assert model.get_submodule("nl_0").weight.shape == (features.shape[1],) * 2
            hidden = model.nl_0_bn(model.nl_0(features)).relu()
            torch.testing.assert_close(model.nl_1_bn(model.nl_1(hidden)), output)

    def test_initializer_fills_like_the_forward_kernel(self, name, shape, head):
        model = make(name, shape, head, width=1 if name not in LARGE else 0.25)
        for layer in model.layers:
            module = model.get_submodule(layer.name)
            other = torch.full_like(module.weight, torch.nan)
            module.initializer(other, torch.Generator().manual_seed(9))
            n, weight = other.numel(), module.weight.detach()
            assert not torch.isclose(other, weight).all()
            # Both are samples of one distribution: the standard error of a deviation is σ/√(2n).
            tolerance = 5 * other.std().item() / np.sqrt(n)
            assert abs(other.std().item() - weight.std().item()) < tolerance
            assert abs(other.mean().item()) < tolerance

    def test_biases_start_at_zero(self, name, shape, head):
        model = make(name, shape, head)
        biases = {n: p for n, p in model.named_parameters() if n.endswith("bias")}
        assert biases
        starts = {n: 0.1 if n in ("fc6.bias", "fc7.bias") else 0.0 for n in biases}  # AlexNet's
        assert all((b == starts[n]).all() for n, b in biases.items())

    def test_every_kernel_learns(self, name, shape, head):
        model = make(name, shape, head)
        generator = torch.Generator().manual_seed(3)
        x, direction = torch.randn(8, *shape, generator=generator), torch.randn(10, 1)
        if isinstance(head, Contrastive):
            direction = torch.randn(16, 1, generator=generator)
        for module in model.modules():  # residual branches start switched off
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
        (model(x) @ direction).square().mean().backward()
        for layer in model.layers:
            assert model.get_submodule(layer.name).weight.grad.abs().sum() > 0

    def test_copies_keep_layers_and_initializers(self, name, shape, head):
        model = make(name, shape, head)
        twin = copy.deepcopy(model)
        assert twin.layers == model.layers
        first = model.layers[0].name
        assert twin.get_submodule(first).initializer == model.get_submodule(first).initializer


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_contrastive_head_replaces_the_readout_only(name):
    plain, contrastive = make(name, head=Readout(10)), make(name, head=Contrastive(16))
    base, headed = list(plain.layers), list(contrastive.layers)
    assert headed[:-2] == base[:-1], "base layers keep name, position and weights"
    assert [(h.name, h.position) for h in headed[-2:]] == [("nl_0", "deep"), ("nl_1", "deep")]
    assert len(headed) == len(base) + 1
    for layer in base[:-1]:
        weights = [m.get_submodule(layer.name).weight for m in (plain, contrastive)]
        assert torch.equal(*weights)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_positions_are_thirds_of_the_list(name):
    layers = make(name).layers
    assert [layer.position for layer in layers] == [
        layer_position(i, len(layers)) for i in range(len(layers))
    ]


def test_projection_head_has_no_redundant_parameters():
    """No dense biases under batch norm, and no shift in the last one (published)."""
    model = make("knet4", head=Contrastive(16))
    f = model.features(torch.zeros(2, 1, 8, 8)).shape[1]
    head = {n: p.numel() for n, p in model.named_parameters() if n.startswith("nl_")}
    assert head == {
        "nl_0.weight": f * f, "nl_0_bn.weight": f, "nl_0_bn.bias": f,
        "nl_1.weight": 16 * f, "nl_1_bn.weight": 16,
    }  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_width_multiplies_channels_and_leaves_at_least_one(name):
    def channels(width):
        model = make(name, width=width)
        return [model.get_submodule(layer.name).weight.shape[0] for layer in model.layers[:-1]]

    full = np.array(channels(1.0))
    assert channels(0.5) == list(full // 2)
    assert channels(2.0) == list(full * 2)
    assert set(channels(1e-6)) == {1}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 9), (3, 33, 20), (1, 28, 28)])
def test_any_input_size_is_accepted(name, shape):
    output = make(name, shape).eval()(torch.randn(2, *shape))
    assert output.shape == (2, 10)
    assert output.isfinite().all()


@pytest.mark.parametrize("shape", [(8, 8), (1, 0, 8), (-1, 8, 8)])
def test_bad_input_shapes_are_named(shape):
    with pytest.raises(SpecError, match=r"input_shape must be \(channels, height, width\), each"):
        make("knet4", shape)


@pytest.mark.parametrize("head", HEADS)
def test_positions_count_the_readout_even_where_it_is_replaced(head):
    """Five layers and a readout make thirds of two."""
    generator = torch.Generator()
    trunk = {f"layer{i}": dense(4, 4, Normal(1.0), generator) for i in range(5)}
    observed = [Observed(name, name, rectified=False) for name in trunk]
    model = assemble(trunk, observed, head, ("readout", Normal(1.0)), 4, generator)
    positions = [layer.position for layer in model.layers]
    base = ["early", "early", "middle", "middle", "deep"]
    assert positions == base + ["deep"] * (1 if isinstance(head, Readout) else 2)
