"""Learning rules ready to be attached: credit assignment and optimizer under one name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import Optimizer

from goaldriven.errors import SpecError
from goaldriven.layers import LayerInfo
from goaldriven.rules.attachable import kernels
from goaldriven.rules.base import CreditAssignment
from goaldriven.rules.feedback import feedback_of
from goaldriven.rules.feedback_alignment import FeedbackAlignment
from goaldriven.rules.information_alignment import InformationAlignment
from goaldriven.rules.optimizers import build_optimizer, gate_weight_decay
from goaldriven.specs import rules as specs
from goaldriven.specs.base import explain
from goaldriven.specs.rules import RuleSpec, expand_rule

# A number that nobody seeds PyTorch's global generator with before making a model: equal seeds make
# equal streams, and B correlated with W. (The fractional part of the golden ratio, in 62 bits.)
_DEFAULT_SEED = 0x278DDE6E5FD29F05


@dataclass(frozen=True)
class _Attachment:
    """What `LearningRule.attach` was given."""

    model: nn.Module
    layers: Sequence[LayerInfo] | None
    generator: torch.Generator
    noise_generator: torch.Generator | None
    batch_size: int | None


def _backprop(spec: specs.Backprop, to: _Attachment) -> CreditAssignment:
    attached = [n for n, m in to.model.named_modules() if feedback_of(m) is not None]
    if attached:
        raise SpecError(
            f"model must have no backward weights yet, got a layer {attached[0]!r} that has; "
            "remove() the earlier credit assignment first"
        )
    return CreditAssignment(to.model)


def _feedback_alignment(spec: specs.FeedbackAlignment, to: _Attachment) -> CreditAssignment:
    return FeedbackAlignment(to.model, to.layers, to.generator)


def _information_alignment(spec: specs.InformationAlignment, to: _Attachment) -> CreditAssignment:
    return InformationAlignment(
        to.model, to.layers, to.generator, to.noise_generator, spec, to.batch_size
    )


CREDIT_ASSIGNMENTS: dict[type, Callable[[Any, _Attachment], CreditAssignment]] = {
    specs.Backprop: _backprop,
    specs.FeedbackAlignment: _feedback_alignment,
    specs.InformationAlignment: _information_alignment,
}


@dataclass(frozen=True)
class LearningRule:
    """A learning rule made from its specification."""

    spec: RuleSpec

    def attach(
        self,
        model: nn.Module,
        layers: Sequence[LayerInfo] | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        noise_generator: torch.Generator | None = None,
    ) -> CreditAssignment:
        """Attach the rule's credit assignment to any model of Linear, Conv1d and Conv2d layers.

        Nothing of the model is replaced: parameters, names, classes and ``state_dict`` stay.

        Parameters
        ----------
        layers : the layers that get backward weights, the others keeping exact backprop. By default
            all; ``model.layers``, if a sequence of `LayerInfo`, then tells which are rectified.
        generator : draws the backward weights, in the order of the layers (default: a new one of a
            fixed seed). Not one of the seed that drew the forward weights: the draws would be
            correlated.
        batch_size : stimuli per step; scales the learning rate of the backward weights where their
            optimizer has a ``reference_batch_size``.
        noise_generator : draws input noise in alignment losses (default: seeded by ``generator``).

        Raises
        ------
        SpecError : the model has weights that cannot have backward weights, or has some already.
        """
        if generator is None:
            generator = torch.Generator().manual_seed(_DEFAULT_SEED)
        attachment = _Attachment(model, layers, generator, noise_generator, batch_size)
        return CREDIT_ASSIGNMENTS[type(self.spec.credit)](self.spec.credit, attachment)

    def optimizer(self, model: nn.Module, batch_size: int | None = None) -> Optimizer:
        """PyTorch's optimizer of the forward parameters.

        Weight decay acts on kernels (weights of Linear and convolutional layers), not on biases or
        normalisation. It is part of the task's loss: on steps that align alone it is 0.

        Parameters
        ----------
        batch_size : stimuli per step; the learning rate is multiplied by it over
            ``reference_batch_size`` where the optimizer has one.

        Raises
        ------
        SpecError : the model has no parameters.
        """
        spec = self.spec.optimizer
        parameters = list(model.parameters())
        if not parameters:
            raise SpecError("model must have parameters, got none")
        groups: list[dict[str, Any]] = [{"params": parameters}]
        if spec.weight_decay > 0:
            decayed = {id(kernel) for kernel in kernels(model)}
            groups = [
                {"params": [p for p in parameters if id(p) in decayed]},
                {"params": [p for p in parameters if id(p) not in decayed]},
            ]
            groups[0]["weight_decay"] = spec.weight_decay
        optimizer = build_optimizer(spec, [g for g in groups if g["params"]], batch_size)
        if spec.weight_decay > 0 and _pauses_task(self.spec.credit):
            gate_weight_decay(optimizer, lambda: _task_rate(model))
        return optimizer


def make(name: str, **changes: Any) -> LearningRule:
    """The rule of that name with changes laid over it.

    >>> rule = make("ia", optimizer={"learning_rate": 0.02})
    >>> rule.spec.credit.name, rule.spec.optimizer.learning_rate
    ('information_alignment', 0.02)

    Raises
    ------
    SpecError : an unknown name or setting.
    """
    try:
        spec = RuleSpec.model_validate(expand_rule({"name": name, **changes}))
    except ValidationError as error:
        raise SpecError(explain(error, RuleSpec)) from None
    except ValueError as error:
        raise SpecError(str(error)) from None
    return LearningRule(spec)


def _pauses_task(credit: object) -> bool:
    """Whether some steps align the backward weights alone."""
    if not isinstance(credit, specs.InformationAlignment):
        return False
    return credit.alternating or credit.delay_epochs > 0


def _task_rate(model: nn.Module) -> float:
    hooks = (feedback_of(module) for module in model.modules())
    return next((hook.switch.task_rate for hook in hooks if hook is not None), 1.0)
