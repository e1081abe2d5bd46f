"""Operations of all networks at once: directly and by PyTorch's own way, they are the same."""

from __future__ import annotations

import pytest
import torch

from goaldriven.rules import over_networks
from goaldriven.rules.over_networks import OverNetworks


class Scaled(OverNetworks):
    """x times the network's number, plus what all share; notes what it is told."""

    told: tuple = ()

    @staticmethod
    def vmap(info, in_dims, x, shared, word):
        Scaled.told = (info.batch_size, in_dims, tuple(x.shape), word)
        x = x.movedim(in_dims[0], 0)
        numbers = torch.arange(info.batch_size, dtype=x.dtype)
        return (x * numbers[:, None] + shared).t(), 1


@pytest.mark.parametrize("direct", [True, False])
def test_an_operation_sees_all_networks_and_its_graph_is_theirs(direct, monkeypatch):
    assert over_networks._DIRECT, "this PyTorch has the direct way"
    monkeypatch.setattr(over_networks, "_DIRECT", direct)
    x = torch.arange(12.0).view(4, 3).requires_grad_()
    shared = torch.ones(4, requires_grad=True)
    y = torch.vmap(lambda x: Scaled.apply(x, shared, "a word"), in_dims=1)(x)
    assert Scaled.told == (3, (1, None, None), (4, 3), "a word")
    expected = x.detach().t() * torch.tensor([[0.0], [1.0], [2.0]]) + 1
    assert torch.equal(y, expected)
    (y * y.detach()).sum().backward()
    assert torch.equal(x.grad, (expected * torch.tensor([[0.0], [1.0], [2.0]])).t())
    assert torch.equal(shared.grad, expected.sum(0))


@pytest.mark.parametrize("direct", [True, False])
def test_outside_of_a_stack_it_is_refused(direct, monkeypatch):
    monkeypatch.setattr(over_networks, "_DIRECT", direct)
    with pytest.raises(NotImplementedError, match=r"inside torch\.vmap over networks only"):
        Scaled.apply(torch.ones(4), torch.ones(4), "a word")
    with pytest.raises(NotImplementedError, match=r"inside torch\.vmap over networks only"):
        torch.vmap(lambda z: z + Scaled.apply(torch.ones(4), torch.ones(4), ""))(torch.ones(2, 4))
