"""Architectures: `build` turns a specification into a network with named, observable layers."""

from goaldriven.architectures.build import BUILDERS, build
from goaldriven.architectures.initializers import Initializer, Normal, TruncatedNormal
from goaldriven.architectures.network import Network
from goaldriven.architectures.published import Loaded, load_published

__all__ = [
    "BUILDERS",
    "Initializer",
    "Loaded",
    "Network",
    "Normal",
    "TruncatedNormal",
    "build",
    "load_published",
]
