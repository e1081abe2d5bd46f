"""Where the noise of rules comes from: one network's generator, or those of a stack of networks.

A network of a stack draws from its own generator, in the order and the layout in memory in which
it would draw by itself, so that its numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from goaldriven.rules.over_networks import OverNetworks

Fill = Callable[[Tensor, torch.Generator], object]
"""Fills one network's tensor in place."""


class Streams:
    """The generators of several networks.

    Parameters
    ----------
    generators : one per network.
    strides : what is drawn for → how that lies in memory in a single network; contiguous where it
        is not said.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        strides: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.generators, self.strides = tuple(generators), dict(strides or {})

    def rows(self, fill: Fill, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """(networks, *shape), each network's row filled from its generator."""
        device = self.generators[0].device
        drawn = torch.empty((len(self.generators), *shape), dtype=dtype, device=device)
        for row, generator in zip(drawn.unbind(0), self.generators, strict=True):
            fill(row, generator)
        return drawn

    def normal_like(self, tensor: Tensor, what: str | None = None) -> Tensor:
        """Normal draws of deviation 1 for one network's tensor, inside `torch.vmap` over networks.

        ``what`` it is drawn for, by the names of ``strides``.
        """
        drawn: Tensor = _Normal.apply(tensor, self, what)
        return drawn

    def get_state(self) -> Tensor:
        """(networks, bytes)."""
        return torch.stack([generator.get_state() for generator in self.generators])

    def set_state(self, state: Tensor) -> None:
        for generator, own in zip(self.generators, state, strict=True):
            generator.set_state(own.clone())  # of its own memory: aligned


Noise = torch.Generator | Streams
"""One network's generator, or those of a stack."""


def fill_normal(row: Tensor, generator: torch.Generator) -> None:
    row.normal_(generator=generator)


class _Normal(OverNetworks):
    """Draws for all networks at once."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        like: Tensor,
        streams: Streams,
        what: str | None,
    ) -> tuple[Tensor, int]:
        shape = like.shape if in_dims[0] is None else like.movedim(in_dims[0], 0).shape[1:]
        strides = None if what is None else streams.strides.get(what)
        if strides is None:
            drawn = streams.rows(fill_normal, shape, like.dtype)
        else:
            flat = streams.rows(fill_normal, (shape.numel(),), like.dtype)
            drawn = flat.as_strided((len(flat), *shape), (shape.numel(), *strides))
        return drawn.to(like.device), 0
