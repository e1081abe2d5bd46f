"""Classifiers with all their settings: what cross-validation chooses among."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from goaldriven.identify.conv1d import Conv1D
from goaldriven.identify.features import N_POSITIONS, Layout
from goaldriven.identify.rocket import RandomKernels
from goaldriven.identify.scaling import FirstAxes, PrincipalAxes, Ranks, ZScore
from goaldriven.identify.transformer import EpochTransformer

Scaling = Literal["none", "zscore", "ranks"]
Matrix = NDArray[np.float64]

_SCALERS = {"none": (), "zscore": (ZScore,), "ranks": (Ranks,)}


class Candidate(Protocol):
    """Settings that a classifier can be built from."""

    def pipeline(self, layout: Layout, seed: int) -> Pipeline:
        """An unfitted classifier of rows of features in this layout."""

    def trial(self) -> Candidate:
        """What stands for this candidate while candidates are compared; itself, or cheaper."""


def describe(candidate: Candidate) -> str:
    """The settings as JSON."""
    return json.dumps(asdict(candidate), sort_keys=True)  # type: ignore[call-overload]


def _scaler(scaling: Scaling) -> list[tuple[str, object]]:
    return [("scale", scaler()) for scaler in _SCALERS[scaling]]


@dataclass(frozen=True)
class Forest:
    """A random forest.

    Attributes
    ----------
    max_features : features tried at each node: ``"sqrt"``, ``"log2"`` or None (all).
    trial_estimators : trees while candidates are compared; None for ``n_estimators``.
    """

    n_estimators: int
    max_features: str | None
    trial_estimators: int | None = None

    def pipeline(self, layout: Layout, seed: int) -> Pipeline:
        forest = RandomForestClassifier(
            self.n_estimators, max_features=self.max_features, random_state=seed
        )
        return Pipeline([("classify", forest)])

    def trial(self) -> Forest:
        return replace(self, n_estimators=self.trial_estimators or self.n_estimators)


@dataclass(frozen=True)
class Linear:
    """A linear classifier with an L2 penalty: squared-hinge SVM (one-vs-rest) or softmax.

    Attributes
    ----------
    C : inverse of the penalty's weight.
    n_components : principal components kept of the trajectories; None for no PCA.
    tolerance : at which the solver stops; scikit-learn's default is 1e-4.
    """

    kind: Literal["svm", "logistic"]
    C: float
    n_components: int | None = None
    scaling: Scaling = "zscore"
    tolerance: float = 1e-4

    def pipeline(self, layout: Layout, seed: int) -> Pipeline:
        if self.kind == "svm":
            head = LinearSVC(C=self.C, tol=self.tolerance, random_state=seed)
        else:
            head = LogisticRegression(C=self.C, tol=self.tolerance, max_iter=1000)
        axes = [("axes", PrincipalAxes()), ("keep", FirstAxes(self.n_components))]
        return Pipeline([*_scaler(self.scaling), *axes, ("classify", head)])

    def trial(self) -> Linear:
        return self


@dataclass(frozen=True)
class Gaussian:
    """A support vector machine with a Gaussian kernel, exp(−γ‖x − x'‖²), one-vs-one.

    Attributes
    ----------
    C : inverse of the penalty's weight.
    gamma : γ times the number of features.
    """

    C: float
    gamma: float
    scaling: Scaling = "zscore"

    def pipeline(self, layout: Layout, seed: int) -> Pipeline:
        # Distances are the same along all principal axes, of which there are far fewer.
        head = SVC(C=self.C, gamma=self.gamma / layout.n_features, break_ties=True)
        return Pipeline([*_scaler(self.scaling), ("axes", PrincipalAxes()), ("classify", head)])

    def trial(self) -> Gaussian:
        return self


@dataclass(frozen=True)
class Convolution:
    """The Conv1D MLP; see `goaldriven.identify.conv1d.Conv1D`.

    ``trial_epochs`` is for while candidates are compared; None for ``epochs``.
    """

    kernel_share: float
    stride: int
    filters: int
    pooling: str | None
    learning_rate: float
    batch_size: int
    weight_decay: float
    epochs: int = 400
    scaling: Scaling = "zscore"
    trial_epochs: int | None = None

    def pipeline(self, layout: Layout, seed: int) -> Pipeline:
        settings = asdict(self)
        del settings["scaling"], settings["trial_epochs"]
        network = Conv1D(len(layout.epochs), seed=seed, **settings)
        return Pipeline([*_scaler(self.scaling), ("classify", network)])

    def trial(self) -> Convolution:
        return replace(self, epochs=self.trial_epochs or self.epochs)


@dataclass(frozen=True)
class Boosted:
    """Gradient-boosted trees on histograms, without early stopping.

    Attributes
    ----------
    learning_rate, iterations, leaves : one tree of at most ``leaves`` leaves per rule in each
        iteration.
    max_features : share of the features tried at each node.
    bins : values that a feature is rounded to.
    trial_iterations : iterations while candidates are compared; None for ``iterations``.
    """

    learning_rate: float
    iterations: int
    leaves: int
    max_features: float = 1.0
    bins: int = 255
    trial_iterations: int | None = None

    def pipeline(self, layout: Layout, seed: int) -> Pipeline:
        trees = HistGradientBoostingClassifier(
            learning_rate=self.learning_rate, max_iter=self.iterations,
            max_leaf_nodes=self.leaves, max_features=self.max_features, max_bins=self.bins,
            early_stopping=False, random_state=seed,
        )  # fmt: skip
        return Pipeline([("classify", trees)])

    def trial(self) -> Boosted:
        return replace(self, iterations=self.trial_iterations or self.iterations)


@dataclass(frozen=True)
class Kernels:
    """ROCKET: random kernels (`goaldriven.identify.rocket.RandomKernels`), a ridge readout.

    ``alpha`` is the weight of the penalty on the readout of standardised features.
    """

    n_kernels: int
    alpha: float
    scaling: Scaling = "zscore"

    def pipeline(self, layout: Layout, seed: int) -> Pipeline:
        kernels = RandomKernels(len(layout.epochs), self.n_kernels, seed)
        found = [("kernels", kernels), ("standardise", StandardScaler())]
        head = RidgeClassifier(self.alpha)
        return Pipeline([*_scaler(self.scaling), *found, ("classify", head)])

    def trial(self) -> Kernels:
        return self


@dataclass(frozen=True)
class Attention:
    """The transformer; see `goaldriven.identify.transformer.EpochTransformer`.

    ``trial_epochs`` is for while candidates are compared; None for ``epochs``.
    """

    width: int
    heads: int
    layers: int
    hidden: int
    dropout: float
    learning_rate: float
    epochs: int
    batch_size: int = 64
    weight_decay: float = 1e-2
    scaling: Scaling = "zscore"
    trial_epochs: int | None = None

    def pipeline(self, layout: Layout, seed: int) -> Pipeline:
        settings = asdict(self)
        del settings["scaling"], settings["trial_epochs"]
        network = EpochTransformer(len(layout.epochs), seed=seed, **settings)
        return Pipeline([*_scaler(self.scaling), ("classify", network)])

    def trial(self) -> Attention:
        return replace(self, epochs=self.trial_epochs or self.epochs)


def without_axes(pipeline: Pipeline) -> Pipeline:
    """The same classifier with its linear readout expressed in scaled features.

    A linear readout w on principal axes A with mean μ is the readout wA with the intercept
    lowered by wAμ. The stored axes, by far the largest part, are then not needed.
    """
    if not hasattr(pipeline.named_steps["classify"], "coef_") or "axes" not in pipeline.named_steps:
        return pipeline
    axes, keep = pipeline.named_steps["axes"], pipeline.named_steps["keep"]
    head = pipeline.named_steps["classify"]
    position, weights = head.coef_[:, :N_POSITIONS], head.coef_[:, N_POSITIONS:]
    continuous = weights @ axes.axes_[: keep.n_kept_]
    head.coef_ = np.hstack([position, continuous])
    head.intercept_ = head.intercept_ - continuous @ axes.mean_
    head.n_features_in_ = head.coef_.shape[1]
    return Pipeline([step for step in pipeline.steps if step[0] not in ("axes", "keep")])


def probabilities(pipeline: Pipeline, x: Matrix) -> Matrix:
    """Each example's score per class, in the order of ``pipeline.classes_``; rows sum to 1.

    Where the classifier gives no probabilities, its one-vs-rest decision values go through the
    logistic function and are divided by their sum. Source: lr-identify ``fit_pipeline.py``.
    """
    if hasattr(pipeline, "predict_proba"):
        return np.asarray(pipeline.predict_proba(x))
    decision = pipeline.decision_function(x)
    if decision.ndim == 1:  # two classes: one decision value, for the second
        decision = np.stack([-decision, decision], axis=1)
    # expit(d) without overflow; a row of all but zero scores still has a largest one.
    squashed = np.exp(-np.logaddexp(0, -decision))
    squashed = np.maximum(squashed, np.finfo(float).tiny)
    return squashed / squashed.sum(axis=1, keepdims=True)
