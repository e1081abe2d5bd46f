"""Closed-form gradients of the alignment losses against autograd of the losses, and their cost."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from goaldriven.rules.linear_maps import Convolution, Dense
from goaldriven.rules.operations import make_paths
from goaldriven.rules.primitives import (
    ACTIVATION_PRIMITIVES,
    KERNEL_PRIMITIVES,
    total_gradient,
    total_value,
)
from goaldriven.specs.credit import LayerwiseOperations

from . import slow_alignment

NAMES = tuple(LayerwiseOperations.model_fields)
LINEAR = tuple(n for n in NAMES if n not in ("backward_relu", "backward_feature_normalisation"))
WEIGHTS = {"amp": 1.3, "null": 0.7, "sparse": 0.4}
PAIR = {"amp": 1.3, "null": 0.7}


def operations(*names):
    return LayerwiseOperations(**dict.fromkeys(names, True))


def random_operations(seed):
    chosen = np.random.default_rng(seed).random(len(NAMES)) < 0.45
    return operations(*np.array(NAMES)[chosen])


@torch.no_grad()
def paths_of(layer, x, kernel, chosen, linear_map=None, noise=None):
    if linear_map is None:
        linear_map = Dense() if isinstance(layer, nn.Linear) else Convolution.of(layer)
    x, y = linear_map.batched(x, layer(x))
    noise = None if noise is None else linear_map.batched(noise, y)[0]
    return make_paths(linear_map, kernel, layer.weight, layer.bias, chosen, x, y, noise)


def batched(layer, x):
    axes = 2 if isinstance(layer, nn.Linear) else len(layer.kernel_size) + 2
    return x[None] if x.dim() == axes - 1 else x


def check(layer, x, chosen, weights):
    kernel = torch.randn_like(layer.weight.detach())
    paths = paths_of(layer, x, kernel, chosen)
    before = paths.u.clone(), paths.f.clone(), x.clone()
    with torch.no_grad():
        ours, value = total_gradient(weights, paths), total_value(weights, paths)
    assert all(torch.equal(a, b) for a, b in zip(before, (paths.u, paths.f, x), strict=True))
    given = (layer, batched(layer, x), kernel, chosen)
    expected_value = slow_alignment.loss(*given, **weights)
    torch.testing.assert_close(value, expected_value.detach(), rtol=1e-9, atol=1e-9)
    expected = slow_alignment.gradient(*given, **weights)
    ours = torch.zeros_like(kernel) if ours is None else ours
    scale = max(expected.abs().max().item(), 1e-6)  # of a normalised g, sparse is constant
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-10 * scale)


@pytest.mark.parametrize("primitive", ACTIVATION_PRIMITIVES)
def test_gradient_of_each_primitive_of_activations(primitive, layer_and_input):
    layer, x = layer_and_input
    check(layer, x, operations(), dict.fromkeys(ACTIVATION_PRIMITIVES, 0.0) | {primitive: 1.0})


@pytest.mark.parametrize("primitive", KERNEL_PRIMITIVES)
def test_gradient_of_each_primitive_of_kernels(primitive):
    b, w, dw = torch.randn(3, 4, 5, dtype=torch.float64)
    value = {
        "decay": lambda b: (b**2).sum() / 2,
        "self": lambda b: -torch.trace(b.T @ w),
        "angle": lambda b: torch.trace(b.T @ dw),
    }[primitive]
    leaf = b.clone().requires_grad_()
    (expected,) = torch.autograd.grad(value(leaf), leaf)
    torch.testing.assert_close(KERNEL_PRIMITIVES[primitive].gradient(b, w, dw), expected)
    torch.testing.assert_close(KERNEL_PRIMITIVES[primitive].value(b, w, dw), value(b))


# A batch of one is its own mean: centred it is 0, and its normalisation is undefined.
NEEDS_A_BATCH = ("forward_batch_centring", "input_batch_centring")


@pytest.mark.parametrize("weights", [WEIGHTS, PAIR], ids=["with sparse", "without"])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_under_each_operation(name, weights, layer_and_input):
    layer, x = layer_and_input
    check(layer, x, operations(name), weights)


@pytest.mark.parametrize("seed", range(6))
def test_gradient_under_random_combinations_on_every_layer(seed, layer_and_input):
    layer, x = layer_and_input
    chosen = random_operations(seed)
    if len(batched(layer, x)) == 1:
        chosen = chosen.model_copy(update=dict.fromkeys(NEEDS_A_BATCH, False))
    check(layer, x, chosen, WEIGHTS)


DENSE_AND_CONVOLUTIONS = {
    "dense": (lambda: nn.Linear(7, 5), (6, 7)),
    "strided, padded, grouped": (
        lambda: nn.Conv2d(4, 6, 3, stride=2, padding=(1, 2), groups=2),
        (5, 4, 6, 7),
    ),
    "dilated": (lambda: nn.Conv2d(3, 4, (3, 2), padding=2, dilation=(1, 2)), (4, 3, 5, 6)),
}


@pytest.mark.parametrize("seed", range(100, 160))
@pytest.mark.parametrize(
    ("make", "shape"), DENSE_AND_CONVOLUTIONS.values(), ids=DENSE_AND_CONVOLUTIONS
)
def test_gradient_under_random_combinations(seed, make, shape):
    layer, generator = make().double(), np.random.default_rng(seed)
    nn.init.normal_(layer.bias)
    weights = {n: 0.0 if generator.random() < 0.2 else generator.random() for n in WEIGHTS}
    x = torch.randn(shape, dtype=torch.float64) + 0.3
    if x.dim() == 4 and seed % 2:
        x = x.to(memory_format=torch.channels_last)
    check(layer, x, random_operations(seed), weights)


@pytest.mark.parametrize("seed", range(10))
def test_noise_takes_the_inputs_place(seed, layer_and_input):
    layer, x = layer_and_input
    chosen = operations() if seed == 0 else random_operations(seed)
    if len(batched(layer, x)) == 1:
        chosen = chosen.model_copy(update=dict.fromkeys(NEEDS_A_BATCH, False))
    kernel, noise = torch.randn_like(layer.weight.detach()), torch.randn_like(x)
    with torch.no_grad():
        ours = total_gradient(WEIGHTS, paths_of(layer, x, kernel, chosen, noise=noise))
    given = (layer, batched(layer, noise), kernel, chosen)
    expected = slow_alignment.gradient(*given, **WEIGHTS)
    scale = expected.abs().max().item()
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-10 * scale)


def test_silent_and_constant_samples_are_finite():
    """Samples without norm are normalised to 0 and leave no gradient."""
    layer = nn.Linear(4, 3).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    x[0], x[1] = 0.0, 2.5
    chosen = operations(*NAMES)
    kernel = torch.randn(3, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.bias.fill_(-1.0)
        gradient = total_gradient(WEIGHTS, paths_of(layer, x, kernel, chosen))
        assert torch.isfinite(gradient).all()
        zeros = total_gradient(WEIGHTS, paths_of(layer, torch.zeros_like(x), kernel, chosen))
        torch.testing.assert_close(zeros, torch.zeros_like(kernel))


@dataclass(frozen=True)
class Counting(Convolution):
    """Counts what is done for batches; one sample's worth is counted apart."""

    done: dict[str, int] = field(default_factory=dict)

    def _count(self, what, samples):
        what = what if samples > 1 else "one sample"
        self.done[what] = self.done.get(what, 0) + 1

    def project(self, x, kernel):
        self._count("project", len(x))
        return super().project(x, kernel)

    def reconstruct(self, y, kernel, x):
        self._count("reconstruct", len(y))
        return super().reconstruct(y, kernel, x)

    def weight_gradient(self, x, y, kernel):
        self._count("weight gradient", len(x))
        return super().weight_gradient(x, y, kernel)


def cost(chosen, weights=PAIR, noise=False):
    layer = nn.Conv2d(4, 6, 3, padding=1)
    x = torch.randn(5, 4, 6, 7)
    counting = Counting(**vars(Convolution.of(layer)))
    kernel = torch.randn_like(layer.weight.detach())
    with torch.no_grad():
        noise = torch.randn_like(x) if noise else None
        total_gradient(weights, paths_of(layer, x, kernel, chosen, counting, noise))
    counting.done.pop("one sample", None)
    return counting.done


def test_one_reconstruction_and_one_weight_gradient_and_no_more():
    least = {"reconstruct": 1, "weight gradient": 1}
    assert cost(operations()) == least
    for name in LINEAR:
        if name != "forward_feature_normalisation":
            assert cost(operations(name)) == least, name
    assert cost(operations(*LINEAR)) == least
    for seed in range(50):
        names = [n for n in LINEAR if getattr(random_operations(seed), n)]
        assert cost(operations("forward_batch_centring", *names)) == least


def test_what_costs_more_or_less_costs_what_is_documented():
    one = {"reconstruct": 1, "weight gradient": 1}
    for name in ("backward_relu", "backward_feature_normalisation"):
        assert cost(operations(name)) == {"reconstruct": 1, "weight gradient": 2, "project": 1}
    assert cost(operations(), noise=True) == one | {"project": 1}
    # Normalised and not centred over the batch, the reconstruction has norm 1 whatever B is.
    assert cost(operations("forward_feature_normalisation")) == {"weight gradient": 1}
    assert cost(operations(*LINEAR), {"amp": 1.0, "null": 0.0}) == {"weight gradient": 1}
    assert cost(operations(), {"amp": 0.0, "null": 0.0}) == {}
    assert cost(operations(), {"amp": 1.0, "sparse": 1.0}) == {"project": 1, "weight gradient": 1}
