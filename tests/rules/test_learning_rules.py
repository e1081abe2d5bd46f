"""Every named rule through the one interface, and feedback alignment as a whole."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from goaldriven import rules
from goaldriven.errors import SpecError
from goaldriven.rules.feedback import feedback_of


def net():
    torch.manual_seed(1)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 3)]
    return nn.Sequential(*layers)


DATA = torch.randn(64, 1, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = (DATA.mean((1, 2, 3)) > 0).long()


def step(model, credit, optimizer, passes=0.5):
    credit.set_progress(passes)
    optimizer.zero_grad(set_to_none=True)
    loss = credit.backward(lambda: functional.cross_entropy(model(DATA), LABELS))
    optimizer.step()
    credit.step()
    return loss


TUNED = [name for name in rules.RULES if "/" not in name]


@pytest.mark.parametrize("name", TUNED)
def test_every_rule_learns_through_the_one_interface(name):
    model = net()
    rule = rules.make(name)
    credit = rule.attach(model, batch_size=64)
    optimizer = rule.optimizer(model, batch_size=64)
    losses = []
    quick = name in ("sgdm", "adam", "fa", "ia")
    for passes in range((60 if quick else 200) * credit.passes_per_epoch):
        losses.append(step(model, credit, optimizer, passes))
    assert losses[0].shape == ()
    assert losses[-1] < (0.97 if name in ("wp", "np") else 0.8) * losses[0]
    diagnostics = credit.alignment_diagnostics()
    if name == "dfa":  # whose backward weights do not stand against forward ones
        assert all(math.isnan(value) for pair in diagnostics.values() for value in pair)
        diagnostics = {}
    assert credit.backward_weights.keys() == diagnostics.keys()
    for layer, (angle, ratio) in diagnostics.items():
        w, b = model.get_submodule(layer).weight, credit.backward_weights[layer]
        assert w.shape == b.shape
        cosine = functional.cosine_similarity(w.flatten(), b.flatten(), dim=0).item()
        assert math.cos(math.radians(angle)) == pytest.approx(cosine, abs=1e-5)
        assert ratio == pytest.approx((b.norm() / w.norm()).item(), rel=1e-5)
    credit.remove()
    assert not list(model.buffers())


@pytest.mark.parametrize("name", rules.RULES)
def test_every_rule_resumes_to_the_same_bits(name):
    rule = rules.make(name)

    def start():
        model = net()
        return model, rule.attach(model), rule.optimizer(model)

    whole = start()
    for _ in range(6):
        step(*whole)
    half = start()
    for _ in range(3):
        step(*half)
    resumed = start()
    for target, source in zip(resumed, half, strict=True):
        target.load_state_dict(copy.deepcopy(source.state_dict()))
    for _ in range(3):
        step(*resumed)
    for a, b in zip(whole[0].parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(a, b)
    for layer, b in whole[1].backward_weights.items():
        assert torch.equal(b, resumed[1].backward_weights[layer])


def test_backprop_attaches_nothing():
    model = net()
    before = {id(m): copy.copy(vars(m)) for m in model.modules()}
    credit = rules.make("adam").attach(model)
    assert {id(m): vars(m) for m in model.modules()} == before
    assert all(feedback_of(m) is None for m in model.modules())
    assert (credit.backward_weights, credit.passes_per_epoch) == ({}, 1)
    credit.set_progress(3.5)
    assert (credit.task_rate, credit.task_epoch, credit.state_dict()) == (1.0, 3.5, {})
    with credit.true_gradients():
        credit.backward(lambda: model(DATA).sum())
    assert all(p.grad is not None for p in model.parameters())


def test_fixed_backward_weights_stay_fixed():
    model = net()
    rule = rules.make("fa")
    credit, optimizer = rule.attach(model), rule.optimizer(model)
    before = {name: b.clone() for name, b in credit.backward_weights.items()}
    for _ in range(3):
        step(model, credit, optimizer)
    assert all(torch.equal(before[n], b) for n, b in credit.backward_weights.items())
    assert all(not b.requires_grad for b in credit.backward_weights.values())


def test_feedback_alignment_aligns_the_forward_weights():
    """On a linear problem the pseudogradient comes within 90° of the gradient, and learning ends.

    Source: Lillicrap et al. 2016, Figures 1 and 2: a 30-20-10 network learning a linear map.
    """
    torch.manual_seed(2)
    teacher = torch.randn(10, 30) / math.sqrt(30)
    x = torch.randn(500, 30)
    y = x @ teacher.T
    model = nn.Sequential(nn.Linear(30, 20, bias=False), nn.Linear(20, 10, bias=False))
    for layer in (model[0], model[1]):
        nn.init.normal_(layer.weight, std=0.05)
    optimizer_spec = {"name": "sgdm", "learning_rate": 0.2, "reference_batch_size": None}
    rule = rules.make("fa", optimizer=optimizer_spec)
    credit, optimizer = rule.attach(model), rule.optimizer(model)
    credit.backward_weights["1"].normal_(std=0.3, generator=torch.Generator().manual_seed(7))

    def closure():
        return functional.mse_loss(model(x), y)

    def angle():
        """Between pseudogradient and gradient of the hidden layer's weights, in degrees."""
        loss = closure()
        pseudo = torch.autograd.grad(loss, model[0].weight, retain_graph=True)[0].flatten()
        with credit.true_gradients():
            true = torch.autograd.grad(loss, model[0].weight)[0].flatten()
        return math.degrees(math.acos(functional.cosine_similarity(pseudo, true, dim=0).item()))

    angles, losses = [angle()], [closure().item()]
    for _ in range(400):
        optimizer.zero_grad(set_to_none=True)
        losses.append(credit.backward(closure).item())
        if len(losses) % 50 == 0:
            angles.append(angle())
        optimizer.step()
    assert 75 < angles[0] < 105
    assert max(angles[1:]) < 75
    assert losses[-1] < 0.02 * losses[0]


def test_rules_are_made_from_names_and_changes():
    rule = rules.make("ia", optimizer={"learning_rate": 0.02}, credit={"amp": 3.0})
    stored = rules.RULES["ia"]
    assert rule.spec.optimizer == stored.optimizer.model_copy(update={"learning_rate": 0.02})
    assert rule.spec.credit == stored.credit.model_copy(update={"amp": 3.0})


WRONG = {
    "an unknown rule": (
        {"name": "adm"},
        f"rule must be one of {', '.join(sorted(rules.RULES))}; got 'adm' (did you mean 'adam'?)",
    ),
    "a misspelt setting": (
        {"name": "sgdm", "optimizer": {"learning_rte": 0.1}},
        "optimizer: every key must be one of decay_biases, learning_rate, momentum, name, "
        "nesterov, reference_batch_size, schedule, update_noise, weight_decay; got 'learning_rte' "
        "(did you mean 'learning_rate'?)",
    ),
    "a setting of another variant": (
        {"name": "fa", "credit": {"amp": 1.0}},
        "credit: every key must be one of name; got 'amp' (did you mean 'name'?)",
    ),
}


@pytest.mark.parametrize(("given", "message"), WRONG.values(), ids=WRONG)
def test_wrong_settings_say_what_is_wrong(given, message):
    with pytest.raises(SpecError) as error:
        rules.make(**given)
    assert str(error.value) == message
