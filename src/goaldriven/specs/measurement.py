"""One measurement: which units are read, over how many stimuli, with how much noise of which kind;
and grids of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from goaldriven.specs.base import RootSpec, Spec

NoiseKind = Literal["independent", "shared", "constant"]
Fraction = Annotated[float, Field(gt=0, le=1)]
Correlation = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[NonNegativeInt, Field(le=2**32 - 3)]  # units and stimuli are drawn with seed + 2

DEFAULT_CORRELATION = 0.5
ROUNDING = 1e-9
"""0.07 · 100 is a little more than 7 in floating point; it is meant to be 7."""


class MeasurementSpec(RootSpec):
    """What an experimenter would have read of a layer's tensors: some units, with noise.

    The tensors are the forward weights (all entries of the kernel), the activations (all units,
    whatever the stimulus) and, for the activity change, the derivative r_i = Σ_j ∂y_j/∂a_i of the
    outputs read with respect to each input. Noise is added to the tensor, then units are chosen,
    then f ∈ {z, |z|, z²} is applied, then the statistic taken. Units are the first ⌈fraction · n⌉
    (or ``unit_count``) entries of a permutation of the n units that ``seed`` fixes; those of the
    activity change are drawn with ``seed`` among the inputs and ``seed + 1`` among the outputs, and
    its sum is divided by the number of outputs read. Noise on the outputs does not change the
    derivative. Source: Nayebi et al. 2020, section 6; lr-identify ``functions.py``. Counts,
    relative, shared and constant noise, and stimuli are additions.

    Attributes
    ----------
    unit_fraction, unit_count : units read, as a share of each tensor's or as a number (all, where a
        layer has fewer); at most one of the two, all units without either.
    noise : standard deviation σ of the noise, in the tensor's own units.
    relative_noise : σ in units of the standard deviation of the tensor, per layer and epoch: of all
        entries for weights, of all units and the first 64 stimuli for activations and for the r_i
        of the outputs read. At most one of ``noise`` and ``relative_noise``.
    noise_kind : ``independent``: drawn anew for each element, stimulus and record. ``shared``:
        likewise, but σ(√(1−ρ) ε_u + √ρ ξ) with one ξ for all units of the tensor, so that the noise
        of two units has correlation ρ. ``constant``: drawn once for each unit, the same for every
        stimulus and through learning (where it is relative, its scale follows the tensor's).
    correlation : ρ of shared noise, 0.5 unless given.
    stimulus_count : stimuli shown, chosen with ``seed`` and the same through learning; all, where
        the validation set has fewer.
    own_units : every network has units of its own drawn, as animals would; otherwise the same
        units are read of every network that has a layer of that size, as published.
    through_feedback : take the activity change through the layers' backward pass, and so through
        the backward weights, as published, in place of the forward weights.
    seed : of units, stimuli and noise.

    Raises
    ------
    SpecError : naming the field, what was given and what is allowed.

    Examples
    --------
    >>> MeasurementSpec(unit_count=300, relative_noise=0.1).label
    '300 units, noise 0.1 s.d., seed 0'
    """

    unit_fraction: Fraction | None = None
    unit_count: PositiveInt | None = None
    noise: NonNegativeFloat = 0.0
    relative_noise: NonNegativeFloat = 0.0
    noise_kind: NoiseKind = "independent"
    correlation: Correlation | None = None
    stimulus_count: PositiveInt | None = None
    own_units: bool = False
    through_feedback: bool = False
    seed: Seed = 0

    @model_validator(mode="after")
    def _consistent(self) -> MeasurementSpec:
        _refuse_both(self.unit_fraction is not None, self.unit_count is not None)
        if self.noise and self.relative_noise:
            raise ValueError(
                "noise and relative_noise must not both be above 0, got "
                f"{self.noise:g} and {self.relative_noise:g}"
            )
        if self.correlation is not None and self.noise_kind != "shared":
            raise ValueError(
                "correlation must be given with noise_kind 'shared' only, got "
                f"{self.correlation:g} with {self.noise_kind!r}"
            )
        return self

    @property
    def all_units(self) -> bool:
        return self.unit_count is None and self.unit_fraction in (None, 1.0)

    @property
    def noisy(self) -> bool:
        return self.noise > 0 or self.relative_noise > 0

    @property
    def rho(self) -> float:
        """Correlation of the noise of two units."""
        if self.noise_kind != "shared":
            return 0.0
        return DEFAULT_CORRELATION if self.correlation is None else self.correlation

    def units_of(self, n: int) -> int:
        """How many of n units are read.

        >>> MeasurementSpec(unit_fraction=0.07).units_of(100), MeasurementSpec().units_of(9)
        (7, 9)
        """
        if self.unit_count is not None:
            return min(self.unit_count, n)
        if self.unit_fraction is None:
            return n
        return min(n, max(1, math.ceil(self.unit_fraction * n - ROUNDING)))

    def canonical(self) -> dict[str, Any]:
        """What tells this measurement from others: settings that have no effect are left out."""
        fields: dict[str, Any] = {}
        if self.unit_count is not None:
            fields["unit_count"] = self.unit_count
        elif not self.all_units:
            fields["unit_fraction"] = self.unit_fraction
        if self.own_units and not self.all_units:
            fields["own_units"] = True
        if self.noisy:
            name = "noise" if self.noise else "relative_noise"
            fields |= {name: getattr(self, name), "noise_kind": self.noise_kind}
            if self.noise_kind == "shared":
                fields["correlation"] = self.rho
        if self.stimulus_count is not None:
            fields["stimulus_count"] = self.stimulus_count
        if fields:
            fields["seed"] = self.seed
        if self.through_feedback:
            fields["through_feedback"] = True
        return fields

    @cached_property
    def measurement_id(self) -> str:
        """First 12 hex digits of the SHA-256 of `canonical` as JSON."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:12]

    def canonical_json(self) -> str:
        return json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))

    @property
    def label(self) -> str:
        """For people: ``10% of units, noise 0.1, seed 0``."""
        parts = ["all units"]
        if self.unit_count is not None:
            parts = [f"{self.unit_count} units"]
        elif not self.all_units:
            parts = [f"{100 * (self.unit_fraction or 0):.10g}% of units"]
        if self.own_units and not self.all_units:
            parts[0] += " of its own"
        if self.noisy:
            kind = {
                "independent": "",
                "shared": f"shared ({self.rho:.10g}) ",
                "constant": "constant ",
            }[self.noise_kind]
            size = f"{self.noise:.10g}" if self.noise else f"{self.relative_noise:.10g} s.d."
            parts.append(f"{kind}noise {size}")
        if self.stimulus_count is not None:
            parts.append(f"{self.stimulus_count} stimuli")
        if self.through_feedback:
            parts.append("change through feedback")
        if "seed" in self.canonical():
            parts.append(f"seed {self.seed}")
        return ", ".join(parts)


def _refuse_both(fraction: bool, count: bool) -> None:
    if fraction and count:
        raise ValueError("unit_fraction and unit_count must not both be given, got both")


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


_Choices = (BeforeValidator(_listed), Field(min_length=1))


class MeasurementGrid(Spec):
    """Every combination of the choices for each setting of `MeasurementSpec`.

    A single value stands for a list of one. ``correlation`` varies shared noise only.
    """

    unit_fraction: Annotated[tuple[Fraction | None, ...], *_Choices] = (None,)
    unit_count: Annotated[tuple[PositiveInt | None, ...], *_Choices] = (None,)
    noise: Annotated[tuple[NonNegativeFloat, ...], *_Choices] = (0.0,)
    relative_noise: Annotated[tuple[NonNegativeFloat, ...], *_Choices] = (0.0,)
    noise_kind: Annotated[tuple[NoiseKind, ...], *_Choices] = ("independent",)
    correlation: Annotated[tuple[Correlation | None, ...], *_Choices] = (None,)
    stimulus_count: Annotated[tuple[PositiveInt | None, ...], *_Choices] = (None,)
    own_units: Annotated[tuple[bool, ...], *_Choices] = (False,)
    through_feedback: Annotated[tuple[bool, ...], *_Choices] = (False,)
    seed: Annotated[tuple[Seed, ...], *_Choices] = (0,)

    @model_validator(mode="after")
    def _consistent(self) -> MeasurementGrid:
        _refuse_both(any(self.unit_fraction), any(self.unit_count))
        if any(self.noise) and any(self.relative_noise):
            raise ValueError(
                "noise and relative_noise must not both be above 0 in one grid, got "
                f"{list(self.noise)} and {list(self.relative_noise)}"
            )
        if any(self.correlation) and "shared" not in self.noise_kind:
            raise ValueError(
                "correlation must be given with noise_kind 'shared' only, got "
                f"{list(self.correlation)} with {list(self.noise_kind)}"
            )
        return self

    def expand(self) -> tuple[MeasurementSpec, ...]:
        """Every combination, the last settings varying fastest."""
        names = list(type(self).model_fields)
        combined = itertools.product(*(getattr(self, name) for name in names))
        specs = []
        for values in combined:
            fields = dict(zip(names, values, strict=True))
            if fields["noise_kind"] != "shared":
                fields["correlation"] = None
            specs.append(MeasurementSpec(**fields))
        return unique(specs)


class MeasurementSet(RootSpec):
    """Measurements to be made together, written as a list of grids.

    Examples
    --------
    >>> grids = MeasurementSet(name="mine", measurements=[{}, {"unit_count": [10, 100],
    ...                                                        "noise": [0, 0.1], "seed": [0, 1]}])
    >>> len(grids.specs())
    9
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    measurements: Annotated[tuple[MeasurementGrid, ...], Field(min_length=1)]

    def specs(self) -> tuple[MeasurementSpec, ...]:
        """All measurements, each once: seeds of what has nothing random in it count as one."""
        return unique(spec for grid in self.measurements for spec in grid.expand())


def unique(specs: Iterable[MeasurementSpec]) -> tuple[MeasurementSpec, ...]:
    """The first of all specs that are the same measurement, in their order."""
    first: dict[str, MeasurementSpec] = {}
    for spec in specs:
        first.setdefault(spec.measurement_id, spec)
    return tuple(first.values())


PUBLISHED_FRACTIONS: dict[float, int] = {
    3e-5: 6, 2.08e-4: 4, 1e-3: 4, 0.01: 3, 0.1: 2, 0.25: 2, 0.5: 2, 0.75: 2, 1.0: 2,
}  # fmt: skip
"""Unit fraction → number of seeds of the published design (thesis section 6.3.9). The three
fractions below 1 % are not in the text: 3·10⁻³ % and 2.08·10⁻² % are quoted in the paper's section
6, 0.1 % is our choice; that the numbers of seeds go with the fractions in order is inferred."""

PUBLISHED_NOISE: tuple[float, ...] = (0.0, 0.01, 0.1, 1.0, 10.0)
"""Five σ of which the least is 0, as published; the other four are lost and these our choice."""


def published_design() -> tuple[MeasurementSpec, ...]:
    """The published grid of unit fractions × noise × seeds; see `PUBLISHED_FRACTIONS`.

    >>> len(published_design())  # 27 fractions and seeds × 5, less a seed of all units, no noise
    134
    """
    grids = [
        MeasurementGrid(unit_fraction=(fraction,), noise=PUBLISHED_NOISE, seed=tuple(range(seeds)))
        for fraction, seeds in PUBLISHED_FRACTIONS.items()
    ]
    return unique(spec for grid in grids for spec in grid.expand())
