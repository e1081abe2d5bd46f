"""Which learning rule made this? Classifiers of rules from trajectories of observables."""

from __future__ import annotations

import sys
import types
from typing import Any

from goaldriven.identify.classifiers import CLASSIFIERS, DEFAULT_CLASSIFIERS, GRIDS, Classifier
from goaldriven.identify.features import VIEWS, Layout, features, layout_of
from goaldriven.identify.identification import OBSERVABLES, identify
from goaldriven.identify.open_verdicts import verdicts
from goaldriven.identify.results import Fitted, Identification
from goaldriven.identify.splits import SPLITTERS, Split, by_layer, by_network
from goaldriven.identify.store import load

__all__ = [
    "CLASSIFIERS",
    "DEFAULT_CLASSIFIERS",
    "GRIDS",
    "OBSERVABLES",
    "SPLITTERS",
    "VIEWS",
    "Classifier",
    "Fitted",
    "Identification",
    "Layout",
    "Split",
    "by_layer",
    "by_network",
    "features",
    "identify",
    "layout_of",
    "load",
    "verdicts",
]


class _CallablePackage(types.ModuleType):
    """Python binds ``goaldriven.identify`` to this package once it is imported; calling it then
    does what the function of that name does."""

    def __call__(self, *args: Any, **kwargs: Any) -> Identification:
        return identify(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
