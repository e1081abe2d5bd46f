"""The activity change against the whole Jacobian, summed by brute force in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from goaldriven import rules
from goaldriven.errors import DataError
from goaldriven.observables import activity_change, activity_change_through_feedback
from goaldriven.observables.change import response_to_ones

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 5), (7,)),
    "linear, no bias": (lambda: nn.Linear(7, 5, bias=False), (7,)),
    "linear over time and space": (lambda: nn.Linear(4, 3), (2, 5, 4)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3), (3, 9)),
    "conv1d, everything": (
        lambda: nn.Conv1d(4, 6, 3, stride=2, padding=3, dilation=2, groups=2),
        (4, 11),
    ),
    "conv1d, same, even kernel": (lambda: nn.Conv1d(3, 4, 4, padding="same"), (3, 9)),
    "conv1d, circular": (lambda: nn.Conv1d(3, 4, 3, padding=1, padding_mode="circular"), (3, 6)),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3), (3, 6, 5)),
    "conv2d, padded": (lambda: nn.Conv2d(3, 4, 3, padding=1), (3, 6, 5)),
    "conv2d, strided": (lambda: nn.Conv2d(3, 4, 3, stride=(2, 3), padding=(2, 0)), (3, 7, 8)),
    "conv2d, dilated": (lambda: nn.Conv2d(2, 4, 3, dilation=(1, 2), padding=2), (2, 6, 7)),
    "conv2d, grouped": (lambda: nn.Conv2d(6, 4, 3, groups=2, padding=1), (6, 5, 5)),
    "conv2d, depthwise": (lambda: nn.Conv2d(3, 6, 3, groups=3), (3, 5, 5)),
    "conv2d, one by one": (lambda: nn.Conv2d(5, 4, 1, bias=False), (5, 4, 3)),
    "conv2d, valid": (lambda: nn.Conv2d(3, 4, 3, padding="valid"), (3, 6, 5)),
    "conv2d, same": (lambda: nn.Conv2d(3, 4, (4, 3), padding="same", dilation=(1, 2)), (3, 7, 8)),
    "conv2d, reflect": (
        lambda: nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode="reflect"),
        (3, 6, 5),
    ),
    "conv2d, replicate, same": (
        lambda: nn.Conv2d(3, 4, (3, 4), padding="same", padding_mode="replicate"),
        (3, 6, 5),
    ),
    "conv2d, circular, strided": (
        lambda: nn.Conv2d(2, 4, 3, padding=2, stride=2, padding_mode="circular", groups=2),
        (2, 6, 5),
    ),
    "conv2d, reflect, valid": (
        lambda: nn.Conv2d(3, 4, 3, padding="valid", padding_mode="reflect"),
        (3, 6, 5),
    ),
}


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    """A layer in float64 and a batch of two inputs to it."""
    make, shape = LAYERS[request.param]
    torch.manual_seed(0)
    return make().double(), torch.randn(2, *shape, dtype=torch.float64)


def jacobian(function: Callable[[Tensor], Tensor], a: Tensor) -> Tensor:
    """∂y_j/∂a_i for one stimulus, [*outputs, *inputs], by one backward pass for each output."""
    return torch.autograd.functional.jacobian(lambda x: function(x[None])[0], a)


def brute_force(
    function: Callable[[Tensor], Tensor],
    a: Tensor,
    inputs: Tensor | None = None,
    outputs: Tensor | None = None,
) -> Tensor:
    """(1/N_out) Σ_i Σ_j ∂y_j/∂a_i of each stimulus."""
    sums = []
    for stimulus in a:
        matrix = jacobian(function, stimulus)
        n_out = matrix.numel() // stimulus.numel()
        matrix = matrix.reshape(n_out, -1)
        rows = torch.ones(n_out, dtype=torch.bool) if outputs is None else outputs.flatten()
        columns = torch.ones(matrix.shape[1]).bool() if inputs is None else inputs.flatten()
        sums.append(matrix[rows][:, columns].sum() / rows.sum())
    return torch.stack(sums)


def some(shape: tuple[int, ...], share: float, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def test_without_non_linearity_it_is_the_jacobians_sum(layer: tuple[nn.Module, Tensor]) -> None:
    module, a = layer
    got = activity_change(module, a.shape[1:])
    assert got.shape == (1,)
    torch.testing.assert_close(got.expand(2), brute_force(module, a), rtol=1e-12, atol=1e-14)


def test_with_relu_it_is_the_jacobians_sum(layer: tuple[nn.Module, Tensor]) -> None:
    module, a = layer
    y = module(a).relu()
    got = activity_change(module, a.shape[1:], gain=y > 0)
    want = brute_force(lambda x: module(x).relu(), a)
    assert got.shape == (2,)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


def test_with_any_elementwise_non_linearity(layer: tuple[nn.Module, Tensor]) -> None:
    module, a = layer
    y = module(a).tanh()
    got = activity_change(module, a.shape[1:], gain=1 - y.detach() ** 2)
    torch.testing.assert_close(got, brute_force(lambda x: module(x).tanh(), a))


def test_between_sampled_units(layer: tuple[nn.Module, Tensor]) -> None:
    module, a = layer
    y = module(a).relu()
    inputs, outputs = some(a.shape[1:], 0.4, seed=1), some(y.shape[1:], 0.5, seed=2)
    for i, j in [(inputs, None), (None, outputs), (inputs, outputs)]:
        got = activity_change(module, a.shape[1:], gain=y > 0, inputs=i, outputs=j)
        want = brute_force(lambda x: module(x).relu(), a, i, j)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


def test_all_units_sampled_is_no_sampling(layer: tuple[nn.Module, Tensor]) -> None:
    module, a = layer
    shape = tuple(a.shape[1:])
    torch.testing.assert_close(
        response_to_ones(module, shape, torch.ones(shape, dtype=torch.bool)),
        response_to_ones(module, shape),
        rtol=1e-12,
        atol=1e-14,
    )


def test_through_exact_feedback_it_is_the_same(layer: tuple[nn.Module, Tensor]) -> None:
    module, a = layer
    y = module(a).relu()
    inputs, outputs = some(a.shape[1:], 0.4, seed=1), some(y.shape[1:], 0.5, seed=2)
    for i, j in [(None, None), (inputs, outputs)]:
        got = activity_change_through_feedback(module, a, torch.relu, inputs=i, outputs=j)
        want = activity_change(module, a.shape[1:], gain=y > 0, inputs=i, outputs=j)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


def test_by_finite_differences() -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(3, 4, 3, padding=1).double()
    a = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    step = 1e-6
    difference = (module(a + step).relu() - module(a - step).relu()).flatten(1).mean(1) / (2 * step)
    got = activity_change(module, (3, 6, 6), gain=module(a) > 0)
    torch.testing.assert_close(got, difference.detach(), rtol=1e-7, atol=1e-9)


def test_zero_padding_lets_fewer_inputs_reach_the_border() -> None:
    module = nn.Conv2d(2, 1, 3, padding=1)
    nn.init.ones_(module.weight)
    response = response_to_ones(module, (2, 4, 5))[0]
    column, row = torch.tensor([2.0, 3, 3, 2]), torch.tensor([2.0, 3, 3, 3, 2])
    torch.testing.assert_close(response, 2 * torch.outer(column, row).double())
    module.padding_mode = "reflect"
    assert (response_to_ones(module, (2, 4, 5)) == 18).all()


class Feedback(torch.autograd.Function):
    """x Wᵀ forwards, B backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x @ weight.t()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        return dy @ ctx.saved_tensors[0], None, None


def test_default_is_the_true_derivative_and_the_variant_the_feedbacks() -> None:
    torch.manual_seed(0)
    module = nn.Linear(6, 4, bias=False).double()
    back = torch.randn(4, 6, dtype=torch.float64)
    module.register_forward_hook(lambda m, args, y: Feedback.apply(args[0], m.weight, back))
    a = torch.randn(5, 6, dtype=torch.float64)
    mask = (a @ module.weight.t() > 0).double()
    true = activity_change(module, (6,), gain=mask)
    torch.testing.assert_close(true, (mask @ module.weight).sum(1).detach() / 4)
    published = activity_change_through_feedback(module, a, torch.relu)
    torch.testing.assert_close(published, (mask @ back).sum(1) / 4)
    assert (true - published).abs().min() > 1e-3


@pytest.mark.parametrize("rule", ["sgdm", "adam", "fa", "ia"])
@pytest.mark.parametrize("name", ["linear", "conv1d, everything", "conv2d, circular, strided"])
def test_under_every_rule_it_is_the_true_derivative(rule: str, name: str) -> None:
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    model = nn.Sequential(make()).double()
    a = torch.randn(3, *shape, dtype=torch.float64)
    y = model(a).relu()
    want = brute_force(lambda x: model(x).relu(), a)
    credit = rules.make(rule).attach(model, generator=torch.Generator().manual_seed(1))
    got = activity_change(model[0], shape, gain=y > 0)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)
    published = activity_change_through_feedback(model[0], a, torch.relu)
    if not credit.backward_weights:
        torch.testing.assert_close(published, want)
        return
    assert (published - want).abs().max() > 1e-3 * want.abs().max()
    with torch.no_grad():
        credit.backward_weights["0"].copy_(model[0].weight)
    torch.testing.assert_close(activity_change_through_feedback(model[0], a, torch.relu), want)


def test_reading_leaves_no_gradients_and_changes_no_input() -> None:
    module, a = nn.Linear(4, 3), torch.randn(2, 4)
    before = a.clone()
    activity_change(module, (4,), gain=module(a) > 0)
    activity_change_through_feedback(module, a, lambda y: y.relu_())
    assert module.weight.grad is None
    assert torch.equal(a, before)
    assert not a.requires_grad


def test_divergent_weights_stay_divergent() -> None:
    module = nn.Linear(3, 2)
    with torch.no_grad():
        module.weight[0, 0] = torch.nan
    assert activity_change(module, (3,)).isnan().all()
    assert activity_change(module, (3,), gain=torch.zeros(5, 2)).isnan().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((nn.ReLU(), (3,)), "'module' must be a Linear, Conv1d or Conv2d layer, got ReLU"),
        ((nn.Linear(3, 2), (4,)), r"'input_shape' must be \(…, 3\), got \(4,\)"),
        ((nn.Conv1d(3, 2, 1), (4, 5)), r"'input_shape' must be \(3, …\), got \(4, 5\)"),
        ((nn.Conv2d(3, 2, 1), (3, 5)), r"'input_shape' must be \(3, …, …\), got \(3, 5\)"),
        (
            (nn.Linear(3, 2), (3,), torch.ones(5, 3)),
            r"'gain' must have shape \(batch, 2\), got \(5, 3\)",
        ),
    ],
)
def test_misuse_is_explained(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        activity_change(*arguments)


def test_indicators_have_the_units_shapes() -> None:
    module = nn.Linear(3, 2)
    with pytest.raises(DataError, match=r"'inputs' must have shape \(3,\), got \(2,\)"):
        activity_change(module, (3,), inputs=torch.ones(2))
    with pytest.raises(DataError, match=r"'outputs' must have shape \(2,\), got \(3,\)"):
        activity_change(module, (3,), outputs=torch.ones(3))
    with pytest.raises(DataError, match="'outputs' must hold at least one unit, got none"):
        activity_change(module, (3,), outputs=torch.zeros(2))
