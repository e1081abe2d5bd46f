"""Optimizers are PyTorch's, penalise kernels alone, and follow their schedule."""

import pytest
import torch
from torch import nn

from goaldriven import rules
from goaldriven.errors import SpecError
from goaldriven.rules.optimizers import schedule_factor
from goaldriven.specs import NetworkSpec
from goaldriven.specs.optimizers import SGDM, Adam, Schedule


def small_net():
    torch.manual_seed(3)
    layers = [nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)]
    return nn.Sequential(*layers).double()


def train(model, optimizer, *, penalty=0.0, steps=6):
    """Steps on a fixed stream; ``penalty``·‖kernel‖²/2 is added to the loss by hand."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        x = torch.randn(8, 2, 6, generator=generator, dtype=torch.float64)
        loss = model(x).square().mean()
        if penalty:
            loss = loss + penalty / 2 * sum(
                p.square().sum() for p in model.parameters() if p.ndim > 1
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return list(model.parameters())


REFERENCES = {
    "sgdm": (
        SGDM(learning_rate=0.1, momentum=0.8, reference_batch_size=32),
        lambda p: torch.optim.SGD(p, lr=0.025, momentum=0.8, nesterov=True, foreach=False),
    ),
    "momentum without Nesterov": (
        SGDM(learning_rate=0.1, nesterov=False, reference_batch_size=None),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=False),
    ),
    "no momentum": (
        SGDM(learning_rate=0.1, momentum=0.0, reference_batch_size=8),
        lambda p: torch.optim.SGD(p, lr=0.1, foreach=False),
    ),
    "adam": (
        Adam(learning_rate=0.01, beta1=0.8, beta2=0.95, epsilon=1e-6),
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6, foreach=False),
    ),
    # An ε of 1e-8 would magnify the last bit of gradients near 0, which is the processor's own.
    "adam, scaled": (
        Adam(learning_rate=0.01, reference_batch_size=16, epsilon=1e-6),
        lambda p: torch.optim.Adam(p, lr=0.005, eps=1e-6, foreach=False),
    ),
}


@pytest.mark.parametrize("penalty", [0.0, 0.3])
@pytest.mark.parametrize(("spec", "reference"), REFERENCES.values(), ids=REFERENCES)
def test_optimizers_are_pytorchs_and_penalise_kernels_alone(spec, reference, penalty):
    spec = spec.model_copy(update={"weight_decay": penalty})
    ours, theirs = small_net(), small_net()
    rule = rules.make("mine", credit="backprop", optimizer=spec.model_dump())
    train(ours, rule.optimizer(ours, batch_size=8))
    train(theirs, reference(theirs.parameters()), penalty=penalty)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_every_parameter_is_in_one_group_and_kernels_in_the_decayed_one():
    model = small_net()
    optimizer = rules.make("sgdm", optimizer={"weight_decay": 0.1}).optimizer(model)
    decayed, rest = optimizer.param_groups
    assert [id(p) for p in decayed["params"]] == [id(model[0].weight), id(model[4].weight)]
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0)
    every = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(every) == sorted(id(p) for p in model.parameters())
    assert len(rules.make("sgdm").optimizer(nn.LayerNorm(2)).param_groups) == 1


def test_backward_weights_are_not_the_forward_optimizers_business():
    model = small_net()
    credit = rules.make("ia").attach(model)
    optimizer = rules.make("ia").optimizer(model)
    stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not stepped & {id(b) for b in credit.backward_weights.values()}


def test_a_model_without_parameters_is_refused():
    with pytest.raises(SpecError, match=r"^model must have parameters, got none$"):
        rules.make("adam").optimizer(nn.ReLU())


def test_the_schedule_warms_up_and_drops():
    schedule = Schedule(warmup_epochs=5, drop_epochs=(30, 60, 80), drop_factor=0.1)
    expected = {0: 0, 1: 0.2, 2.5: 0.5, 5: 1, 29.99: 1, 30: 0.1, 59: 0.1, 60: 0.01, 90: 0.001}
    for epoch, factor in expected.items():
        assert schedule_factor(schedule, epoch) == pytest.approx(factor, rel=1e-12)
    assert schedule_factor(Schedule(), 0.0) == 1.0


@pytest.mark.parametrize(
    ("spec", "batch_size", "expected"),
    [
        (SGDM(learning_rate=0.125), 512, 0.25),
        (SGDM(learning_rate=0.125), None, 0.125),
        (SGDM(learning_rate=0.125, reference_batch_size=None), 512, 0.125),
        (Adam(learning_rate=0.001), 512, 0.001),
        (Adam(learning_rate=0.001, reference_batch_size=64), 32, 0.0005),
    ],
)
def test_the_learning_rate_scales_with_the_batch_where_both_sizes_are_known(
    spec, batch_size, expected
):
    assert rules.learning_rate_at(spec, 0.0, batch_size) == pytest.approx(expected, rel=1e-15)
    rule = rules.make("mine", credit="backprop", optimizer=spec.model_dump())
    (group,) = rule.optimizer(nn.Linear(1, 1), batch_size=batch_size).param_groups
    assert group["lr"] == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("decay_biases", [False, True])
def test_the_penalty_on_biases_by_hand(decay_biases):
    """Under a loss of 0 the gradient is that of (λ/2)‖W‖² alone, λW: one step takes W to (1 − ηλ)W.

    Biases of the layers follow where they are asked for; batch norm's scale and shift never do.
    """
    model = small_net()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = {"learning_rate": 0.5, "momentum": 0.0, "reference_batch_size": None}
    penalty = {"weight_decay": 0.25, "decay_biases": decay_biases}
    rule = rules.make("sgdm", optimizer=optimizer | penalty)
    credit, steps = rule.attach(model), rule.optimizer(model)
    credit.backward(lambda: 0.0 * model(torch.randn(8, 2, 6).double()).sum())
    steps.step()
    shrunk = {"0.weight", "4.weight"} | ({"0.bias", "4.bias"} if decay_biases else set())
    for name, parameter in model.named_parameters():
        factor = 1 - 0.5 * 0.25 if name in shrunk else 1.0
        torch.testing.assert_close(parameter.detach(), factor * before[name], rtol=1e-14, atol=0)


def test_backward_weights_have_no_biases_to_decay():
    with pytest.raises(SpecError, match=r"credit.optimizer.decay_biases must be false"):
        rules.make("ia", credit={"optimizer": {"decay_biases": True}})


def test_networks_keep_the_ids_they_had_before_biases_could_decay():
    """Ids are hashes of all settings; these are in results made before this one was there."""
    ids = {
        rule: NetworkSpec(task="digits", architecture="knet4", rule=rule).network_id
        for rule in ("sgdm", "ia", "kp")
    }
    assert ids == {"sgdm": "21ac20ad520c", "ia": "642e679a67bd", "kp": "edf3d6fcdf0f"}
    changed = {"name": "sgdm", "optimizer": {"decay_biases": True}}
    other = NetworkSpec(task="digits", architecture="knet4", rule=changed)
    assert other.network_id != ids["sgdm"]
    assert NetworkSpec.model_validate_json(other.canonical_json()) == other
