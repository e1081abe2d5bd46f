"""Tasks: `load` turns a specification into a data stream with its objective."""

from goaldriven.tasks.base import Batch, Evaluation, Task
from goaldriven.tasks.load import LOADERS, load

__all__ = ["LOADERS", "Batch", "Evaluation", "Task", "load"]
