"""Node perturbation that teaches backward weights."""

import copy
import math
import pickle

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional

from goaldriven.errors import SpecError
from goaldriven.rules.feedback_alignment import FeedbackAlignment
from goaldriven.rules.learned_feedback import LearnedFeedback
from goaldriven.specs import credit as specs

ADAM = {"name": "adam", "learning_rate": 0.01}
DESCENT = {"name": "sgdm", "momentum": 0.0, "nesterov": False, "reference_batch_size": None}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def attach(model, optimizer=ADAM, layers=None, **settings):
    spec = specs.LearnedFeedback(optimizer=optimizer, **settings)
    return LearnedFeedback(model, layers, generator(8), generator(7), spec, None)


class Winding(nn.Module):
    """Strides, pooling, batch norm, a skip connection whose ends go to layers of their own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.wide = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.short = nn.Conv2d(2, 3, 1, stride=2, bias=False)
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        x = functional.max_pool2d(self.norm(self.stem(x)).tanh(), 2, 1)
        x = (self.wide(x) + self.short(x)).tanh()
        return self.out(x.mean((2, 3)))


def winding():
    model = Winding().double()
    x = torch.randn(3, 1, 4, 4, generator=generator(2)).double()
    target = torch.randn(3, 2, generator=generator(3)).double()
    return model, lambda: (model(x) - target).square().sum(1)


def errors(model, loss):
    """Layer → (error at its output, error that comes back through it to its input)."""
    found = {}

    def split(name):
        def before(module, args):
            own = args[0].view_as(args[0])  # this layer's own branch of its input
            if own.requires_grad:
                own.register_hook(lambda g: found.setdefault(name, {}).update(x=g))
            return own

        def after(module, args, output):
            output.register_hook(lambda g: found.setdefault(name, {}).update(y=g))

        return before, after

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            before, after = split(name)
            handles += [
                module.register_forward_pre_hook(before),
                module.register_forward_hook(after),
            ]
    torch.autograd.grad(loss(), list(model.parameters()))
    for handle in handles:
        handle.remove()
    return found


def adjoint(name, module, y, kernel):
    """P_Bᵀ y, by autograd through the layer's own forward pass."""
    shape = {"wide": (3, 2, 3, 3), "short": (3, 2, 3, 3), "out": (3, 3)}[name]
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    if isinstance(module, nn.Linear):
        h = functional.linear(x, kernel)
    else:
        h = functional.conv2d(x, kernel, None, module.stride, module.padding)
    return torch.autograd.grad(h, x, y, create_graph=True)[0]


@pytest.mark.parametrize("several", [False, True])
def test_backward_weights_descend_their_loss_on_average(several):
    """½ mean over stimuli of ‖n(P_Bᵀ e − ∂L/∂x)‖², its gradient by autograd, within the noise."""
    model, losses = winding()
    if several:
        model.eval()
    mean = lambda: losses().mean()  # noqa: E731
    true = errors(model, mean)
    credit = attach(model, sigma=1e-4, samples=60)
    backward = credit.backward_weights
    carried = errors(model, mean)  # through B
    expected = {}
    for name in ("wide", "short", "out"):
        kernel = backward[name].clone().requires_grad_()
        excess = adjoint(name, model.get_submodule(name), carried[name]["y"], kernel)
        loss = 0.5 * (3 * (excess - true[name]["x"])).square().sum() / 3
        expected[name] = torch.autograd.grad(loss, kernel)[0]
    draws = []
    for _ in range(80):
        credit.backward(losses if several else mean)
        draws.append({n: b.grad for n, b in backward.items() if b.grad is not None})
        for b in backward.values():
            b.grad = None
    assert draws[0].keys() == expected.keys(), "the first layer needs none"
    for name, goal in expected.items():
        found = torch.stack([d[name] for d in draws])
        error = found.std(0) / math.sqrt(len(found))
        z = (found.mean(0) - goal) / error
        assert z.abs().max() < 4.2, name
        assert z.square().mean().sqrt() < 1.8, name  # six weights at the least
        # How far the target counts: the loss that pulls to 0 instead is many errors away.
        kernel = backward[name].clone().requires_grad_()
        other = adjoint(name, model.get_submodule(name), carried[name]["y"], kernel)
        zero = torch.autograd.grad(1.5 * other.square().sum(), kernel)[0]
        assert ((zero - goal) / error).norm() > 6, name


def test_forward_weights_follow_the_error_carried_by_b():
    model, losses = winding()
    credit = attach(model)
    kept = {name: b.clone() for name, b in credit.backward_weights.items()}
    credit.backward(lambda: losses().mean())
    found = [p.grad.clone() for p in model.parameters()]
    credit.remove()
    fixed = FeedbackAlignment(model, None, generator(8))
    assert all(torch.equal(kept[name], b) for name, b in fixed.backward_weights.items())
    model.zero_grad()
    fixed.backward(lambda: losses().mean())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), found, strict=True))


def test_backward_weights_become_the_transpose_at_the_predicted_rate():
    """Linear layers at rest and white errors: for the last, E(B − W) shrinks by 1 − η a step.

    Its errors c are the loss's own, of covariance 1, so that the fit is a descent with unit
    curvature. The layer before gets P_Bᵀc, and its B comes to W too.
    """
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(3, 3)).double()
    for layer in model:
        nn.init.orthogonal_(layer.weight)
    rate, n = 0.05, 512
    credit = attach(model, {**DESCENT, "learning_rate": rate})
    backward = credit.backward_weights
    start = (backward["2"] - model[2].weight).detach().norm()
    first = backward["0"].clone()
    draw, x = generator(5), torch.randn(n, 6).double()
    for step in range(1, 301):
        c = torch.randn(n, 3, generator=draw).double()
        credit.backward(lambda c=c: (c * model(x)).sum(1))
        credit.step()
        if step in (10, 20, 40):
            left = float((backward["2"] - model[2].weight).detach().norm() / start)
            assert left == pytest.approx((1 - rate) ** step, abs=0.04), step
    for name, (angle, ratio) in credit.alignment_diagnostics().items():
        if name == "0":
            assert torch.equal(backward[name], first), "nothing before it learns"
        else:
            assert angle < 6
            assert ratio == pytest.approx(1.0, abs=0.05)


def test_the_first_layer_gets_no_noise():
    """Nothing before it learns: noise there would tell nothing and disturb the others."""
    model, seen = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), {"0": [], "1": []}
    for name, outputs in seen.items():
        model.get_submodule(name).register_forward_hook(
            lambda m, args, output, outputs=outputs: outputs.append(output.detach())
        )
    attach(model, samples=2).backward(lambda: model(torch.ones(5, 3)).square().sum(1))
    assert all(torch.equal(seen["0"][0], output) for output in seen["0"])
    assert [torch.equal(seen["1"][0], output) for output in seen["1"]] == [True, False, False]


def test_delay_epochs_fit_the_backward_weights_alone():
    model, losses = winding()
    credit = attach(model, delay_epochs=2)
    before = {n: b.clone() for n, b in credit.backward_weights.items()}
    credit.set_progress(1.9)
    loss = credit.backward(lambda: losses().mean())
    assert loss > 0
    assert (credit.task_rate, credit.task_epoch) == (0.0, 0.0)
    assert all((p.grad == 0).all() for p in model.parameters())
    credit.step()
    moved = {n for n, b in credit.backward_weights.items() if not torch.equal(b, before[n])}
    assert moved == {"wide", "short", "out"}
    credit.set_progress(2.5)
    credit.backward(lambda: losses().mean())
    assert (credit.task_rate, credit.task_epoch) == (1.0, 0.5)
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_accumulated_calls_count_by_their_mean():
    found = []
    for calls in (1, 3):
        model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)).double()
        for parameter in model.parameters():
            nn.init.constant_(parameter, 0.3)
        credit = attach(model, {**DESCENT, "learning_rate": 0.5})
        before = credit.backward_weights["1"].clone()
        x = torch.ones(4, 2).double()
        for _ in range(calls):
            credit.noise.manual_seed(1)
            credit.backward(lambda model=model, x=x: model(x).square().sum(1))
        credit.step()
        found.append(credit.backward_weights["1"] - before)
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(found[0], found[1])


def test_moving_the_model_keeps_the_optimizer():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    credit = attach(model)
    for dtype in (torch.float32, torch.float64):
        model.to(dtype)
        x = torch.ones(4, 2, dtype=dtype)
        before = credit.backward_weights["1"].clone()
        credit.backward(lambda x=x: model(x).square().sum(1))
        credit.step()
        now = credit.backward_weights["1"]
        assert now.dtype == dtype
        assert not torch.equal(now, before)
        state = credit.state_dict()["optimizer"]["state"]
    assert all(s["step"] == 2 for s in state.values())


NOISY = {"name": "adam", "learning_rate": 0.01, "update_noise": 0.5, "weight_decay": 0.1}


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))


def learn(model, credit, steps=2):
    for _ in range(steps):
        credit.backward(lambda: model(torch.ones(4, 2)).square().sum(1))
        credit.step()
    return credit.backward_weights["1"].clone()


def test_ranks_draw_equal_noise_of_updates_and_other_input_noise(monkeypatch):
    """As on two ranks, each given a noise generator of its own."""
    monkeypatch.setattr(distributed, "broadcast", lambda *args, **kwargs: None)
    monkeypatch.setattr(distributed, "all_reduce", lambda *args, **kwargs: None)
    monkeypatch.setattr(distributed, "get_world_size", lambda group: 1)
    spec = specs.LearnedFeedback(optimizer={**NOISY, "learning_rate": 0.5})
    steps, input_noise = [], []
    for seed in (1, 2):
        group = object()
        credit = LearnedFeedback(
            small(),
            None,
            generator(8),
            generator(seed),
            spec,
            None,
            group,  # type: ignore[arg-type]
        )
        credit.step()  # of no gradient: noise and decay alone
        steps.append(credit.backward_weights["1"].clone())
        input_noise.append(credit.state_dict()["noise"])
    assert torch.equal(*steps)
    assert not torch.equal(*input_noise)


def test_copies_and_loaded_states_go_on_with_the_noise_of_updates():
    model = small()
    credit = attach(model, NOISY)
    learn(model, credit)
    twin_model, twin = copy.deepcopy((model, credit))
    loaded_model = small()
    loaded = LearnedFeedback(loaded_model, None, generator(1), None, credit.spec, None)
    loaded_model.load_state_dict(model.state_dict())
    loaded.load_state_dict(pickle.loads(pickle.dumps(credit.state_dict())))
    before = credit.backward_weights["1"].clone()
    expected = learn(model, credit)
    assert not torch.equal(expected, before)
    assert torch.equal(learn(twin_model, twin), expected)
    assert torch.equal(learn(loaded_model, loaded), expected)


def test_states_of_another_optimizer_or_other_shapes_leave_all_as_it_was():
    credit = attach(small(), NOISY)
    before = copy.deepcopy(credit.state_dict())
    other = attach(small(), DESCENT | {"learning_rate": 0.1}).state_dict()
    with pytest.raises(SpecError, match="optimizer adam, got one of sgdm"):
        credit.load_state_dict(other)
    with pytest.raises(SpecError, match="of shapes"):
        credit.load_state_dict(attach(nn.Linear(2, 2), NOISY).state_dict())
    assert str(credit.state_dict()) == str(before)


def test_a_skipped_step_is_forgotten():
    model = small()
    credit = attach(model)
    credit.backward(lambda: model(torch.full((4, 2), math.nan)).square().sum(1))
    assert credit.backward_weights["1"].grad.isnan().any()
    credit.zero_grad()
    model.zero_grad()
    assert learn(model, credit).isfinite().all()


def test_rates_follow_the_schedule_without_warmup_after_a_delay():
    schedule = {"warmup_epochs": 4, "drop_epochs": (6,), "drop_factor": 0.1}
    rates = {}
    for delay in (0, 2):
        credit = attach(small(), {**ADAM, "schedule": schedule}, delay_epochs=delay)
        rates[delay] = []
        for epoch in (0, 1, 2, 6, 8):
            credit.set_progress(epoch)
            credit.step()
            rates[delay].append(credit._optimizer._optimizer.param_groups[0]["lr"] / 0.01)
    assert rates[0] == pytest.approx([0, 0.25, 0.5, 0.1, 0.1])
    assert rates[2] == pytest.approx([1, 1, 1, 1, 0.1])
