"""What one fit of an experiment is: a classifier, trained on some examples, tested on others."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from goaldriven.identify.splits import Split

Scalar = str | int | float

WHOLE = "same"
"""The name of the only test where a classifier is tested on what it was trained on (elsewhere)."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One classifier, one split, one condition.

    Attributes
    ----------
    condition : what varies in the experiment, by name: the condition columns of its table.
    classifier : a key of `goaldriven.identify.CLASSIFIERS`.
    train : examples; the classifier is given those of ``split.train``, every statistic they have,
        and their coordinate ``rule`` as the answer.
    split : of the examples.
    number : of the split, from 0.
    tests : by name, examples along the same axis as ``train``, of which those of ``split.test``
        are tested; None for ``train`` itself.
    views : what is made of a trajectory, a key of `goaldriven.identify.VIEWS`; None for the grid's
        own, and for the values alone where there is a single record.
    probes : what else is asked of the fitted classifier, keys of `probes.PROBES`.
    """

    condition: Mapping[str, Scalar]
    classifier: str
    train: xr.Dataset
    split: Split
    number: int
    tests: Mapping[str, xr.Dataset] | None = None
    views: str | None = None
    probes: tuple[str, ...] = field(default=())

    @property
    def tested(self) -> Mapping[str, xr.Dataset]:
        return {WHOLE: self.train} if self.tests is None else self.tests

    @property
    def label(self) -> str:
        """For progress bars."""
        levels = ", ".join(str(v).replace("_", " ") for v in self.condition.values())
        return f"{levels}, {self.classifier.replace('_', ' ')}, split {self.number + 1}"

    def seed(self, seed: int) -> int:
        """Of folds and classifier: by the split alone, so that equal fits are equal everywhere."""
        keys = [seed, self.number, zlib.crc32(self.split.kind.encode())]
        return int(np.random.SeedSequence(keys).generate_state(1)[0] >> 1)
