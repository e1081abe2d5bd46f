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

    def noisy(self, g: np.ndarray, own: np.ndarray, shared: np.ndarray) -> np.ndarray:
        """g with its noise, from ε and ξ of each stimulus."""
        if self.noise is None:
            return g
        m, sigma, rho = self.read.n_inputs, self.noise.sigma / self.read.n_outputs, self.noise.rho
        return g + sigma * (((1 - rho) * m) ** 0.5 * own + rho**0.5 * m * shared)


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
        self._reads = sorted(set(reads), key=lambda r: (r.through_feedback, reads.index(r)))
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
        self._where = [self._cells.index(cell) for cell in cells]
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
        noises: dict[tuple[int, bool], np.ndarray] = {}
        for k, cell in enumerate(self._cells):
            index = self._reads.index(cell.read)
            known = whole is not None and cell.read.units is None and not cell.read.through_feedback
            one = whole if known and whole is not None else g[index]
            if cell.noise is not None:
                one = cell.noisy(one, *self._noise(cell.noise, start, len(y), noises))
            one = np.where(undefined, np.nan, one)
            if cell.stimuli is not None:
                one = one[[s - start for s in cell.stimuli if start <= s < start + len(y)]]
            with np.errstate(all="ignore"):
                self._sums[k] += [one.sum(), np.abs(one).sum(), np.square(one).sum()]
            self._counts[k] += len(one)

    def _noise(
        self, noise: Noise, start: int, count: int, known: dict[tuple[int, bool], np.ndarray]
    ) -> np.ndarray:
        """ε and ξ of each stimulus, [2, stimuli]."""
        key = (noise.seed, noise.kind == "constant")
        if key not in known:
            purpose = self._drawn.purpose(f"{self._name}, change", noise)
            if noise.kind == "constant":
                known[key] = np.tile(draws.vector(purpose, 2)[:, None], count).astype(float)
            else:
                known[key] = draws.normals(purpose, start, start + count, 2).T.astype(float)
        return known[key]

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
