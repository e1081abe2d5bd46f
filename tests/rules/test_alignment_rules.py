"""The named rules of the alignment family against what theory says of them."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from goaldriven import rules
from goaldriven.errors import SpecError
from goaldriven.specs import RULES
from goaldriven.specs.credit import LayerwiseAlignment

from . import wrapped_networks

DESCENT = {"name": "sgdm", "learning_rate": 0.1, "momentum": 0.0, "reference_batch_size": None}


def rule_of(credit, name, optimizer=DESCENT, align=DESCENT, **settings):
    if credit != "kolen_pollack":
        settings["optimizer"] = align
    return rules.make("mine", credit={"name": credit, **settings}, optimizer=optimizer)


def linear(n_in=6, n_out=4):
    torch.manual_seed(0)
    return nn.Linear(n_in, n_out, bias=False).double()


def noise(n, n_in=6, seed=1):
    return torch.randn(n, n_in, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def align(credit, closure, steps):
    """Steps of the backward weights alone; yields B of the only layer after each."""
    for _ in range(steps):
        credit.backward(closure)
        credit.step()
        (b,) = credit.backward_weights.values()
        yield b.clone()


def test_symmetric_alignment_converges_exponentially_at_its_rate():
    """With α = β the difference B − W shrinks by 1 − ηα every step."""
    layer = linear()
    rule = rule_of("symmetric_alignment", "sa", decay=0.5, self=0.5)
    credit = rule.attach(layer)
    (b,) = credit.backward_weights.values()
    start = (b - layer.weight).detach().norm()
    for step, after in enumerate(align(credit, lambda: layer(noise(3)).sum() * 0.0, 60), 1):
        expected = start * (1 - 0.1 * 0.5) ** step
        assert (after - layer.weight).norm().item() == pytest.approx(expected.item(), rel=1e-9)


def test_symmetric_alignment_scales_by_the_ratio_of_its_weights():
    layer = linear()
    credit = rule_of("symmetric_alignment", "sa", decay=2.0, self=3.0).attach(layer)
    *_, b = align(credit, lambda: layer(noise(3)).sum(), 200)
    torch.testing.assert_close(b, 1.5 * layer.weight.detach())


def test_weight_mirror_follows_its_law_on_white_noise():
    """In the mean B_{t+1} − B* = (1 − ηβ)(B_t − B*), B* = (ασ²/β) W; the angle falls with it."""
    alpha, beta, sigma, eta = 1.0, 0.5, 0.8, 0.1
    layer = linear(12, 10)
    rule = rule_of("weight_mirror", "wm", amp=alpha, decay=beta, input_noise=sigma)
    credit = rule.attach(layer, noise_generator=torch.Generator().manual_seed(2))
    (b,) = credit.backward_weights.values()
    w = layer.weight.detach()
    fixed, start = alpha * sigma**2 / beta * w, b.clone()
    stimuli = noise(4000, 12)
    for step, now in enumerate(align(credit, lambda: layer(stimuli).sum(), 100), 1):
        expected = fixed + (1 - eta * beta) ** step * (start - fixed)
        assert (now - expected).norm() < 0.02 * fixed.norm()
    cosine = functional.cosine_similarity(now.flatten(), w.flatten(), dim=0).item()
    assert math.degrees(math.acos(cosine)) < 2
    assert (now.norm() / w.norm()).item() == pytest.approx(alpha * sigma**2 / beta, rel=0.02)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_noise_has_the_standard_deviation_asked_for(distribution):
    """The mirror of an identity layer is the second moment of the noise."""
    layer = nn.Linear(3, 3, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3))
    settings = {"amp": 1.0, "decay": 1.0, "input_noise": 0.7, "noise_distribution": distribution}
    credit = rule_of("weight_mirror", "wm", align=DESCENT | {"learning_rate": 1.0}, **settings)
    credit = credit.attach(layer)
    *_, b = align(credit, lambda: layer(noise(200_000, 3)).sum(), 1)
    torch.testing.assert_close(b, 0.49 * torch.eye(3).double(), atol=0.01, rtol=0)


def test_activation_alignment_finds_the_forward_weights():
    """B* = (α/β) W where the inputs span their space, whatever their covariance."""
    layer = linear()
    x = noise(50) @ noise(6, seed=3)
    rule = rule_of("activation_alignment", "aa", amp=0.3, sparse=0.2)
    rule = rules.make("mine", credit=rule.spec.credit.model_dump(), optimizer=DESCENT)
    credit = rule.attach(layer)
    *_, b = align(credit, lambda: layer(x).sum(), 6000)
    torch.testing.assert_close(b, 1.5 * layer.weight.detach(), rtol=1e-4, atol=1e-4)


def test_information_alignment_stays_bounded_where_weight_mirror_diverges():
    """Without decay the mirror grows by ηWC every step for ever; null stops at (WCWᵀ)⁻¹WC."""
    x = noise(64)
    grown = {}
    for null in (0.0, 1.0):
        layer = linear()
        credit = rule_of("information_alignment", "ia", amp=1.0, decay=0.0, null=null)
        bs = list(align(credit.attach(layer), lambda layer=layer: layer(x).sum(), 2000))
        grown[null] = (bs[1999] - bs[999]).norm().item()
    second_moment = x.T @ x / len(x)
    w = layer.weight.detach()
    steady = 1000 * 0.1 * (w @ second_moment).norm().item()
    assert grown[0.0] == pytest.approx(steady, rel=1e-9)
    assert grown[1.0] < 2e-3 * steady
    bound = torch.linalg.inv(w @ second_moment @ w.T) @ w @ second_moment
    torch.testing.assert_close(bs[-1], bound, rtol=0, atol=0.02)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_kolen_pollack_shrinks_the_difference_by_the_weight_decay_alone(momentum):
    """W − B obeys momentum descent of (λ/2)‖W − B‖²: without momentum, a factor 1 − ηλ a step."""
    eta, decay = 0.05, 0.2
    optimizer = DESCENT | {"learning_rate": eta, "momentum": momentum, "nesterov": momentum > 0}
    rule = rule_of("kolen_pollack", "kp", optimizer | {"weight_decay": decay})
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)).double()
    credit, forward = rule.attach(model), rule.optimizer(model)
    twins = {}
    for name, b in credit.backward_weights.items():
        leaf = (model.get_submodule(name).weight - b).detach().requires_grad_()
        twins[name] = leaf, torch.optim.SGD([leaf], eta, momentum, nesterov=momentum > 0)
    before = {name: leaf.detach().clone() for name, (leaf, _) in twins.items()}
    x, y = wrapped_networks.stimuli()
    for step in range(1, 30):
        forward.zero_grad(set_to_none=True)
        credit.backward(lambda: functional.cross_entropy(model(x), y))
        forward.step()
        credit.step()
        for name, (leaf, twin) in twins.items():
            leaf.grad = decay * leaf.detach()
            twin.step()
            now = (model.get_submodule(name).weight - credit.backward_weights[name]).detach()
            torch.testing.assert_close(now, leaf.detach(), rtol=1e-9, atol=1e-12)
            if momentum == 0:
                shrunk = before[name] * (1 - eta * decay) ** step
                torch.testing.assert_close(now, shrunk, rtol=1e-9, atol=1e-12)


def test_any_combination_of_primitives_is_a_rule():
    credit = {"name": "layerwise_alignment", "primitives": {"amp": 1.0, "self": 0.5, "angle": 0.2}}
    rule = rules.make("mine", credit=credit | {"optimizer": DESCENT}, optimizer=DESCENT)
    assert rule.spec.credit.locality == (True, False)
    layer, x = linear(), noise(5)
    attached = rule.attach(layer)
    (b,) = attached.backward_weights.values()
    before = b.clone()
    attached.backward(lambda: layer(x).square().sum() / 2)
    attached.step()
    y, w = layer(x).detach(), layer.weight.detach()
    gradient = -y.T @ x / 5 - 0.5 * w + 0.2 * y.T @ x
    torch.testing.assert_close(b, before - 0.1 * gradient)


LOCAL = {
    "wm": True, "ia": True, "kp": True, "sa": False, "aa": False,
    "weight_mirror/tpe": True, "symmetric_alignment/kunin2020": False,
}  # fmt: skip


@pytest.mark.parametrize(("name", "local"), LOCAL.items())
def test_locality_follows_from_the_primitives(name, local):
    assert RULES[name].credit.locality.local is local


def test_a_rule_of_no_primitives_is_refused():
    credit = {"name": "layerwise_alignment", "primitives": {}, "optimizer": DESCENT}
    with pytest.raises(SpecError) as error:
        rules.make("mine", credit=credit, optimizer=DESCENT)
    assert str(error.value) == "primitives must give a weight above 0 to at least one, got none"
    assert LayerwiseAlignment.summary().startswith("Backward weights learn from any combination")


@pytest.mark.parametrize("of", ["forward weights", "backward weights"])
def test_noisy_updates_have_the_learning_rate_times_the_variance_asked_for(of):
    noisy = DESCENT | {"learning_rate": 0.2, "update_noise": 0.25}
    layer = nn.Linear(200, 100, bias=False).double()
    if of == "forward weights":
        rule = rules.make("mine", credit="backprop", optimizer=noisy)
    else:
        rule = rule_of("symmetric_alignment", "sa", align=noisy, decay=1.0, self=1.0)
    credit, optimizer = rule.attach(layer), rule.optimizer(layer)
    credit.backward(lambda: 0.0 * layer(torch.ones(2, 200, dtype=torch.float64)).sum())
    if of == "forward weights":
        before = layer.weight.detach().clone()
        optimizer.step()
        added = layer.weight.detach() - before
    else:
        (b,) = credit.backward_weights.values()
        expected = b - 0.2 * (b - layer.weight.detach())
        credit.step()
        added = b - expected
    assert added.std().item() == pytest.approx(0.2 * 0.5, rel=0.02)
    assert abs(added.mean().item()) < 0.003


@pytest.mark.parametrize("name", ["ia", "sa", "aa", "kp"])
def test_accumulated_gradients_are_those_of_the_whole_batch(name):
    """Losses of activations are means over a batch: halves average, as the task's loss does."""
    batchwise = {"forward_batch_centring": False, "input_batch_centring": False}
    quiet = {"input_noise": None, "delay_epochs": 0, "alternating": False, "operations": batchwise}
    changes = {"credit": quiet} if name in ("ia", "aa") else {}
    x, y = wrapped_networks.stimuli()

    def trained(parts):
        model = wrapped_networks.make_model()
        rule = rules.make(name, **changes)
        credit, optimizer = rule.attach(model, batch_size=len(x)), rule.optimizer(model)
        for passes in range(3):
            credit.set_progress(passes)
            optimizer.zero_grad(set_to_none=True)
            for px, py in zip(x.chunk(parts), y.chunk(parts), strict=True):
                credit.backward(
                    lambda px=px, py=py: functional.cross_entropy(model(px), py) / parts
                )
            optimizer.step()
            credit.step()
        return dict(credit.backward_weights) | dict(model.named_parameters())

    whole, halves = trained(1), trained(2)
    for key, tensor in whole.items():
        torch.testing.assert_close(halves[key], tensor, rtol=1e-8, atol=1e-10, msg=key)


def loop_of(rule, batch_size=None):
    """A model, its handle and its optimizer, and a step that trains it."""
    model = wrapped_networks.make_model()
    credit = rule.attach(model, batch_size=batch_size)
    optimizer = rule.optimizer(model, batch_size=batch_size)
    x, y = wrapped_networks.stimuli()

    def step(passes=None, scale=1.0):
        if passes is not None:
            credit.set_progress(passes)
        optimizer.zero_grad(set_to_none=True)
        credit.backward(lambda: scale * functional.cross_entropy(model(x), y))
        optimizer.step()
        credit.step()

    return model, credit, optimizer, step


def test_kolen_pollack_shares_the_rate_that_the_forward_weights_have():
    """Also where their schedule, or the user, changes it in the course of training."""
    schedule = {"warmup_epochs": 2, "drop_epochs": (4,)}
    optimizer = DESCENT | {"weight_decay": 0.5, "schedule": schedule}
    model, credit, forward, step = loop_of(rule_of("kolen_pollack", "kp", optimizer))
    rates = [0.0, 0.05, 0.1, 0.1, 0.01]
    expected = (model[0].weight - credit.backward_weights["0"]).detach()
    for epoch, rate in enumerate(rates):
        step(epoch)
        assert forward.param_groups[0]["lr"] == pytest.approx(rate)
        expected = expected * (1 - rate * 0.5)
        now = (model[0].weight - credit.backward_weights["0"]).detach()
        torch.testing.assert_close(now, expected, rtol=1e-9, atol=1e-12)


def test_kolen_pollack_refuses_to_guess_the_rate():
    layer = linear()
    credit = rules.make("kp").attach(layer)
    foreign = torch.optim.SGD(layer.parameters(), lr=0.1)
    credit.backward(lambda: layer(noise(3)).sum())
    with pytest.raises(SpecError, match=r"^kolen_pollack shares .* credit\.follow"):
        credit.step()
    credit.follow(foreign)
    credit.step()


def test_gradients_that_overflow_leave_the_backward_weights_as_they_are():
    """A gradient scaler skips the forward step then; B must not be the one that breaks."""
    model, credit, _, step = loop_of(rules.make("kp"))
    step()
    before = {name: b.clone() for name, b in credit.backward_weights.items()}
    credit.backward(lambda: model(wrapped_networks.stimuli()[0]).sum() * float("inf"))
    credit.step()
    assert all(torch.equal(b, before[name]) for name, b in credit.backward_weights.items())


@pytest.mark.parametrize("name", ["ia", "sa", "kp"])
def test_a_step_without_the_credit_assignments_backward_is_refused(name):
    layer = linear()
    rule = rules.make(name)
    credit = rule.attach(layer)
    layer(noise(3)).sum().backward()
    with pytest.raises(SpecError, match=r"^step\(\) must follow backward\(closure\)"):
        credit.step()


@pytest.mark.parametrize("name", ["sa", "weight_mirror/tpe", "symmetric_alignment/kunin2020"])
def test_rules_with_a_schedule_or_a_delay_ask_for_the_time(name):
    *_, step = loop_of(rules.make(name), batch_size=12)
    with pytest.raises(SpecError, match=r"^set_progress\(passes\) must be called before each step"):
        step()


def test_noise_of_forward_updates_goes_on_where_it_was_saved():
    rule = rules.make("mine", credit="backprop", optimizer=DESCENT | {"update_noise": 0.1})
    whole, half, resumed = (loop_of(rule) for _ in range(3))
    for _ in range(4):
        whole[3]()
    for _ in range(2):
        half[3]()
    resumed[0].load_state_dict(half[0].state_dict())
    resumed[2].load_state_dict(half[2].state_dict())
    for _ in range(2):
        resumed[3]()
    for a, b in zip(whole[0].parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_angle_primitive_names_what_it_misses():
    layer = linear()
    rule = rules.make("kp")
    credit, optimizer = rule.attach(layer), rule.optimizer(layer)
    credit.backward(lambda: layer(noise(3)).sum())
    optimizer.zero_grad(set_to_none=True)
    with pytest.raises(SpecError) as error:
        credit.step()
    assert str(error.value) == (
        "primitive 'angle' needs the pseudogradient of every layer when step() is called (before "
        "zero_grad), got none of layer ''"
    )


def test_a_metaparameter_out_of_range_is_named():
    with pytest.raises(SpecError) as error:
        rules.make("wm", credit={"amp": -1.0})
    assert str(error.value) == "credit.amp must be greater than or equal to 0, got -1.0"
