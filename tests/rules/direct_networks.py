"""What the tests of direct feedback alignment share."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from goaldriven.errors import SpecError
from goaldriven.rules.direct_feedback import DirectFeedbackAlignment
from goaldriven.rules.feedback import detach
from goaldriven.specs import credit as specs

from .numpy_network import (
    READERS,
    numpy_gradients,
)


def attach(model, seed=1, gain=1.0, layers=None):
    generator = torch.Generator().manual_seed(seed)
    spec = specs.DirectFeedbackAlignment(gain=gain)
    return DirectFeedbackAlignment(model, layers, generator, spec)


def by_hand(model, credit):
    """NumPy's gradients with e·D in the place of the gradient at every tensor entering layers."""
    weights = {name: d.numpy() for name, d in credit.feedback_weights.items()}
    assert weights.keys() == set(READERS.values())

    def replace(tensor, gradient, error):
        return np.tensordot(error, weights[READERS[tensor]], 1)

    return numpy_gradients(model, replace=replace)


def gradients(model, loss, *inputs):
    """Of a loss of the output, by parameter (and of inputs that need one, by number)."""
    wanted = dict(model.named_parameters())
    wanted |= {str(i): x for i, x in enumerate(inputs) if x.requires_grad}
    found = torch.autograd.grad(loss(model(*inputs)), list(wanted.values()), allow_unused=True)
    return dict(zip(wanted, found, strict=True))


def square(y):
    return (torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y) * y.square()).sum()


def output_error(y):
    """The gradient of `square` at its argument."""
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
    return 2 * weights * y.detach()


def assert_same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance)


def copied_plain(model):
    twin = copy.deepcopy(model)
    detach(twin)
    return twin


def message(run):
    with pytest.raises(SpecError) as error:
        run()
    return str(error.value)


class Skips(nn.Module):
    """A tensor that is used before and after a layer reads it, and by two layers."""

    def __init__(self, width=5):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, 2)

    def forward(self, x):
        h = self.a(x).tanh_()
        early = h.exp()
        h2 = self.b(h)
        return self.out(h2 + early + h.sin() + self.c(h).relu_())
