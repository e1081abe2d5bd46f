"""The activity change of one layer under many measurement conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from goaldriven.observables import draws
from goaldriven.observables.chains import Chain
from goaldriven.observables.change import Weighted
from goaldriven.observables.measured_change import (
    FeedbackChange,
    Subset,
    TrueChange,
    row_sum_deviations,
)
from goaldriven.observables.measured_tensor import Drawn, Noise
from goaldriven.specs.measurement import MeasurementSpec


class _Read(NamedTuple):
    """Which inputs and outputs are read: the first of the permutations of ``units`` and the next
    seed, or all (None); and through which weights."""

    units: int | None
    n_inputs: int
    n_outputs: int
    through_feedback: bool


@dataclass(frozen=True)
class _Cell:
    """What a condition comes to for the activity change."""

    read: _Read
    noise: Noise | None
    stimuli: tuple[int, ...] | None


class _Noisy(NamedTuple):
    """Conditions that share ε and ξ, and what these are multiplied by, [conditions, 1]."""

    cells: list[int]
    noise: Noise
    scale: np.ndarray
    own: np.ndarray
    shared: np.ndarray


def _noisy(cells: Sequence[_Cell]) -> list[_Noisy]:
    alike: dict[tuple[int, bool], list[tuple[int, _Read, Noise]]] = {}
    for k, cell in enumerate(cells):
        if cell.noise is not None:
            key = (cell.noise.seed, cell.noise.kind == "constant")
            alike.setdefault(key, []).append((k, cell.read, cell.noise))
    found = []
    for members in alike.values():
        factors = [
            (e.sigma / r.n_outputs, ((1 - e.rho) * r.n_inputs) ** 0.5, e.rho**0.5 * r.n_inputs)
            for _, r, e in members
        ]
        scale, own, shared = np.array(factors).T[..., None]
        found.append(_Noisy([k for k, _, _ in members], members[0][2], scale, own, shared))
    return found


class ChangeConditions:
    """Takes the activity change while the layer runs; keeps sums only.

    Parameters
    ----------
    name, module, chain : the layer, and what lies between its weights and its output.
    a : reference stimuli's input to the layer [stimuli, *input shape]; for its shape, and for the
        standard deviations that noise is relative to.
    output_shape : of the layer's output, without the batch axis.
    """

    def __init__(
        self,
        name: str,
        module: Weighted,
        chain: Chain,
        a: Tensor,
        output_shape: Sequence[int],
        measurements: Sequence[MeasurementSpec],
        drawn: Drawn,
    ) -> None:
        self._name, self._drawn = name, drawn
        shapes = (tuple(a.shape[1:]), tuple(output_shape))
        n_units = (int(np.prod(shapes[0])), int(np.prod(shapes[1])))
        reads = [_read(m, n_units, drawn) for m in measurements]
        self._reads = sorted(dict.fromkeys(reads), key=lambda r: r.through_feedback)
        subsets = [_subset(read, shapes, a.device) for read in self._reads]
        n_true = sum(not read.through_feedback for read in self._reads)
        self._true = TrueChange(module, chain, shapes[0], subsets[:n_true])
        self._feedback = FeedbackChange(module, chain, subsets[n_true:])
        relative = {r for r, m in zip(reads, measurements, strict=True) if m.relative_noise}
        deviations: dict[_Read, float] = {}
        for through, part in ((False, slice(n_true)), (True, slice(n_true, None))):
            wanted = [(r, s) for r, s in zip(self._reads[part], subsets[part], strict=True)
                      if r in relative]  # fmt: skip
            if wanted:
                found = row_sum_deviations(
                    module, chain, a, [s for _, s in wanted], through_feedback=through
                )
                deviations |= dict(zip([r for r, _ in wanted], found, strict=True))
        cells = [
            _Cell(read, drawn.noise(m, deviations.get(read, 0.0)), drawn.stimuli(m))
            for read, m in zip(reads, measurements, strict=True)
        ]
        self._cells = list(dict.fromkeys(cells))
        places = {cell: k for k, cell in enumerate(self._cells)}
        self._where = [places[cell] for cell in cells]
        rows = {read: k for k, read in enumerate(self._reads)}
        self._rows = np.array([rows[cell.read] for cell in self._cells])
        self._whole = [
            k for k, cell in enumerate(self._cells)
            if cell.read.units is None and not cell.read.through_feedback
        ]  # fmt: skip
        self._noisy = _noisy(self._cells)
        self._shown: dict[tuple[int, ...] | None, list[int]] = {}
        for k, cell in enumerate(self._cells):
            self._shown.setdefault(cell.stimuli, []).append(k)
        self._sums, self._counts = np.zeros((len(self._cells), 3)), np.zeros(len(self._cells))
        self._of_feedback: Tensor | None = None

    def on_weighted(self, a: Tensor, z: Tensor) -> None:
        """Take what depends on z or on the layer's own backward pass."""
        self._true.on_weighted(z)
        self._of_feedback = self._feedback.on_weighted(a)

    def on_output(
        self, y: Tensor, start: int, undefined: np.ndarray, whole: np.ndarray | None
    ) -> None:
        """Add up g, |g| and g² of the stimuli from ``start``.

        ``undefined`` says where the activity is, and the derivative with it; ``whole`` is g of all
        units, without feedback, if it is known already.
        """
        parts = [self._true.on_output(y), self._of_feedback]
        g = torch.cat([part for part in parts if part is not None]).cpu().numpy()
        values = g[self._rows]
        if whole is not None:
            values[self._whole] = whole
        for cells, noise, scale, own, shared in self._noisy:
            epsilon, xi = self._draw(noise, start, len(y))
            values[cells] += scale * (own * epsilon + shared * xi)
        values[:, undefined] = np.nan
        for stimuli, cells in self._shown.items():
            here = values[cells]
            if stimuli is not None:
                shown = [s - start for s in stimuli if start <= s < start + len(y)]
                here = np.ascontiguousarray(here[:, shown])
            with np.errstate(all="ignore"):
                sums = [here.sum(axis=1), np.abs(here).sum(axis=1), np.square(here).sum(axis=1)]
                self._sums[cells] += np.stack(sums, axis=1)
            self._counts[cells] += here.shape[1]

    def _draw(self, noise: Noise, start: int, count: int) -> np.ndarray:
        """ε and ξ of each stimulus, [2, stimuli]."""
        purpose = self._drawn.purpose(f"{self._name}, change", noise)
        if noise.kind == "constant":
            return np.tile(draws.vector(purpose, 2)[:, None], count).astype(float)
        return draws.normals(purpose, start, start + count, 2).T.astype(float)

    def means(self) -> np.ndarray:
        """g, |g| and g² averaged over stimuli under each measurement, [measurement, 3]."""
        return (self._sums / self._counts[:, None])[self._where]


def _read(spec: MeasurementSpec, n_units: tuple[int, int], drawn: Drawn) -> _Read:
    n_inputs, n_outputs = spec.units_of(n_units[0]), spec.units_of(n_units[1])
    units = None if (n_inputs, n_outputs) == n_units else drawn.units_seed(spec)
    return _Read(units, n_inputs, n_outputs, spec.through_feedback)


def _subset(
    read: _Read, shapes: tuple[tuple[int, ...], tuple[int, ...]], device: torch.device
) -> Subset:
    """The indicators of the units read; outputs are drawn with the next seed."""
    if read.units is None:
        return Subset(None, None, read.n_inputs, read.n_outputs)
    indicators = []
    for seed, shape, m in (
        (read.units, shapes[0], read.n_inputs),
        (read.units + 1, shapes[1], read.n_outputs),
    ):
        n = int(np.prod(shape))
        indicator = torch.zeros(n, dtype=torch.bool)
        indicator[torch.from_numpy(draws.permutation(seed, n, m))] = True
        indicators.append(indicator.reshape(shape).to(device))
    return Subset(indicators[0], indicators[1], read.n_inputs, read.n_outputs)
