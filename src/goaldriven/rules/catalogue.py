"""Learning rules ready to be attached: credit assignment and optimizer under one name."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from pydantic import ValidationError
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from goaldriven.errors import SpecError
from goaldriven.layers import LayerInfo
from goaldriven.rules.attachable import biases, kernels, refuse_attached, supported_layers
from goaldriven.rules.base import CreditAssignment
from goaldriven.rules.direct_feedback import DirectFeedbackAlignment
from goaldriven.rules.feedback_alignment import FeedbackAlignment
from goaldriven.rules.layerwise_alignment import AlignmentLoss, LayerwiseAlignment
from goaldriven.rules.learned_feedback import LearnedFeedback
from goaldriven.rules.node_perturbation import NodePerturbation
from goaldriven.rules.optimizers import build_optimizer, gate_weight_decay, learning_rate_at
from goaldriven.rules.perturbation import WeightPerturbation
from goaldriven.rules.perturbation_passes import noise_source
from goaldriven.rules.sign_symmetry import (
    BatchwiseRandomSignSymmetry,
    FixedRandomSignSymmetry,
    UniformSignSymmetry,
)
from goaldriven.specs import credit as specs
from goaldriven.specs.base import explain
from goaldriven.specs.optimizers import SGDM, Adam
from goaldriven.specs.rule import RuleSpec
from goaldriven.specs.rules import expand_rule

# A number that nobody seeds PyTorch's global generator with before making a model: equal seeds make
# equal streams, and B correlated with W. (The fractional part of the golden ratio, in 62 bits.)
_DEFAULT_SEED = 0x278DDE6E5FD29F05


@dataclass(frozen=True)
class _Attachment:
    """What `LearningRule.attach` was given."""

    model: nn.Module
    layers: Sequence[LayerInfo | str] | None
    generator: torch.Generator
    noise_generator: torch.Generator | None
    batch_size: int | None
    optimizer: SGDM | Adam
    group: distributed.ProcessGroup | None


def _backprop(spec: specs.Backprop, to: _Attachment) -> CreditAssignment:
    refuse_attached(to.model)
    return CreditAssignment(to.model)


def _feedback_alignment(spec: specs.FeedbackAlignment, to: _Attachment) -> CreditAssignment:
    return FeedbackAlignment(to.model, to.layers, to.generator)


def _direct_feedback(spec: specs.DirectFeedbackAlignment, to: _Attachment) -> CreditAssignment:
    return DirectFeedbackAlignment(to.model, to.layers, to.generator, spec)


def _uniform_signs(spec: specs.UniformSignSymmetry, to: _Attachment) -> CreditAssignment:
    return UniformSignSymmetry(to.model, to.layers, to.generator, spec)


def _redrawn_signs(spec: specs.BatchwiseRandomSignSymmetry, to: _Attachment) -> CreditAssignment:
    return BatchwiseRandomSignSymmetry(to.model, to.layers, to.generator, spec)


def _fixed_signs(spec: specs.FixedRandomSignSymmetry, to: _Attachment) -> CreditAssignment:
    return FixedRandomSignSymmetry(to.model, to.layers, to.generator, spec)


_SETTINGS = {field.name for field in fields(AlignmentLoss)} - {"weights"}


def _layerwise_alignment(
    spec: specs.Alignment, to: _Attachment, shares_rate: bool = False
) -> CreditAssignment:
    own = {name: getattr(spec, name) for name in _SETTINGS & type(spec).model_fields.keys()}
    loss = AlignmentLoss(weights=spec.primitive_weights, shares_rate=shares_rate, **own)
    return LayerwiseAlignment(
        to.model, to.layers, to.generator, to.noise_generator, loss, to.batch_size, to.group
    )


def _kolen_pollack(spec: specs.KolenPollack, to: _Attachment) -> CreditAssignment:
    """Backward weights get the forward weights' decay and optimizer where they have no own."""
    forward = to.optimizer
    quiet = {"weight_decay": 0.0, "decay_biases": False, "update_noise": 0.0}
    optimizer = spec.optimizer or forward.model_copy(update=quiet)
    decay = forward.weight_decay if spec.decay is None else spec.decay
    complete = spec.model_copy(update={"decay": decay, "optimizer": optimizer})
    return _layerwise_alignment(complete, to, shares_rate=spec.optimizer is None)


def _weight_perturbation(spec: specs.WeightPerturbation, to: _Attachment) -> CreditAssignment:
    if to.layers is not None:
        raise SpecError(
            "'layers' and 'unsupported' must be left out with weight_perturbation, which perturbs "
            "all parameters that learn, of modules of any kind (freeze those that must not learn)"
        )
    noise = noise_source(to.noise_generator, to.generator)
    return WeightPerturbation(to.model, spec, noise, to.group)


def _node_perturbation(spec: specs.NodePerturbation, to: _Attachment) -> CreditAssignment:
    noise = noise_source(to.noise_generator, to.generator)
    return NodePerturbation(to.model, to.layers, spec, noise, to.group)


def _learned_feedback(spec: specs.LearnedFeedback, to: _Attachment) -> CreditAssignment:
    return LearnedFeedback(
        to.model, to.layers, to.generator, to.noise_generator, spec, to.batch_size, to.group
    )


CREDIT_ASSIGNMENTS: dict[type, Callable[[Any, _Attachment], CreditAssignment]] = {
    specs.Backprop: _backprop,
    specs.FeedbackAlignment: _feedback_alignment,
    specs.DirectFeedbackAlignment: _direct_feedback,
    specs.UniformSignSymmetry: _uniform_signs,
    specs.BatchwiseRandomSignSymmetry: _redrawn_signs,
    specs.FixedRandomSignSymmetry: _fixed_signs,
    specs.WeightMirror: _layerwise_alignment,
    specs.InformationAlignment: _layerwise_alignment,
    specs.SymmetricAlignment: _layerwise_alignment,
    specs.ActivationAlignment: _layerwise_alignment,
    specs.LayerwiseAlignment: _layerwise_alignment,
    specs.KolenPollack: _kolen_pollack,
    specs.WeightPerturbation: _weight_perturbation,
    specs.NodePerturbation: _node_perturbation,
    specs.LearnedFeedback: _learned_feedback,
}


@dataclass(frozen=True)
class LearningRule:
    """A learning rule made from its specification."""

    spec: RuleSpec

    def attach(
        self,
        model: nn.Module,
        layers: Sequence[LayerInfo | str] | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        noise_generator: torch.Generator | None = None,
        unsupported: Literal["refuse", "backprop"] = "refuse",
        group: distributed.ProcessGroup | None = None,
    ) -> CreditAssignment:
        """Attach the rule's credit assignment to any model of Linear, Conv1d and Conv2d layers.

        Nothing of the model is replaced: parameters, names, classes and ``state_dict`` stay. A
        model wrapped in `DistributedDataParallel` keeps the same backward weights on every rank.

        Parameters
        ----------
        layers : the layers that get backward weights, the others keeping exact backprop. By default
            all; ``model.layers``, if a sequence of `LayerInfo`, then tells which are rectified.
        generator : draws the backward weights, in the order of the layers (default: a new one of a
            fixed seed). Not one of the seed that drew the forward weights: the draws would be
            correlated.
        batch_size : stimuli per step; scales the learning rate of the backward weights where their
            optimizer has a ``reference_batch_size``.
        noise_generator : draws the noise of alignment losses, of noisy updates of the backward
            weights and of perturbation rules (default: seeded by ``generator``).
        unsupported : what becomes of modules with weights of another kind (attention, recurrent
            cells, …): refused, or left on exact backprop with all that is in them (under node
            perturbation, perturbed by themselves).

        group : the ranks that train the model together, where it is not wrapped in
            `DistributedDataParallel`: whoever calls averages the gradients over them after
            `CreditAssignment.backward`. They do what one process would on the joined batch.

        Raises
        ------
        SpecError : the model has weights that cannot have backward weights, or has some already.
        """
        if generator is None:
            generator = torch.Generator().manual_seed(_DEFAULT_SEED)
        model, wrapped_for = _unwrapped(model)
        group = wrapped_for if group is None else group
        if group is None:
            _warn_alone()
        else:
            generator = _shared(generator, group)
            if noise_generator is not None:
                noise_generator = _shared(noise_generator, group)
        if layers is None and unsupported == "backprop":
            layers = supported_layers(model)
        attachment = _Attachment(
            model, layers, generator, noise_generator, batch_size, self.spec.optimizer, group
        )
        credit = CREDIT_ASSIGNMENTS[type(self.spec.credit)](self.spec.credit, attachment)
        _ATTACHED[model] = credit
        return credit

    def optimizer(
        self,
        model: nn.Module,
        batch_size: int | None = None,
        noise_generator: torch.Generator | None = None,
    ) -> Optimizer:
        """PyTorch's optimizer of the forward parameters.

        Weight decay acts on kernels (weights of Linear and convolutional layers), on these layers'
        biases where the optimizer says ``decay_biases``, and not on normalisation. It is part of
        the task's loss: on steps that align alone it is 0. The rule's schedule is followed by the
        time that `CreditAssignment.set_progress` is told.

        Parameters
        ----------
        batch_size : stimuli per step; the learning rate is multiplied by it over
            ``reference_batch_size`` where the optimizer has one.
        noise_generator : draws the noise of noisy updates (default: a new one of a fixed seed).

        Raises
        ------
        SpecError : the model has no parameters.
        """
        spec = self.spec.optimizer
        model, _ = _unwrapped(model)
        parameters = list(model.parameters())
        if not parameters:
            raise SpecError("model must have parameters, got none")
        groups: list[dict[str, Any]] = [{"params": parameters}]
        if spec.weight_decay > 0:
            decayed = {id(kernel) for kernel in kernels(model)}
            if spec.decay_biases:
                decayed |= {id(bias) for bias in biases(model)}
            groups = [
                {"params": [p for p in parameters if id(p) in decayed]},
                {"params": [p for p in parameters if id(p) not in decayed]},
            ]
            groups[0]["weight_decay"] = spec.weight_decay
        noise = noise_generator or torch.Generator().manual_seed(_DEFAULT_SEED + 1)
        optimizer = build_optimizer(spec, [g for g in groups if g["params"]], batch_size, noise)
        if spec.weight_decay > 0 and _pauses_task(self.spec.credit):
            gate_weight_decay(optimizer, lambda: _task_rate(model))
        _follow(spec, model, optimizer, batch_size)
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


# Models that have been attached to, with the handle of the last time.
_ATTACHED: WeakKeyDictionary[nn.Module, CreditAssignment] = WeakKeyDictionary()


def _follow(
    spec: SGDM | Adam, model: nn.Module, optimizer: Optimizer, batch_size: int | None
) -> None:
    """Tie an optimizer to the credit assignment of its model: the rate's schedule, and its time."""
    schedule = spec.schedule
    timed = bool(schedule.warmup_epochs or schedule.drop_epochs)
    of_model = weakref.ref(model)

    def before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        model = of_model()
        credit = None if model is None else _ATTACHED.get(model)
        if credit is None:
            return
        credit.follow(optimizer)
        if timed:
            rate = learning_rate_at(spec, credit.task_epoch, batch_size)
            for group in optimizer.param_groups:
                group["lr"] = rate

    optimizer.register_step_pre_hook(before_step)


def _unwrapped(model: nn.Module) -> tuple[nn.Module, distributed.ProcessGroup | None]:
    """The model inside torch.compile and DistributedDataParallel, and its ranks."""
    inner = getattr(model, "_orig_mod", model)
    if isinstance(inner, DistributedDataParallel):
        return getattr(inner.module, "_orig_mod", inner.module), inner.process_group
    return inner, None


def _warn_alone() -> None:
    """Say so where several ranks run and none of the others is told."""
    if distributed.is_available() and distributed.is_initialized():
        ranks = distributed.get_world_size()
        if ranks > 1:
            warnings.warn(
                f"{ranks} ranks run, and the model is not wrapped in DistributedDataParallel: its "
                "backward weights are this rank's own. Wrap it first to share them.",
                stacklevel=3,
            )


def _shared(generator: torch.Generator, group: distributed.ProcessGroup) -> torch.Generator:
    """A copy of the first rank's generator, on all ranks."""
    state = generator.get_state()
    sent = state.cuda() if distributed.get_backend(group) == "nccl" else state
    distributed.broadcast(sent, group_src=0, group=group)
    copy = torch.Generator(generator.device)
    copy.set_state(sent.cpu())
    return copy


def _pauses_task(credit: object) -> bool:
    """Whether some steps align the backward weights alone."""
    return bool(getattr(credit, "alternating", False) or getattr(credit, "delay_epochs", 0))


def _task_rate(model: nn.Module) -> float:
    credit = _ATTACHED.get(model)
    return 1.0 if credit is None else credit.task_rate
