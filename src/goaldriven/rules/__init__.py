"""Learning rules for any PyTorch model: how error reaches a layer, and what a weight makes of it.

A rule is a credit assignment and an optimizer. Attach it, and train with a loop of your own:

>>> import torch
>>> from goaldriven import rules
>>> _ = torch.manual_seed(0)
>>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
>>> x = torch.randn(64, 4)
>>> y = (x[:, 0] > 0).long()
>>> rule = rules.make("fa", optimizer={"learning_rate": 0.01})
>>> credit = rule.attach(model, generator=torch.Generator().manual_seed(1))
>>> optimizer = rule.optimizer(model, batch_size=64)
>>> for step in range(100):
...     credit.set_progress(passes=step)
...     optimizer.zero_grad(set_to_none=True)
...     loss = credit.backward(lambda: torch.nn.functional.cross_entropy(model(x), y))
...     optimizer.step()
...     credit.step()
>>> bool((model(x).argmax(1) == y).float().mean() > 0.9)
True
>>> sorted(credit.alignment_diagnostics())  # layer → angle between W and B, norm ratio
['0', '2']
>>> credit.remove()

`rules.RULES` lists the named rules' specifications; `rules.theory` has the analytic results.
"""

import importlib
from typing import Any

from goaldriven.rules.base import CreditAssignment, angle_and_ratio
from goaldriven.rules.catalogue import CREDIT_ASSIGNMENTS, LearningRule, make
from goaldriven.rules.feedback import detach
from goaldriven.rules.feedback_alignment import FeedbackAlignment
from goaldriven.rules.layerwise_alignment import LayerwiseAlignment
from goaldriven.rules.optimizers import learning_rate_at
from goaldriven.specs.primitives import PRIMITIVE_INFOS
from goaldriven.specs.rules import RULES

__all__ = [
    "CREDIT_ASSIGNMENTS",
    "PRIMITIVE_INFOS",
    "RULES",
    "CreditAssignment",
    "FeedbackAlignment",
    "LayerwiseAlignment",
    "LearningRule",
    "angle_and_ratio",
    "detach",
    "learning_rate_at",
    "make",
    "theory",
]


def __getattr__(name: str) -> Any:
    if name == "theory":  # loads SciPy and xarray, which training needs not
        return importlib.import_module("goaldriven.rules.theory")
    raise AttributeError(f"module 'goaldriven.rules' has no attribute {name!r}")
