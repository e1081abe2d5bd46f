"""The one training loop: a network spec in, its trajectory out."""

from goaldriven.training.loop import Progress, train
from goaldriven.training.network import Network, build

__all__ = ["Network", "Progress", "build", "train"]
