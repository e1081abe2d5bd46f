"""All 45 observables of every observed layer, streamed over batches of stimuli."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from goaldriven.errors import DataError, unknown
from goaldriven.layers import LayerInfo
from goaldriven.modes import evaluating
from goaldriven.observables.chains import Chain, hooks, trace_chains
from goaldriven.observables.change import (
    Weighted,
    activity_change_through_feedback,
    as_weighted,
    response_to_ones,
)
from goaldriven.observables.statistics import read_activity, weight_statistics
from goaldriven.specs.statistics import STATISTICS

TANGENT_PARTS = 8
"""Parts a batch is cut into where tangents are as large as activations."""

MEAN = 1
"""Where the raw mean stands among the 21 statistics."""


def record(
    model: nn.Module,
    layers: Sequence[LayerInfo],
    batches: Iterable[Tensor],
    *,
    through_feedback: bool = False,
) -> np.ndarray:
    """The 45 observables of each layer, float64 [layer, statistic], as `STATISTICS` orders them.

    Weight statistics are those of the forward weights. Activation statistics and the activity
    change g (with g² and |g|) are computed per stimulus and averaged over all stimuli; sums are
    accumulated, so that the result does not depend on how the stimuli are cut into batches. The
    model runs in eval mode without gradients, and every module is put back into its own mode. What
    has diverged (NaN, infinite) is so in the result; nothing is raised.

    Parameters
    ----------
    model : any module; each of ``layers`` names a Linear, Conv1d or Conv2d in it, and the module
        whose output is the layer's activity.
    batches : stimuli [batch, …], on the model's device.
    through_feedback : take the activity change through the layers' backward pass, as published
        (see `activity_change_through_feedback`), in place of the forward weights.

    Raises
    ------
    DataError : a layer is not in the model, of another kind, or not reached; its output depends on
        something besides the layer; or there are no stimuli.

    Source: Nayebi et al. 2020, "Identifying learning rules from neural network observables".
    """
    check_layers(model, layers)
    stimuli = (batch for batch in batches if len(batch))
    first = next(stimuli, None)
    if first is None:
        raise DataError("'batches' must hold at least one stimulus, got none")
    with evaluating(model), torch.no_grad():
        chains = trace_chains(model, layers, first[:1])
        readers = [_Reader(layer, model, chains[layer.name], through_feedback) for layer in layers]
        with hooks([handle for reader in readers for handle in reader.attach()]):
            for batch in chain([first], stimuli):
                model(batch)
    return np.array([reader.row() for reader in readers]).reshape(-1, len(STATISTICS))


def check_layers(model: nn.Module, layers: Sequence[LayerInfo]) -> None:
    """Refuse layers that the model does not have or that are of another kind."""
    modules = dict(model.named_modules())
    for layer in layers:
        for path in (layer.name, layer.output):
            if path not in modules:
                raise DataError(unknown("layer", path, filter(None, modules)))
        kind = type(modules[layer.name])
        if not issubclass(kind, nn.Linear | nn.Conv1d | nn.Conv2d):
            raise DataError(
                f"layer {layer.name!r} must be a Linear, Conv1d or Conv2d, got {kind.__name__}"
            )


@dataclass
class _Reader:
    """Reads one layer while the model runs; keeps sums only."""

    layer: LayerInfo
    model: nn.Module
    chain: Chain
    through_feedback: bool
    total: np.ndarray = field(default_factory=lambda: np.zeros(24))
    count: int = 0
    change: Tensor | None = None  # of the present batch, unless it follows from
    share: Tensor = field(default_factory=lambda: torch.empty(0))  # each output's part in it
    armed: bool = False  # the layer has run, its output has not yet
    busy: bool = False  # the layer runs for our own sake
    responses: dict[torch.Size, Tensor] = field(default_factory=dict)

    @property
    def weighted(self) -> Weighted:
        return as_weighted(self.model.get_submodule(self.layer.name))

    def attach(self) -> list[RemovableHandle]:
        """Hooks on the layer and on its output, last of all hooks; nothing they see is kept."""
        output = self.model.get_submodule(self.layer.output)
        return [
            self.weighted.register_forward_hook(self.on_weighted, with_kwargs=True),
            output.register_forward_hook(self.on_output),
        ]

    def on_weighted(
        self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], z: Tensor
    ) -> None:
        """Before anything can overwrite z, take the change where it depends on more than y."""
        if self.busy:
            return
        self.armed = True
        a: Tensor = inputs[0] if inputs else named["input"]
        if self.through_feedback:
            self.busy = True
            self.change = activity_change_through_feedback(module, a, self.chain)
            self.busy = False
        elif not self.chain.affine_until_relu:
            response = self._response(a.shape[1:])
            parts = z.split(-(-len(z) // TANGENT_PARTS) or 1)
            tangents = [self.chain.tangent(part, response).flatten(1) for part in parts]
            self.change = torch.cat([t.mean(dim=1, dtype=torch.float64) for t in tangents])
        else:
            self.change = None
            response = self._response(a.shape[1:])
            self.share = response / response.numel()

    def on_output(self, module: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> None:
        """Statistics of the activity; for a ReLU also the change, whose gain is y > 0."""
        if self.busy or not self.armed:
            return  # a module used elsewhere in the model too
        self.armed = False
        rectified = self.chain.rectified
        if self.change is not None:
            statistics, _ = read_activity(y, rectified)
            change = self.change.cpu().numpy()
        elif rectified:
            statistics, change = read_activity(y, rectified, self.share)
        else:
            statistics, _ = read_activity(y)
            change = self.share.sum().cpu().numpy()
        # A comparison hides NaN: the derivative at an undefined activity is undefined.
        g = np.where(np.isnan(statistics[:, MEAN]), np.nan, change)
        with np.errstate(all="ignore"):
            self.total[:21] += statistics.sum(axis=0)
            self.total[21:] += [g.sum(), np.abs(g).sum(), np.square(g).sum()]
        self.count += len(y)

    def _response(self, input_shape: torch.Size) -> Tensor:
        """What one stimulus' inputs, all growing by one, do to z (or to the ReLU's input)."""
        if input_shape not in self.responses:
            response = response_to_ones(self.weighted, input_shape)
            if self.chain.affine_until_relu:
                response = self.chain.affine_tangent(response)
            self.responses[input_shape] = response
        return self.responses[input_shape]

    def row(self) -> np.ndarray:
        """The 45 observables of the layer."""
        if not self.count:
            raise DataError(f"layer {self.layer.name!r} must be reached by the forward pass")
        return np.concatenate([weight_statistics(self.weighted.weight), self.total / self.count])
