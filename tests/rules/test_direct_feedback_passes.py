"""Direct feedback over several passes, through checkpoints and in lower precision."""

import io
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from goaldriven.errors import SpecError

from .direct_networks import (
    Skips,
    assert_same,
    attach,
    by_hand,
    copied_plain,
    output_error,
    square,
)
from .numpy_network import (
    assert_gradients,
    batch,
    network,
    torch_gradients,
)


def test_passes_have_their_own_errors():
    """Several forward passes before one backward pass, of other sizes and modes in between."""
    model = network()
    attach(model)
    one, other = (torch_gradients(model, seed) for seed in (4, 5))
    losses = []
    for seed in (4, 5):
        x, labels = batch(seed)
        losses.append(functional.cross_entropy(model(x), labels))
        model(x[:2])
        with torch.no_grad():
            model(x)
    parameters = dict(model.named_parameters())
    total = torch.autograd.grad(losses[0] + 3 * losses[1], list(parameters.values()))
    found = {n: g.numpy() for n, g in zip(parameters, total, strict=True)}
    assert_gradients(found, {n: one[n] + 3 * other[n] for n in one})


@pytest.mark.parametrize("leaf", [True, False])
def test_the_gradient_at_the_models_input(leaf):
    """Also of an input to two passes, and again in later steps."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    credit = attach(model)
    source = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    for scale in (1.0, 2.0):
        x = source if leaf else 1.0 * source
        y = model(x)
        losses = square(y), scale * y.sum()
        found = torch.autograd.grad(sum(losses), source)[0]
        d = credit.feedback_weights["0"]
        e = output_error(y) + scale
        torch.testing.assert_close(found, e @ d)
        x = source if leaf else 1.0 * source
        both = torch.autograd.grad(square(model(x)) + scale * model(x).sum(), source)[0]
        torch.testing.assert_close(both, e @ d)
        with credit.true_gradients():
            exact = torch.autograd.grad(model(source).sum(), source)[0]
        expected = torch.autograd.grad(copied_plain(model)(source).sum(), source)[0]
        torch.testing.assert_close(exact, expected)


def test_inputs_and_hidden_tensors_stay_plain_tensors():
    model = Skips()
    attach(model)
    x = torch.randn(3, 5, requires_grad=True)
    seen = []
    model.b.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    square(model(x)).backward()
    assert not x._backward_hooks
    for tensor in (x, *seen):
        torch.save(tensor, io.BytesIO())
        assert not vars(tensor)


def test_nothing_of_a_pass_outlives_it():
    model = Skips()
    attach(model)
    kept = []
    model.b.register_forward_pre_hook(lambda m, args: kept.append(weakref.ref(args[0])))
    for _ in range(3):
        square(model(torch.randn(3, 5))).backward()
    assert [ref() for ref in kept] == [None] * 3


class Checkpointed(Skips):
    """``h`` enters a region and is used outside of it; the last layer may be in a region."""

    def __init__(self, reentrant, last):
        super().__init__()
        self.reentrant, self.last = reentrant, last

    def region(self, function, x):
        if self.reentrant is None:
            return function(x)
        return checkpoint(function, x, use_reentrant=self.reentrant)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        h = self.region(lambda h: torch.tanh(self.b(h)) + h, h) + h.exp()
        h = h + self.region(self.c, h).tanh()
        return self.region(self.out, h) if self.last else self.out(h)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_changes_nothing(reentrant, last):
    models = []
    for mode in (None, reentrant):
        torch.manual_seed(0)
        models.append(Checkpointed(mode, last).double())
        attach(models[-1])
    x = torch.randn(4, 5, dtype=torch.float64)
    for _ in range(2):
        expected, found = (accumulated(model, x) for model in models)
        assert_same(found, expected, rtol=1e-12, atol=1e-12)
    passes = [sum(accumulated_losses(model, x)) for model in models]
    if reentrant and last:
        with pytest.raises(SpecError, match="loss must depend on the output"):
            passes[1].backward()
        return
    for model, loss in zip(models, passes, strict=True):
        model.zero_grad()
        loss.backward()
    assert_same(*({n: p.grad for n, p in m.named_parameters()} for m in models))


def accumulated(model, x):
    model.zero_grad()
    square(model(x)).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters()}


def accumulated_losses(model, x):
    return square(model(x)), 2 * square(model(x.flip(0)))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_blocks_of_a_residual_network(reentrant):
    model = network(lambda block, x: checkpoint(block, x, use_reentrant=reentrant))
    credit = attach(model)
    assert_gradients(torch_gradients(model), by_hand(model, credit))


def test_autocast():
    model, x = network().float(), batch()[0].float()
    credit = attach(model)
    labels = batch()[1]

    def run(enabled):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            y = model(x)
        assert y.dtype == (torch.bfloat16 if enabled else torch.float32)
        functional.cross_entropy(y.float(), labels).backward()
        return {n: p.grad.clone() for n, p in model.named_parameters()}

    low, full = run(True), run(False)
    assert {g.dtype for g in low.values()} == {torch.float32}
    for name, gradient in full.items():
        cosine = functional.cosine_similarity(low[name].flatten(), gradient.flatten(), 0)
        assert cosine > 0.98, name
    assert {d.dtype for d in credit.feedback_weights.values()} == {torch.float32}
