"""The plan of a study: what each kind of network costs, and all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from goaldriven.planning.counting import StepCost, Work, count_network
from goaldriven.planning.facts import TaskFacts, task_facts
from goaldriven.planning.gpus import SECONDS_PER_OPERATION, UTILISATION, Gpu, Precision
from goaldriven.specs import STATISTICS, NetworkSpec

RECORD_BATCH = 512
"""Stimuli per batch of a record, as in `goaldriven.training`."""
PAIRS = 100
_NUMBER, _DOUBLE = 4, 8  # bytes
_FILE = 60_000
"""Bytes of a trajectory file besides its numbers: names, attributes, HDF5's own tables."""
_CONTEXT = 500e6
"""Bytes that a process takes on a GPU before it holds a number: an assumption."""


@dataclass(frozen=True)
class NetworkCost:
    """What one kind of network costs: those that differ in seeds alone are of one kind.

    Attributes
    ----------
    networks : how many there are.
    training, recording : the whole work of one network, a multiply-add being two FLOPs.
    memory : bytes on the device: weights, gradients, momenta, activations, gradients of records.
    trajectory_bytes, checkpoint_bytes : on disk, of one network; checkpoints if they are kept.
    facts_from : ``data`` or ``table``: where the number of stimuli is from.
    """

    task: str
    architecture: str
    rule: str
    batch_size: int
    networks: int
    epochs: int
    passes_per_epoch: int
    stimuli: int
    facts_from: str
    parameters: int
    training: Work
    recording: Work
    memory: float
    trajectory_bytes: float
    checkpoint_bytes: float

    @property
    def flops(self) -> float:
        """Of one network, training and records."""
        return self.training.flops + self.recording.flops

    def seconds(self, gpu: Gpu, precision: Precision, utilisation: float | None = None) -> float:
        """Of one network alone on a GPU: products at the share of the peak, or starting operations.

        t = max(FLOPs / (utilisation · peak), operations · 10 µs), each for training and records.
        """
        rate = (utilisation or UTILISATION[precision]) * gpu.peak(precision)
        return self.seconds_at(rate)

    def seconds_at(self, rate: float) -> float:
        """The same at so many FLOP/s."""
        return sum(
            max(work.flops / rate, work.operations * SECONDS_PER_OPERATION)
            for work in (self.training, self.recording)
        )


@dataclass(frozen=True)
class StudyPlan:
    """All kinds of networks of a study."""

    study: str
    costs: tuple[NetworkCost, ...]

    @property
    def networks(self) -> int:
        return sum(cost.networks for cost in self.costs)

    @property
    def epochs(self) -> int:
        return sum(cost.networks * cost.epochs for cost in self.costs)

    @property
    def flops(self) -> float:
        return sum(cost.networks * cost.flops for cost in self.costs)

    @property
    def trajectory_bytes(self) -> float:
        return sum(cost.networks * cost.trajectory_bytes for cost in self.costs)

    @property
    def checkpoint_bytes(self) -> float:
        return sum(cost.networks * cost.checkpoint_bytes for cost in self.costs)

    @property
    def memory(self) -> float:
        """Of the network that takes most."""
        return max(cost.memory for cost in self.costs)

    def hours(self, gpu: Gpu, precision: Precision, utilisation: float | None = None) -> float:
        """GPU-hours of all networks, one after another on one GPU.

        Those that share a GPU can take less where starting operations is what takes the time.
        """
        return sum(c.networks * c.seconds(gpu, precision, utilisation) for c in self.costs) / 3600


def plan_study(name: str, networks: Sequence[NetworkSpec]) -> StudyPlan:
    """What it takes to train networks; an estimate, from their steps without data.

    Counted are matrix products and convolutions of the steps (whatever the rule adds among them)
    and records: per record two forward passes, one for observables and one for the objective, and a
    forward and backward pass for the gradient (a second backward pass where a rule reroutes
    errors) over the validation stimuli, and the features of the stimuli that a readout is fitted
    on. Not counted: elementwise work, augmentation, loading, measurements.

    Raises
    ------
    DataError : the size of a task's data is not known.
    SpecError : a rule cannot be attached to an architecture.
    """
    kinds = Counter(n.model_copy(update={"model_seed": 0, "data_seed": 0}) for n in networks)
    return StudyPlan(name, tuple(_cost(network, count) for network, count in kinds.items()))


def _cost(network: NetworkSpec, count: int) -> NetworkCost:
    facts = task_facts(network.task)
    step = count_network(network.architecture, network.rule, facts, network.batch_size)
    records = len(network.record_epochs)
    delay = getattr(network.rule.credit, "delay_epochs", 0)
    steps_per_pass = facts.n_train // network.batch_size
    passes = network.epochs * step.passes_per_epoch
    aligning = min(delay, passes)
    return NetworkCost(
        task=network.task.name,
        architecture=network.architecture.name,
        rule=network.rule.name,
        batch_size=network.batch_size,
        networks=count,
        epochs=network.epochs,
        passes_per_epoch=step.passes_per_epoch,
        stimuli=facts.n_train,
        facts_from=facts.source,
        parameters=step.parameters,
        training=step.aligning.times(aligning * steps_per_pass)
        + step.step.times((passes - aligning) * steps_per_pass),
        recording=_record(step, facts).times(records),
        memory=_memory(step, facts),
        trajectory_bytes=_trajectory_bytes(step, records),
        checkpoint_bytes=records
        * _NUMBER
        * (step.parameters + step.buffers + step.backward_weights),
    )


def _record(step: StepCost, facts: TaskFacts) -> Work:
    """One record; a gradient is F forwards and G − F backwards, walked twice where rerouted."""
    forwards = 2.0 * facts.n_validation + facts.n_readout
    backward = Work(
        step.gradient.flops - facts.views * step.forward.flops,
        max(step.gradient.operations - step.forward.operations, 0.0),
    )
    batches = -(-facts.n_validation // RECORD_BATCH)
    forward_batches = 2 * batches + -(-facts.n_readout // RECORD_BATCH)
    again = backward if step.reroutes else Work()
    return Work(
        forwards * step.forward.flops + facts.n_validation * (step.gradient.flops + again.flops),
        forward_batches * step.forward.operations
        + batches * (step.gradient.operations + again.operations),
    )


def _memory(step: StepCost, facts: TaskFacts) -> float:
    """Bytes: weights, gradients, optimizers; activations of a step, or of a record's gradient."""
    standing = 2 * step.parameters + step.backward_weights + step.buffers + step.optimizer_values
    at_record = min(RECORD_BATCH, facts.n_validation) * step.gradient.kept
    recorder = step.parameters * (_NUMBER + 2 * _DOUBLE)  # kernels, true and pseudogradients
    activations = max(step.step.kept, step.aligning.kept, at_record)
    return _CONTEXT + _NUMBER * standing + recorder + activations


def _trajectory_bytes(step: StepCost, records: int) -> float:
    per_layer = len(STATISTICS) * _DOUBLE + 4 * _DOUBLE
    if step.backward_weights:
        per_layer += 2 * PAIRS * _NUMBER
    return _FILE + records * (step.layers * per_layer + 3 * _DOUBLE)
