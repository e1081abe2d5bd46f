"""All 45 observables of every layer under any number of measurement conditions, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain as joined
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from goaldriven.errors import DataError
from goaldriven.layers import LayerInfo
from goaldriven.modes import evaluating
from goaldriven.observables.chains import Chain, hooks, trace_chains
from goaldriven.observables.change import Weighted, as_weighted, response_to_ones
from goaldriven.observables.change_conditions import ChangeConditions
from goaldriven.observables.layout import channels_last, unit_row, unit_rows
from goaldriven.observables.measured_tensor import (
    Cell,
    Drawn,
    TensorReader,
    record_noise,
    stimulus_noise,
)
from goaldriven.observables.recorder import check_layers
from goaldriven.observables.statistics import (
    read_activity,
    standard_deviation,
    weight_statistics,
)
from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.specs.statistics import STATISTICS

REFERENCE_STIMULI = 64
"""Stimuli over which standard deviations are taken that noise is relative to."""


def record_measured(
    model: nn.Module,
    layers: Sequence[LayerInfo],
    batches: Iterable[Tensor],
    measurements: Sequence[MeasurementSpec],
    *,
    network_id: str = "",
    epoch: int = 0,
    n_stimuli: int | None = None,
) -> np.ndarray:
    """The 45 observables under each measurement, float64 [measurement, layer, statistic].

    One forward pass serves all measurements, and one more over 64 stimuli where noise is relative.
    With all units, all stimuli and no noise the result is that of `record`, bit for bit (through
    feedback: to rounding). For what noise, units and stimuli are, see `MeasurementSpec`. Noise on
    the derivative r_i of the activity change g enters it only by its sum over the m_in inputs read,

        g = (1/m_out) (Σ_i r_i + σ √((1−ρ) m_in) ε + σ √ρ m_in ξ),   ε, ξ ~ N(0, 1) per stimulus,

    which is drawn in place of the m_in numbers: the law is the same. Results do not depend, beyond
    rounding, on the measurements made along with them nor on how the stimuli are cut into batches.

    Parameters
    ----------
    model, layers, batches : as for `record`; all stimuli of one shape.
    measurements : the conditions.
    network_id : noise is independent between networks of different ids, and so are the units of
        measurements with ``own_units``.
    epoch : noise is independent between epochs, but for constant noise; units and stimuli are the
        same at all.
    n_stimuli : number of stimuli in all; needed where a measurement has a ``stimulus_count``.

    Raises
    ------
    DataError : as `record`; no measurements; ``n_stimuli`` needed and not given, or wrong.

    Source: Nayebi et al. 2020, section 6; lr-identify ``tensorflow/Metrics/functions.py``.
    """
    if not measurements:
        raise DataError("'measurements' must hold at least one, got none")
    if n_stimuli is None and any(m.stimulus_count for m in measurements):
        raise DataError("'n_stimuli' must be given where a measurement has a stimulus_count")
    check_layers(model, layers)
    drawn = Drawn(network_id, epoch, n_stimuli or 0)
    with evaluating(model), torch.no_grad():
        reference, stimuli = _reference(batch for batch in batches if len(batch))
        chains = trace_chains(model, layers, reference[:1])
        relative = any(m.relative_noise for m in measurements)
        looks = {layer.name: _Look(layer, model, chains[layer.name]) for layer in layers}
        with hooks([handle for look in looks.values() for handle in look.attach()]):
            model(reference if relative else reference[:1])
        readers = [_LayerReader(looks[layer.name], measurements, drawn) for layer in layers]
        with hooks([handle for reader in readers for handle in reader.attach()]):
            seen = sum(_run(model, batch) for batch in stimuli)
    if n_stimuli is not None and seen != n_stimuli:
        raise DataError(f"'n_stimuli' must be the {seen} stimuli in 'batches', got {n_stimuli}")
    rows = [reader.rows() for reader in readers]
    return np.stack(rows, axis=1) if rows else np.empty((len(measurements), 0, len(STATISTICS)))


def _run(model: nn.Module, batch: Tensor) -> int:
    model(batch)
    return len(batch)


def _reference(batches: Iterator[Tensor]) -> tuple[Tensor, Iterator[Tensor]]:
    """The first 64 stimuli, and all batches again."""
    first: list[Tensor] = []
    while sum(map(len, first)) < REFERENCE_STIMULI and (batch := next(batches, None)) is not None:
        first.append(batch)
    if not first:
        raise DataError("'batches' must hold at least one stimulus, got none")
    return torch.cat(first)[:REFERENCE_STIMULI], joined(first, batches)


@dataclass
class _Look:
    """A first look at a layer: its input and output, for shapes and standard deviations."""

    layer: LayerInfo
    model: nn.Module
    chain: Chain
    a: Tensor | None = None
    y: Tensor | None = None
    armed: bool = False

    @property
    def weighted(self) -> Weighted:
        return as_weighted(self.model.get_submodule(self.layer.name))

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        if self.a is None or self.y is None:
            raise DataError(f"layer {self.layer.name!r} must be reached by the forward pass")
        return self.a, self.y

    def attach(self) -> list[RemovableHandle]:
        output = self.model.get_submodule(self.layer.output)
        return [
            self.weighted.register_forward_pre_hook(self.on_input, with_kwargs=True),
            output.register_forward_hook(self.on_output),
        ]

    def on_input(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.a = _input(inputs, named).detach().clone()  # it may be overwritten
        self.armed = True

    def on_output(self, module: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> None:
        if self.armed:
            self.y, self.armed = y.detach().clone(), False


def _input(inputs: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    a: Tensor = inputs[0] if inputs else named["input"]
    return a


class _LayerReader:
    """Reads one layer under all measurements while the model runs; keeps sums only."""

    def __init__(self, look: _Look, measurements: Sequence[MeasurementSpec], drawn: Drawn) -> None:
        self._look, self._drawn = look, drawn
        a, y = look.tensors
        self._shapes = a.shape[1:], y.shape[1:]
        self._start = 0
        self._armed = self._busy = False
        deviation = standard_deviation(y)
        cells = [drawn.cell(m, y[0].numel(), deviation, shown=True) for m in measurements]
        self._cells = list(dict.fromkeys(cells))
        indices = {cell: k for k, cell in enumerate(self._cells)}
        self._where = [indices[cell] for cell in cells]
        noisy = [cell for cell in self._cells if not cell.plain]
        self._reader = TensorReader(look.layer.name, y[0].numel(), noisy, drawn)
        self._order = np.array([indices[cell] for cell in noisy], dtype=int)
        self._plain = next((k for k, cell in enumerate(self._cells) if cell.plain), None)
        self._activity = np.zeros((len(self._cells), 21))
        self._changes = ChangeConditions(
            look.layer.name, look.weighted, look.chain, a, y.shape[1:], measurements, drawn
        )
        self._counts = np.zeros(len(self._cells), dtype=int)
        self._measurements = measurements
        self._share: Tensor | None = None
        if look.chain.affine_until_relu:
            response = look.chain.affine_tangent(response_to_ones(look.weighted, a.shape[1:]))
            self._share = response / response.numel()

    def attach(self) -> list[RemovableHandle]:
        """Hooks on the layer and on its output, last of all hooks; nothing they see is kept."""
        look = self._look
        output = look.model.get_submodule(look.layer.output)
        return [
            look.weighted.register_forward_hook(self.on_weighted, with_kwargs=True),
            output.register_forward_hook(self.on_output),
        ]

    def on_weighted(
        self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], z: Tensor
    ) -> None:
        """Before anything can overwrite z, take the changes that depend on more than y."""
        if self._busy:
            return
        self._armed = self._busy = True
        a = _input(inputs, named)
        if a.shape[1:] != self._shapes[0]:
            raise DataError(
                f"stimuli must all have one shape, got {tuple(a.shape[1:])} at layer "
                f"{self._look.layer.name!r} after {tuple(self._shapes[0])}"
            )
        self._changes.on_weighted(a, z)
        self._busy = False

    def on_output(self, module: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> None:
        """Statistics of the activity under all conditions, then the changes."""
        if self._busy or not self._armed:
            return  # a module used elsewhere in the model too
        self._armed = False
        change: np.ndarray | None = None
        if self._plain is not None:
            rectified = self._look.chain.rectified
            statistics, change = read_activity(y, rectified, self._share if rectified else None)
            if self._share is None:
                change = None
            elif not rectified:
                change = np.full(len(y), float(self._share.sum()))
            self._add(np.array([self._plain]), statistics[None])
        rows = unit_rows(y.detach())
        places = _places(y)
        for first in range(0, len(rows), self._reader.rows_at_once):
            part = rows[first : first + self._reader.rows_at_once]
            start = self._start + first
            fresh = stimulus_noise(self._drawn, start, start + len(part))
            for cells, statistics in self._reader.read(part, places, fresh, start):
                self._add(self._order[cells], statistics)
        undefined = rows.sum(dim=1).isnan().cpu().numpy()
        self._changes.on_output(y, self._start, undefined, change)
        self._start += len(y)

    def _add(self, cells: np.ndarray, statistics: np.ndarray) -> None:
        """Sum up statistics [cell, stimuli, 21]."""
        with np.errstate(all="ignore"):
            self._activity[cells] += statistics.sum(axis=1)
        self._counts[cells] += statistics.shape[1]

    def rows(self) -> np.ndarray:
        """The 45 observables under each measurement, [measurement, 45]."""
        activity = (self._activity / self._counts[:, None])[self._where]
        weights = _measured_weights(self._look, self._measurements, self._drawn)
        return np.concatenate([weights, activity, self._changes.means()], axis=1)


def _places(y: Tensor) -> Tensor | None:
    """Where each unit lies in a row of `unit_rows`; None where that is its own index."""
    if not channels_last(y):
        return None
    n = y[0].numel()
    order = unit_row(torch.arange(n, device=y.device).reshape(y.shape[1:]), like=y)
    return torch.empty_like(order).scatter_(0, order, torch.arange(n, device=y.device)).cpu()


def _measured_weights(
    look: _Look, measurements: Sequence[MeasurementSpec], drawn: Drawn
) -> np.ndarray:
    """The 21 weight statistics under each measurement."""
    weight = look.weighted.weight.detach()
    row = weight.reshape(1, -1).cpu()
    deviation = standard_deviation(row)
    cells = [drawn.cell(m, row.numel(), deviation, shown=False) for m in measurements]
    found: dict[Cell, np.ndarray] = {c: weight_statistics(weight) for c in set(cells) if c.plain}
    noisy = [cell for cell in dict.fromkeys(cells) if not cell.plain]
    reader = TensorReader(f"{look.layer.name}, weights", row.numel(), noisy, drawn)
    for group, statistics in reader.read(row, None, record_noise(drawn), 0):
        found |= {noisy[k]: one[0] for k, one in zip(group, statistics, strict=True)}
    return np.array([found[cell] for cell in cells])
