"""Information alignment through training: who learns when, saved states, noise, precision."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from goaldriven import rules
from goaldriven.errors import SpecError
from goaldriven.specs.credit import LayerwiseOperations

from . import slow_alignment
from .aligned_networks import (
    ADAM,
    SGD,
    batch,
    generator,
    ia,
    loss_of,
    net,
    run,
    snapshot,
)


def movements(rule, steps, per_epoch=4):
    """Which steps moved the forward weights, and which the backward weights."""
    model = net()
    forward, backward = model[0].weight.detach().clone(), None
    moved = []
    credit = rule.attach(model)
    backward = credit.backward_weights["0"].clone()
    for _ in run(rule, model, steps, per_epoch, credit):
        now = model[0].weight.detach().clone(), credit.backward_weights["0"].clone()
        moved.append((not torch.equal(now[0], forward), not torch.equal(now[1], backward)))
        forward, backward = now
    return moved


BOTH, TASK, ALIGN = (True, True), (True, False), (False, True)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [BOTH] * 6),
        ({"alternating": True}, [ALIGN, TASK] * 3),
        ({"delay_epochs": 1}, [ALIGN] * 2 + [BOTH] * 4),
        # the delay is counted in passes over the stimuli, here of two steps
        ({"alternating": True, "delay_epochs": 1}, [ALIGN] * 2 + [ALIGN, TASK] * 2),
        ({"alternating": True, "delay_epochs": 2}, [ALIGN] * 4 + [ALIGN, TASK]),
    ],
)
def test_alternation_and_delay_decide_who_learns_when(settings, expected):
    assert movements(ia(**settings), 6, per_epoch=2) == expected
    assert ia(**settings).attach(net()).passes_per_epoch == 1 + settings.get("alternating", False)


MOMENTUM = {"name": "sgdm", "learning_rate": 0.05, "momentum": 0.9, "reference_batch_size": None}


@pytest.mark.parametrize("forward", [MOMENTUM, ADAM], ids=["sgdm", "adam"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_a_rate_of_zero_multiplies_the_loss_and_skips_no_optimizer(forward, weight_decay):
    """On steps that only align, momentum moves W by a zero gradient, L2 penalty included."""
    model, data = net(), batch()
    twin = copy.deepcopy(model)
    rule = ia(alternating=True, forward=forward | {"weight_decay": weight_decay})
    plain = forward | {"weight_decay": 0.0}
    reference = rules.make("sgdm", credit="backprop", optimizer=plain).optimizer(twin)
    credit = rule.attach(model)
    optimizer = rule.optimizer(model)
    for step in range(6):
        credit.set_progress(step / 100)
        optimizer.zero_grad(set_to_none=True)
        credit.backward(loss_of(model, data))
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            assert (p.grad == 0).all() == (step % 2 == 0)
            penalty = weight_decay * p.detach() if p.ndim > 1 and step % 2 else 0.0
            q.grad = p.grad + penalty
        optimizer.step()
        reference.step()
        credit.step()
        for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12, msg=f"{step} {name}")
        assert optimizer.param_groups[0]["weight_decay"] == weight_decay
    assert credit.task_rate == 1.0


def test_backward_weights_keep_moving_by_momentum_on_task_steps():
    rule = ia(alternating=True, align=MOMENTUM)
    assert movements(rule, 4) == [ALIGN, BOTH, ALIGN, BOTH]


def test_gradients_of_unused_parameters_are_filled_with_zeros_only_where_missing():
    model = net()
    credit = ia(alternating=True).attach(model)
    model[0].weight.requires_grad_(False)
    model[2].weight.grad = torch.ones_like(model[2].weight)
    credit.backward(loss_of(model, batch()))
    assert model[0].weight.grad is None
    assert (model[2].weight.grad == 1).all()
    assert (model[6].weight.grad == 0).all()


def learning_rates(epochs, **settings):
    schedule = {"warmup_epochs": 4, "drop_epochs": (10,), "drop_factor": 0.5}
    credit = ia(align=SGD | {"schedule": schedule}, **settings).attach(nn.Linear(1, 1))
    rates = []
    for epoch in epochs:
        credit.set_progress(epoch * credit.passes_per_epoch)
        rates.append(credit._learning_rate() / 0.1)
    return credit, rates


def task_epoch(credit, epoch):
    credit.set_progress(epoch * credit.passes_per_epoch)
    return credit.task_epoch


def test_the_alignments_schedule_starts_after_a_delay_without_warming_up():
    credit, rates = learning_rates([0, 2, 4, 9.9, 10])
    assert rates == pytest.approx([0, 0.5, 1, 1, 0.5])
    assert task_epoch(credit, 7.0) == 7.0
    credit, rates = learning_rates([0, 2, 11.9, 12], delay_epochs=2)
    assert rates == pytest.approx([1, 1, 1, 0.5])
    assert [task_epoch(credit, e) for e in (0, 1.5, 2, 5)] == [0, 0, 0, 3]
    # a delay of two passes is one epoch of alternating training
    credit, rates = learning_rates([10.9, 11], delay_epochs=2, alternating=True)
    assert rates == pytest.approx([1, 0.5])
    assert task_epoch(credit, 5.0) == 4.0


def test_the_alignments_learning_rate_scales_with_the_batch():
    rule = ia(align=SGD | {"reference_batch_size": 64})
    credit = rule.attach(nn.Linear(1, 1), batch_size=16)
    assert credit._learning_rate() == pytest.approx(0.1 * 16 / 64)


STATEFUL = ia(align=ADAM, forward=MOMENTUM, alternating=True, input_noise=0.5, delay_epochs=1)


def test_a_saved_state_resumes_to_the_same_bits():
    model = net()
    *_, (credit, optimizer) = run(STATEFUL, model, 7)
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict(), credit.state_dict()), file)
    file.seek(0)
    states = torch.load(file, weights_only=True)

    resumed_model = net()
    resumed = STATEFUL.attach(resumed_model, generator=generator(99))
    resumed_optimizer = STATEFUL.optimizer(resumed_model, batch_size=8)
    for target, state in zip((resumed_model, resumed_optimizer, resumed), states, strict=True):
        target.load_state_dict(state)
    for step in range(7, 12):
        for m, c, o in ((model, credit, optimizer), (resumed_model, resumed, resumed_optimizer)):
            c.set_progress(step / 8)
            o.zero_grad(set_to_none=True)
            c.backward(loss_of(m, batch(step)))
            o.step()
            c.step()
    for a, b in zip(model.parameters(), resumed_model.parameters(), strict=True):
        assert torch.equal(a, b)
    for name, b in credit.backward_weights.items():
        assert torch.equal(b, resumed.backward_weights[name])


def test_states_of_others_are_refused():
    credit = ia().attach(net())
    with pytest.raises(
        SpecError, match="state must be of information_alignment, got one of feedback_alignment"
    ):
        credit.load_state_dict(rules.make("fa").attach(net()).state_dict())
    with pytest.raises(SpecError, match="state must hold backward weights of shapes"):
        credit.load_state_dict(ia().attach(nn.Linear(2, 2)).state_dict())
    with pytest.raises(SpecError, match="state must be empty for backprop"):
        rules.make("sgdm").attach(net()).load_state_dict(credit.state_dict())


def test_noise_comes_from_its_own_generator():
    def trained(noise_seed):
        model = net()
        rule = ia(input_noise=1.0)
        credit = rule.attach(model, generator=generator(1), noise_generator=generator(noise_seed))
        start = snapshot(credit)
        credit.backward(loss_of(model, batch()))
        credit.step()
        return start, snapshot(credit)

    global_state = torch.get_rng_state()
    (start, a), (again, b), (_, c) = trained(0), trained(0), trained(1)
    assert torch.equal(start["0"], again["0"])
    assert torch.equal(a["0"], b["0"])
    assert not torch.equal(a["0"], c["0"])
    torch.manual_seed(5)  # as `net` does
    net()
    assert global_state.shape == torch.get_rng_state().shape


def test_the_optimizer_follows_a_model_that_moves():
    """Momentum goes on in the new precision, from buffers that are others."""
    rule = ia(align=MOMENTUM)
    model = net()
    credit = rule.attach(model)
    list(run(rule, model, 2, attached=credit))
    reference = snapshot(credit)
    model.float()
    data = batch(9)
    credit.backward(loss_of(model, (data[0].float(), data[1])))
    credit.step()
    assert credit.backward_weights["0"].dtype == torch.float32
    twin = net()
    other = rule.attach(twin)
    list(run(rule, twin, 2, attached=other))
    other.backward(loss_of(twin, data))
    other.step()
    for name, b in credit.backward_weights.items():
        torch.testing.assert_close(b.double(), other.backward_weights[name], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(b.double(), reference[name])


def test_autocast_aligns_in_the_backward_weights_precision():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 4), torch.randn(16, 6)
    credit = ia().attach(layer)
    (b,) = credit.backward_weights.values()
    expected = slow_alignment.gradient(
        layer, x, b, LayerwiseOperations(), amp=1.0, decay=0.1, null=0.5
    )

    def closure():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return layer(x).float().sum()

    credit.backward(closure)
    credit.gather()
    assert b.grad.dtype == torch.float32
    torch.testing.assert_close(b.grad, expected, rtol=0.05, atol=0.05)


def test_gradients_take_the_layout_of_the_backward_weights():
    """Fused optimizers read both in memory order: a mismatch would permute the update."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).double()
    credit = ia(align=ADAM).attach(model)
    b = credit.backward_weights["0"]
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64).to(memory_format=torch.channels_last)
    credit.backward(lambda: model(x).sum())
    credit.gather()
    assert b.grad.stride() == b.stride()
    before, gradient = b.clone(), b.grad.clone()
    credit.step()
    torch.testing.assert_close(b, before - 0.01 * gradient.sign(), rtol=1e-5, atol=1e-6)


def test_noise_aligns_backward_weights_and_with_them_the_pseudogradient():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 15), nn.Tanh(), nn.Linear(15, 5)
    )
    rule = ia(1.0, 1.0, 0.0, align={"name": "adam", "learning_rate": 0.01}, input_noise=1.0)
    credit = rule.attach(model)
    x = torch.randn(500, 10)
    target = x @ torch.randn(10, 5)

    def angles():
        """Of W and B in the deeper layers, and of the first layer's two gradients, in degrees."""
        between = credit.alignment_diagnostics()
        loss = functional.mse_loss(model(x), target)
        pseudo = torch.autograd.grad(loss, model[0].weight, retain_graph=True)[0]
        with credit.true_gradients():
            true = torch.autograd.grad(loss, model[0].weight)[0]
        gradients = rules.angle_and_ratio(true, pseudo)[0]
        return torch.tensor([between["2"][0], between["4"][0], gradients])

    before = angles()
    for _ in range(150):
        credit.backward(lambda: functional.mse_loss(model(x), target))
        credit.step()
    assert before.min() > 70
    assert angles().max() < 15


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_align_once(reentrant):
    """A layer whose forward pass is repeated on the way back counts once."""
    model, (x, y) = net(), batch()
    credit = ia().attach(model)
    x.requires_grad_()

    def closure(checkpointed):
        if not checkpointed:
            return functional.cross_entropy(model(x), y)
        hidden = checkpoint(model[:3], x, use_reentrant=reentrant)
        return functional.cross_entropy(model[3:](hidden), y)

    def gradients(checkpointed):
        model.zero_grad()
        credit.backward(lambda: closure(checkpointed))
        own = [b.grad for b in credit.backward_weights.values()]
        credit.step()
        return [*own, *(p.grad.clone() for p in model.parameters())]

    start = copy.deepcopy(credit.state_dict())
    expected = gradients(False)
    credit.load_state_dict(start)
    for a, b in zip(gradients(True), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
