"""What an identification experiment found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from goaldriven.errors import IdentificationError
from goaldriven.identify.candidates import probabilities
from goaldriven.identify.features import Layout, features
from goaldriven.identify.open_verdicts import Calibration
from goaldriven.identify.splits import Split
from goaldriven.identify.uncertainty import corrected_sem

KEYS = ["classifier", "observables", "split_kind"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted classifier with what it was fitted on.

    Attributes
    ----------
    classifier, observables : names.
    split_kind, split : the split whose training part it was fitted on.
    parameters : the chosen settings, as JSON.
    layout : of the features it takes.
    pipeline : the scikit-learn pipeline.
    calibration : out-of-fold scores of its training networks, for `goaldriven.identify.verdicts`;
        None where the split does not keep networks whole.
    """

    classifier: str
    observables: str
    split_kind: str
    split: int
    parameters: str
    layout: Layout
    pipeline: Pipeline
    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        return f"{self.classifier}-{self.observables}-{self.split_kind}-{self.split}"

    @property
    def rules(self) -> tuple[str, ...]:
        """In the order of the columns of `probabilities`."""
        return tuple(str(rule) for rule in self.pipeline.classes_)

    def probabilities(self, examples: xr.Dataset) -> NDArray[np.float64]:
        """Score of each rule for each example, (example, rule); rows sum to 1.

        Raises
        ------
        IdentificationError : other epochs than it was fitted on, or a statistic that is missing or
            not finite.
        """
        epochs = tuple(int(e) for e in examples["epoch"].values)
        if epochs != self.layout.epochs:
            raise IdentificationError(
                f"epoch must be those of the training examples, {list(self.layout.epochs)}, "
                f"got {list(epochs)}"
            )
        x = features(examples, self.layout.statistics, self.layout.views)
        return probabilities(self.pipeline, x)


@dataclass(frozen=True, eq=False)
class Identification:
    """Results of `identify`: tidy tables, the fitted classifiers, and what was fitted on what.

    Attributes
    ----------
    accuracy : one row per classifier, observables, split_kind and split: test ``accuracy`` on
        layers, ``chance`` (see `goaldriven.identify.chance`),
        ``n_train`` and ``n_test`` examples, ``cv_accuracy`` of the chosen settings (NaN if there
        was no choice), ``parameters`` (JSON).
    network_accuracy : the same for verdicts on whole networks, under splits that keep networks
        whole: ``accuracy``, ``chance``, ``n_test`` networks.
    verdicts : one row per tested network: ``network``, ``rule``, ``verdict``, ``correct`` (0 or 1),
        ``probability`` of the verdict. The verdict is the rule with the highest mean probability
        over the network's layers.
    open_verdicts : verdicts of the classifiers kept, on the networks that their split tests, which
        may be "none of these": see `goaldriven.identify.verdicts`. ``rule`` made the network,
        ``correct`` whether the verdict says so.
    confusion : ``count`` of test examples of rule ``true`` that are called ``predicted``.
    importances : ``kind`` (gini, for forests; permutation), ``statistic`` (or layer_position),
        ``measure``, ``mean``, ``sem`` and ``n`` over trees and splits, or repeats and splits:
        the s.e.m. is their spread, not the uncertainty over networks, which they share.
    splits : every split, in the order of the tables.
    settings : what was asked for and what was used: grid, seed, statistics of each group of
        observables, rules, networks with their rule, ``examples`` (network and layer of each, in
        the order that splits index), diverged networks left out with their rule, versions.
    fitted : the classifiers kept, see `identify`.
    """

    accuracy: pd.DataFrame
    network_accuracy: pd.DataFrame
    verdicts: pd.DataFrame
    open_verdicts: pd.DataFrame
    confusion: pd.DataFrame
    importances: pd.DataFrame
    splits: tuple[Split, ...]
    settings: Mapping[str, Any]
    fitted: tuple[Fitted, ...] = ()

    def summary(self) -> pd.DataFrame:
        """Mean and standard error over splits of the accuracies.

        Columns: classifier, observables, split_kind, unit (``layer``, or ``network`` for verdicts
        on whole networks), mean, sem, chance, splits, tested (layers or networks in a split). The
        standard error over n splits is s √(1/n + tested/trained on), s the sample standard
        deviation (`goaldriven.identify.uncertainty.corrected_sem`); NaN for one split.
        """
        frames = []
        for unit, frame in (("layer", self.accuracy), ("network", self.network_accuracy)):
            rows = []
            for key, group in frame.groupby(KEYS, sort=False):
                ratio = group["n_test"].mean() / group["n_train"].mean()
                accuracy = group["accuracy"]
                rows.append(
                    dict(zip(KEYS, key, strict=True))
                    | {"unit": unit, "mean": accuracy.mean(),
                       "sem": corrected_sem(accuracy, ratio), "chance": group["chance"].mean(),
                       "splits": len(group), "tested": group["n_test"].mean()}
                )  # fmt: skip
            frames += rows
        columns = [*KEYS, "unit", "mean", "sem", "chance", "splits", "tested"]
        return pd.DataFrame(frames, columns=columns)

    def networks(self, split: Split) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The networks that a split trains on, and those that it tests."""
        names = np.array(self.settings["examples"]["network"])
        train, test = (tuple(np.unique(names[part]).tolist()) for part in (split.train, split.test))
        return train, test

    def save(self, folder: str | Path) -> None:
        """Write the tables as CSV, the classifiers as skops files and the rest as JSON.

        Raises
        ------
        StudyError : a file cannot be written; names path and reason.
        """
        from goaldriven.identify.store import save

        save(self, folder)

    def classifier(
        self, classifier: str, observables: str = "all", split_kind: str = "network", split: int = 0
    ) -> Fitted:
        """One of the fitted classifiers that were kept.

        Raises
        ------
        IdentificationError : it was not; names those that were.
        """
        wanted = (classifier, observables, split_kind, split)
        for one in self.fitted:
            if (one.classifier, one.observables, one.split_kind, one.split) == wanted:
                return one
        kept = ", ".join(one.name for one in self.fitted) or "none"
        raise IdentificationError(f"classifier must be one that was kept ({kept}), got {wanted}")
