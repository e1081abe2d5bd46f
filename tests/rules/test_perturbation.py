"""Weight perturbation, and what all rules share that run a closure again with noise."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from goaldriven.errors import SpecError
from goaldriven.rules import theory
from goaldriven.rules.feedback import detach
from goaldriven.rules.learned_feedback import LearnedFeedback
from goaldriven.rules.node_perturbation import NodePerturbation
from goaldriven.rules.perturbation import WeightPerturbation
from goaldriven.specs import credit as specs

ADAM = {"name": "adam", "learning_rate": 0.01}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_weights(model, **settings):
    detach(model)  # of the last such rule, where a test tries several
    return WeightPerturbation(model, specs.WeightPerturbation(**settings), generator(7))


def by_nodes(model, **settings):
    return NodePerturbation(model, None, specs.NodePerturbation(**settings), generator(7))


def by_feedback(model, **settings):
    spec = specs.LearnedFeedback(optimizer=ADAM, **settings)
    return LearnedFeedback(model, None, generator(8), generator(7), spec, None)


LOSS_ONLY = {"weights": by_weights, "nodes": by_nodes}
ALL = {**LOSS_ONLY, "feedback": by_feedback}
loss_only = pytest.mark.parametrize("attach", LOSS_ONLY.values(), ids=LOSS_ONLY)
every_rule = pytest.mark.parametrize("attach", ALL.values(), ids=ALL)


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


class NoWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, dy):
        raise AssertionError("a backward pass")


class OneWay(nn.Module):
    def forward(self, x):
        return NoWayBack.apply(x)


@loss_only
@pytest.mark.parametrize("antithetic", [False, True])
def test_there_is_no_backward_pass(attach, antithetic):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 3), OneWay(), nn.BatchNorm1d(3), nn.Linear(3, 2))
    x = torch.randn(8, 4)
    with pytest.raises(AssertionError, match="a backward pass"):
        model(x).square().mean().backward()
    model.zero_grad()
    recorded = []

    def closure():
        loss = model(x).square().mean()
        recorded.append(loss.requires_grad)
        return loss

    loss = attach(model, antithetic=antithetic, samples=2).backward(closure)
    assert recorded == [False] * (5 if antithetic else 3)
    assert loss == model.train()(x).square().mean(), "the loss without noise"
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


# --- weight perturbation: one draw, by its formula -------------------------------------------


class Vector(nn.Module):
    """n weights and no layer."""

    def __init__(self, n, dtype=torch.float64):
        super().__init__()
        self.w = nn.Parameter(torch.randn(n, dtype=dtype))


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("samples", [1, 3])
def test_one_step_on_a_linear_and_a_quadratic_loss(antithetic, samples):
    """Linear: (ξ·g)ξ to the last bits, for any σ. Curved: one-sided adds ½σ(ξᵀHξ)ξ."""
    torch.manual_seed(3)
    n, sigma = 6, 0.5
    model = Vector(n)
    g, h = torch.randn(n).double(), torch.randn(n, n).double()
    h = h + h.T
    draws = torch.stack([torch.empty(n).double()] * samples)
    drawing = generator(7)
    for draw in draws:
        draw.normal_(generator=drawing)
    linear = (draws @ g)[:, None] * draws
    bend = 0.5 * sigma * torch.einsum("ki,ij,kj->k", draws, h, draws)[:, None] * draws

    by_weights(model, sigma=sigma, samples=samples, antithetic=antithetic).backward(
        lambda: g @ model.w
    )
    torch.testing.assert_close(model.w.grad, linear.mean(0))
    model.zero_grad()
    w = model.w.detach().clone()
    by_weights(model, sigma=sigma, samples=samples, antithetic=antithetic).backward(
        lambda: g @ model.w + 0.5 * (model.w - w) @ h @ (model.w - w)
    )
    expected = linear if antithetic else linear + bend
    torch.testing.assert_close(model.w.grad, expected.mean(0))


def test_losses_of_stimuli_count_by_their_mean():
    model = Vector(5)
    x = torch.randn(9, 5).double()
    by_weights(model).backward(lambda: x @ model.w)
    several = model.w.grad.clone()
    model.zero_grad()
    loss = by_weights(model).backward(lambda: (x @ model.w).mean())
    torch.testing.assert_close(model.w.grad, several)
    assert loss.shape == ()


# --- the variance law -------------------------------------------------------------------------


def relative_error(credit, closure, parameters, truth, repeats):
    """Root mean square of ‖estimate − truth‖/‖truth‖, and that of the estimates' mean."""
    estimates = []
    for _ in range(repeats):
        for p in parameters:
            p.grad = None
        credit.backward(closure)
        estimates.append(torch.cat([p.grad.flatten() for p in parameters]))
    estimates = torch.stack(estimates).double()
    size = truth.norm()
    each = (estimates - truth).norm(dim=1).square().mean().sqrt() / size
    return float(each), float((estimates.mean(0) - truth).norm() / size)


def layer_problem(kind, dtype=torch.float64):
    torch.manual_seed(5)
    if kind == "linear":
        model, x = nn.Linear(6, 4), torch.randn(5, 6)
    else:
        model, x = nn.Conv2d(2, 3, 3, padding=1), torch.randn(4, 2, 5, 5)
    model, x = model.to(dtype), x.to(dtype)
    target = torch.randn_like(model(x)) + x.mean()
    return model, lambda: functional.mse_loss(model(x), target)


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("antithetic", [False, True])
def test_estimates_are_unbiased_and_as_wrong_as_predicted(kind, antithetic):
    """‖estimate − g‖²/‖g‖² is (N + 1)/samples, and (N + 1)/(samples·repeats) for the mean."""
    model, closure = layer_problem(kind)
    parameters = list(model.parameters())
    truth = torch.cat([g.flatten() for g in torch.autograd.grad(closure(), parameters)])
    samples, repeats = 10, 300
    credit = by_weights(model, samples=samples, antithetic=antithetic, sigma=1e-5)
    each, mean = relative_error(credit, closure, parameters, truth, repeats)
    expected = theory.perturbation_relative_error(truth.numel(), samples)
    assert each == pytest.approx(expected, rel=0.1)
    assert mean == pytest.approx(expected / math.sqrt(repeats), rel=0.35)


def slope(x, y):
    return torch.linalg.lstsq(
        torch.stack([torch.log(torch.tensor(x)), torch.ones(len(x))], 1),
        torch.log(torch.tensor(y))[:, None],
    ).solution[0, 0]


def test_error_falls_as_the_root_of_samples():
    model, closure = layer_problem("linear")
    parameters = list(model.parameters())
    truth = torch.cat([g.flatten() for g in torch.autograd.grad(closure(), parameters)])
    numbers = [1, 4, 16, 64]
    errors = [
        relative_error(by_weights(model, samples=s), closure, parameters, truth, 2000 // s)[0]
        for s in numbers
    ]
    assert slope([float(s) for s in numbers], errors) == pytest.approx(-0.5, abs=0.06)


def test_error_grows_as_the_root_of_the_number_of_weights():
    numbers, errors = [8, 64, 512, 4096], []
    for n in numbers:
        torch.manual_seed(n)
        model, g = Vector(n), torch.randn(n).double()
        closure = lambda model=model, g=g: g @ model.w  # noqa: E731
        errors.append(relative_error(by_weights(model), closure, [model.w], g, 500)[0])
    assert slope([float(n) for n in numbers], errors) == pytest.approx(0.5, abs=0.03)
    predicted = [theory.perturbation_relative_error(n, 1) for n in numbers]
    assert errors == pytest.approx(predicted, rel=0.1)


# --- nothing of the model but .grad is changed ------------------------------------------------


def noisy_net():
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(48, 4), nn.BatchNorm1d(4, affine=False),
    )  # fmt: skip


X = torch.randn(6, 1, 6, 6, generator=generator(1))


@every_rule
@pytest.mark.parametrize("antithetic", [False, True])
def test_state_is_as_after_one_plain_pass(attach, antithetic):
    """Weights to the bit, running statistics and random numbers as after one forward pass."""
    model = noisy_net()
    plain = copy.deepcopy(model)
    torch.manual_seed(4)
    expected = plain(X).square().mean().detach()
    after = torch.get_rng_state()
    credit = attach(model, samples=3, antithetic=antithetic, sigma=0.3)
    torch.manual_seed(4)
    loss = credit.backward(lambda: model(X).square().mean())
    assert torch.equal(torch.get_rng_state(), after)
    assert loss == expected
    assert not loss.requires_grad
    state = plain.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    credit.remove()
    assert not any("forward" in vars(module) for module in model.modules())
    assert {n for n, _ in model.named_buffers()} == {n for n, _ in plain.named_buffers()}


@every_rule
def test_all_passes_see_the_same_random_numbers(attach):
    model, seen = noisy_net(), []
    model[3].register_forward_hook(lambda m, args, out: seen.append((out == 0) & (args[0] != 0)))
    attach(model, samples=2, sigma=1e-6).backward(lambda: model(X).square().mean())
    assert len(seen) == 3
    assert seen[0].any()
    agreement = [(mask == seen[0]).double().mean().item() for mask in seen]
    assert min(agreement) > 0.97, "but for units that noise moves across the ReLU's edge"
    before = seen[0]
    model(X)
    assert (seen[-1] == before).double().mean() < 0.9, "the next step has others"


class Counting(nn.Module):
    """Multiplies by the number of the pass, which is a buffer: as modules that draw by it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.tensor(1))

    def forward(self, x):
        y = x * int(self.passes)
        self.passes += 1
        return y


@every_rule
def test_all_passes_begin_with_the_same_counts(attach):
    """Were the noisy pass counted as the next one, its loss would be another by far."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 4), Counting(), nn.Linear(4, 2))
    x, losses = torch.randn(8, 6), []

    def closure():
        loss = model(x).square().mean()
        losses.append(float(loss))
        return loss

    credit = attach(model, samples=2, sigma=1e-6)
    for step in (1, 2):
        losses.clear()
        credit.backward(closure)
        assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-3)
        assert model[1].passes == step + 1


@every_rule
def test_a_failing_closure_leaves_everything_as_it_was(attach):
    model = noisy_net()
    before = copy.deepcopy(model.state_dict())
    credit = attach(model, sigma=0.3)
    calls = []

    def closure():
        loss = model(X).square().mean()
        calls.append(loss)
        if len(calls) == 2:
            raise RuntimeError("the stimulus screen broke")
        return loss

    torch.manual_seed(4)
    with pytest.raises(RuntimeError, match="screen broke"):
        credit.backward(closure)
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert all("running" in name or "batches" in name for name in changed)
    model.eval()
    clean = model(X)
    assert torch.equal(clean, model(X)), "no noise is left on"
    credit.backward(lambda: model(X).square().mean())


@every_rule
def test_gradients_are_added_and_frozen_parameters_are_left_alone(attach):
    model = noisy_net().eval()
    credit = attach(model)
    frozen = model[1].bias
    frozen.requires_grad_(False)
    closure = lambda: model(X).square().mean(1)  # noqa: E731
    state = credit.state_dict()["noise"].clone()
    credit.backward(closure)
    once = gradients(model)
    assert "1.bias" not in once
    assert once.keys() == {n for n, p in model.named_parameters() if p is not frozen}
    credit.noise.set_state(state)
    credit.backward(closure)
    for name, twice in gradients(model).items():
        torch.testing.assert_close(twice, 2 * once[name])


@every_rule
def test_equal_states_draw_equal_noise(attach):
    model = noisy_net().eval()
    one, closure = attach(model), lambda: model(X).square().mean(1)
    one.backward(closure)
    state = copy.deepcopy(one.state_dict())
    model.zero_grad()
    one.backward(closure)
    expected = gradients(model)
    one.remove()
    other = attach(model)
    other.load_state_dict(state)
    model.zero_grad()
    other.backward(closure)
    assert all(torch.equal(g, expected[name]) for name, g in gradients(model).items())
    with pytest.raises(SpecError, match="state must be of"):
        other.load_state_dict({"step": 3})


@every_rule
def test_gradients_lie_in_memory_as_their_parameters(attach):
    """Fused optimizers rely on it."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 2))
    model.to(memory_format=torch.channels_last)
    attach(model).backward(lambda: model(torch.ones(2, 2, 4, 4)).square().sum(1))
    assert all(p.grad.stride() == p.stride() for p in model.parameters())


def test_weights_of_any_module_can_be_perturbed():
    torch.manual_seed(0)
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 4), "attention": nn.MultiheadAttention(4, 2)})
    x = torch.randn(5, 2, 3)

    def closure():
        h = model["lstm"](x)[0]
        return model["attention"](h, h, h)[0].square().mean()

    names = [n for n, _ in model.named_parameters()]
    truth = torch.cat(
        [g.flatten() for g in torch.autograd.grad(closure(), list(model.parameters()))]
    ).double()
    by_weights(model, samples=1000).backward(closure)
    assert list(gradients(model)) == names
    found = torch.cat([p.grad.flatten() for p in model.parameters()]).double()
    expected = theory.perturbation_relative_error(truth.numel(), 1000)
    assert float((found - truth).norm() / truth.norm()) == pytest.approx(expected, rel=0.25)


REFUSED = {
    "matrix": (lambda: torch.zeros(3, 2), "(3, 2)"),
    "none": (lambda: None, "NoneType"),
    "empty": (lambda: torch.zeros(0), "(0,)"),
}


@every_rule
@pytest.mark.parametrize(("closure", "given"), REFUSED.values(), ids=REFUSED)
def test_closures_must_return_losses(attach, closure, given):
    with pytest.raises(SpecError) as error:
        attach(noisy_net()).backward(closure)
    assert str(error.value) == (
        "closure must return the loss, a scalar tensor, or the losses, one per stimulus, a tensor "
        f"(n,); got {given}"
    )


@loss_only
def test_a_model_must_have_something_to_learn(attach):
    model = nn.Sequential(nn.ReLU())
    with pytest.raises(SpecError, match="parameters that learn, got none"):
        attach(model)
