"""The 21 statistics of a tensor under many measurement conditions, from one look at it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from goaldriven.observables import draws
from goaldriven.observables.statistics import activation_statistics
from goaldriven.specs.measurement import MeasurementSpec, NoiseKind

AT_ONCE = 1 << 20
"""Values whose statistics are taken in one go: enough that the call's own cost does not show."""

_kept = threading.local()

KEPT = 1 << 22
"""Values chosen, and noises, held at a time."""


@dataclass(frozen=True)
class Noise:
    """σ(√(1−ρ) ε_u + √ρ ξ); ``seed`` says which ε and ξ."""

    sigma: float
    kind: NoiseKind
    rho: float
    seed: int


@dataclass(frozen=True)
class Cell:
    """What a condition comes to for one tensor; conditions that come to the same share it.

    ``m`` units are read: the first of the permutation of ``units``, or all (None); ``stimuli`` are
    indices into the validation set, or all (None).
    """

    m: int
    units: int | None
    noise: Noise | None
    stimuli: tuple[int, ...] | None = None

    @property
    def plain(self) -> bool:
        return self.units is None and self.noise is None and self.stimuli is None


@dataclass(frozen=True)
class Drawn:
    """Where a condition's numbers come from: the network, the record's epoch, the stimuli's number.

    ``n_stimuli`` is only asked for where stimuli are chosen.
    """

    network_id: str
    epoch: int
    n_stimuli: int

    def units_seed(self, spec: MeasurementSpec) -> int:
        """The seed whose permutation chooses the units."""
        return draws.own_seed(spec.seed, self.network_id) if spec.own_units else spec.seed

    def noise(self, spec: MeasurementSpec, deviation: float) -> Noise | None:
        """The noise on a tensor of this standard deviation."""
        sigma = spec.noise or spec.relative_noise * deviation
        return None if sigma == 0 else Noise(sigma, spec.noise_kind, spec.rho, spec.seed)

    def stimuli(self, spec: MeasurementSpec) -> tuple[int, ...] | None:
        """The stimuli shown."""
        if spec.stimulus_count is None or spec.stimulus_count >= self.n_stimuli:
            return None
        chosen = draws.chosen_stimuli(spec.seed, self.n_stimuli, spec.stimulus_count)
        return tuple(chosen.tolist())

    def cell(self, spec: MeasurementSpec, n: int, deviation: float, shown: bool) -> Cell:
        """What a condition comes to for a tensor of n units; ``shown``: it has stimuli."""
        m = spec.units_of(n)
        units = None if m == n else self.units_seed(spec)
        stimuli = self.stimuli(spec) if shown else None
        return Cell(m, units, self.noise(spec, deviation), stimuli)

    def purpose(self, what: str, noise: Noise) -> tuple[object, ...]:
        """What noise is drawn for; constant noise is the same at all epochs."""
        when = "always" if noise.kind == "constant" else self.epoch
        return (self.network_id, noise.seed, what, when)


Fresh = Callable[[str, Noise, int], np.ndarray]
"""(what, noise, units) → standard normals [rows, units] that are drawn anew for each row."""


def stimulus_noise(drawn: Drawn, start: int, stop: int) -> Fresh:
    """Noise that is drawn anew for each of the stimuli from ``start`` to before ``stop``."""
    return lambda what, noise, m: draws.normals(drawn.purpose(what, noise), start, stop, m)


def record_noise(drawn: Drawn) -> Fresh:
    """Noise that is drawn once in a record: one row."""
    return lambda what, noise, m: draws.vector(drawn.purpose(what, noise), m)[None]


class TensorReader:
    """Takes the statistics of one tensor of n units for all ``cells``.

    Parameters
    ----------
    what : names the tensor among those of the network.
    """

    def __init__(self, what: str, n: int, cells: Sequence[Cell], drawn: Drawn) -> None:
        self._what, self._n, self._cells, self._drawn = what, n, cells, drawn
        self._chosen = {
            seed: torch.from_numpy(draws.permutation(seed, n, m))
            for seed, m in _largest((c.units, c.m) for c in cells).items()
        }
        self._constant = {
            seed: draws.vector(drawn.purpose(what, noise), m)[None]
            for (seed, noise), m in _largest_noises(cells, constant=True).items()
        }
        self._fresh = _largest_noises(cells, constant=False)
        self._correlated = {c.noise.seed for c in cells if c.noise and c.noise.rho}
        self._alike: dict[tuple[int, tuple[int, ...] | None], list[int]] = {}
        for k, cell in enumerate(cells):
            self._alike.setdefault((cell.m, cell.stimuli), []).append(k)
        m_max = max((c.m for c in cells), default=1)
        self.rows_at_once = max(1, KEPT // m_max // draws.STIMULI) * draws.STIMULI

    def read(
        self, rows: Tensor, places: Tensor | None, fresh: Fresh, start: int
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """(cells, their statistics [cell, stimuli, 21]) for values [stimuli, n], from ``start`` on.

        ``places`` says where in a row the units lie, None: in their order. Cells are met once.
        """
        values: dict[int | None, Tensor] = {None: rows}
        for seed, chosen in self._chosen.items():
            where = chosen if places is None else places[chosen]
            values[seed] = rows.index_select(1, where.to(rows.device))
        noises = self._noises(rows, fresh)
        for group in self._groups(len(rows)):
            first = self._cells[group[0]]
            shown = _shown(first.stimuli, start, len(rows))
            if shown is not None and not len(shown):
                continue
            count = len(rows) if shown is None else len(shown)
            made = _kept_memory(len(group) * count * first.m, rows).view(len(group), count, first.m)
            for k, target in zip(group, made, strict=True):
                cell = self._cells[k]
                _add_noise(values[cell.units][:, : cell.m], cell, noises, shown, target)
            statistics = activation_statistics(made.flatten(0, 1))
            yield group, statistics.reshape(len(group), count, -1)

    def _groups(self, n_rows: int) -> Iterator[list[int]]:
        """Cells of equal shape, so many that their values fit in one go."""
        for members in self._alike.values():
            size = max(1, AT_ONCE // (self._cells[members[0]].m * n_rows))
            for i in range(0, len(members), size):
                yield members[i : i + size]

    def _noises(self, rows: Tensor, fresh: Fresh) -> dict[tuple[int, str], Tensor]:
        """ε [·, m] and ξ [·, 1] by the seed and the kind; one row where it serves all stimuli."""
        noises = {(seed, "constant"): e for seed, e in self._constant.items()}
        for (seed, noise), m in self._fresh.items():
            noises[seed, "own"] = fresh(self._what, noise, m)
            if seed in self._correlated:
                noises[seed, "shared"] = fresh(f"{self._what}, shared", noise, 1)
        return {key: torch.from_numpy(e).to(rows) for key, e in noises.items()}


def _kept_memory(n: int, like: Tensor) -> Tensor:
    """Memory for n values, kept by the thread: new pages cost as much as filling them."""
    memory: Tensor | None = getattr(_kept, "memory", None)
    if memory is None or len(memory) < n or (memory.dtype, memory.device) != (
        like.dtype, like.device
    ):  # fmt: skip
        memory = like.new_empty(n)
        if n <= AT_ONCE:
            _kept.memory = memory
    return memory[:n]


def _add_noise(
    values: Tensor,
    cell: Cell,
    noises: dict[tuple[int, str], Tensor],
    shown: Tensor | None,
    out: Tensor,
) -> None:
    """Write the cell's values [stimuli, m] with their noise to ``out``."""

    def of_stimuli(t: Tensor) -> Tensor:
        return t if shown is None or len(t) == 1 else t.index_select(0, shown.to(t.device))

    kept, noise = of_stimuli(values), cell.noise
    if noise is None:
        out.copy_(kept)
    elif noise.kind == "constant":
        offsets = noises[noise.seed, "constant"][:, : cell.m]
        torch.add(kept, offsets, alpha=noise.sigma, out=out)
    else:
        own = of_stimuli(noises[noise.seed, "own"][:, : cell.m])
        torch.add(kept, own, alpha=noise.sigma * (1 - noise.rho) ** 0.5, out=out)
        if noise.rho:
            shared = of_stimuli(noises[noise.seed, "shared"])
            out.add_(shared, alpha=noise.sigma * noise.rho**0.5)


def _shown(stimuli: tuple[int, ...] | None, start: int, count: int) -> Tensor | None:
    """Which of ``count`` stimuli from ``start`` are shown; None for all."""
    if stimuli is None:
        return None
    return torch.tensor([s - start for s in stimuli if start <= s < start + count])


def _largest(pairs: Iterator[tuple[int | None, int]]) -> dict[int, int]:
    largest: dict[int, int] = {}
    for key, m in pairs:
        if key is not None:
            largest[key] = max(m, largest.get(key, 0))
    return largest


def _largest_noises(cells: Sequence[Cell], constant: bool) -> dict[tuple[int, Noise], int]:
    """Seeds with a noise that has them, and the most units that need its ε."""
    wanted = [(c.noise, c.m) for c in cells if c.noise and (c.noise.kind == "constant") == constant]
    sizes = _largest((noise.seed, m) for noise, m in wanted)
    example = {noise.seed: noise for noise, _ in wanted}
    return {(seed, example[seed]): m for seed, m in sizes.items()}
