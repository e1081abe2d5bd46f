"""Perturbation rules on compiled models and under autocast."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from goaldriven.rules.learned_feedback import LearnedFeedback
from goaldriven.rules.node_perturbation import NodePerturbation
from goaldriven.specs import credit as specs


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def attach(model, **settings):
    return NodePerturbation(model, None, specs.NodePerturbation(**settings), generator(7))


def learned_feedback(model, **settings):
    spec = specs.LearnedFeedback(optimizer={"name": "adam", "learning_rate": 0.01}, **settings)
    return LearnedFeedback(model, None, generator(), generator(1), spec, None)


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors]).double()


@pytest.mark.parametrize("make", [attach, learned_feedback])
def test_compiled_models_draw_the_same(make):
    def build(compiled):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
        credit = make(model)
        return model, credit, torch.compile(model, backend="eager") if compiled else model

    x = torch.randn(5, 3).double()
    found = []
    for compiled in (False, True):
        model, credit, run = build(compiled)
        for _ in range(3):
            model.zero_grad()
            credit.backward(lambda run=run: run(x).square().sum(1))
            credit.step()
        gradients = [p.grad for p in model.parameters()]
        found.append([*gradients, *credit.backward_weights.values()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("make", [attach, learned_feedback])
def test_models_may_be_compiled_and_run_before(make):
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    compiled = torch.compile(model, backend="eager")
    x = torch.randn(5, 3)
    compiled(x)
    with torch.no_grad():
        before = compiled(x)
    credit = make(model)
    credit.backward(lambda: compiled(x).square().sum(1))
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    assert all(b.grad.abs().sum() > 0 for n, b in credit.backward_weights.items() if n != "0")
    credit.remove()
    with torch.no_grad():
        assert torch.equal(compiled(x), before)


@pytest.mark.parametrize("make", [attach, learned_feedback])
def test_autocast_gives_nearly_the_same(make):
    """With noise well above the coarse precision."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(24, 2))
    x = torch.randn(16, 1, 8)
    found = []
    for low in (False, True):
        credit = make(model, sigma=0.1, samples=50)

        def closure(low=low):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
                return model(x).float().square().sum(1)

        model.zero_grad()
        credit.backward(closure)
        backward = [b.grad for n, b in credit.backward_weights.items() if n != "0"]
        assert all(p.grad.dtype == torch.float32 for p in model.parameters())
        found.append(flat([*(p.grad for p in model.parameters()), *backward]))
        credit.remove()
    assert functional.cosine_similarity(*found, 0) > 0.99
