"""The training loop: epochs of (pseudo)gradient steps, with a record every few epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

import torch
import xarray as xr
from torch import Tensor

from goaldriven.errors import DataError
from goaldriven.specs import NetworkSpec
from goaldriven.specs.runtime import DEFAULT, RuntimeOptions
from goaldriven.tasks.base import Batch
from goaldriven.training.network import Network, build
from goaldriven.training.numerics import autocast, divide, laid_out, micro_batches, products
from goaldriven.training.ranks import ALONE, Ranks, train_batches
from goaldriven.training.record import Recorder
from goaldriven.training.resume import UNTRAINED, Checkpoints, Standing, refuse
from goaldriven.training.trajectory import assemble

Progress = Callable[[int, int], None]
"""Called with (epochs done, epochs in all) after every epoch."""

OnRecord = Callable[[int, Network], None]
"""Called with (epoch, network) after every record; it must leave the network as it is."""


def train(
    spec: NetworkSpec,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
    on_record: OnRecord | None = None,
    runtime: RuntimeOptions = DEFAULT,
    ranks: Ranks = ALONE,
    checkpoints: Checkpoints | None = None,
) -> xr.Dataset:
    """Train one network and return its trajectory.

    The initial network and every ``record_every``-th epoch are recorded over the validation set in
    eval mode, without augmentation. A loss that stops being finite ends the training; the records
    up to then are kept, the later ones are NaN, and the outcome is ``diverged``.

    Parameters
    ----------
    spec : what to train.
    device : a torch device, e.g. ``"cpu"`` or ``"cuda"``.
    progress : called after every epoch with the epochs done and in all.
    on_record : called after every record, to keep checkpoints or to measure more.
    runtime : precision, memory layout, compilation, micro-batches.
    ranks : the processes that train this network together, all of which call `train`. The first
        one records, calls ``progress`` and ``on_record``, and returns the trajectory; those of the
        others are empty.
    checkpoints : where training goes on from, if there is one, and where it leaves more.

    Returns
    -------
    The trajectory: ``observable(epoch, layer, statistic)``, ``loss(epoch)``, ``metric(epoch)``,
    ``training_loss(epoch)``; the alignment diagnostics ``weight_angle``, ``weight_norm_ratio``,
    ``gradient_angle`` and ``update_angle`` (epoch, layer; angles in degrees); for rules with
    backward weights a sample of them, ``forward_weight`` and ``backward_weight`` (epoch, layer,
    pair); with the spec in the attributes. See `goaldriven.trajectories.validate`.

    Raises
    ------
    DataError : the task's data cannot be used.
    SpecError : the batch does not divide among ranks and micro-batches.
    StudyError : a checkpoint cannot be written.
    """
    started = time.perf_counter()
    with products(runtime):
        network, recorder, standing = _begin(spec, device, runtime, ranks, checkpoints)
        for done in range(1, standing.epoch + 1):
            if progress is not None and ranks.first:
                progress(done, spec.epochs)
        training = _Training(network, recorder, standing, started - standing.seconds)
        outcome = training.go_on(progress, on_record, checkpoints)
    return assemble(
        network,
        training.records,
        outcome=outcome,
        seconds=time.perf_counter() - training.started,
        recording_seconds=training.recording_seconds,
    )


def _begin(
    spec: NetworkSpec,
    device: str,
    runtime: RuntimeOptions,
    ranks: Ranks,
    checkpoints: Checkpoints | None,
) -> tuple[Network, Recorder, Standing]:
    """The initial network, or the one of the latest checkpoint that can be used."""
    found = () if checkpoints is None else checkpoints.latest(spec, ranks)
    for path, state in found:
        network = build(spec, device, runtime, ranks)
        recorder = Recorder(network)
        try:
            assert checkpoints is not None  # narrows the type
            return network, recorder, checkpoints.load(path, state, network, recorder)
        except DataError as error:
            refuse(error)
    network = build(spec, device, runtime, ranks)
    return network, Recorder(network), UNTRAINED


class _Training:
    """The course of one network's training, from where it stands."""

    def __init__(
        self, network: Network, recorder: Recorder, standing: Standing, started: float
    ) -> None:
        self.network, self.recorder, self.started = network, recorder, started
        self.epoch, self.training_loss = standing.epoch, standing.training_loss
        self.records = dict(standing.records)
        self.recording_seconds = standing.recording_seconds

    def go_on(
        self,
        progress: Progress | None,
        on_record: OnRecord | None,
        checkpoints: Checkpoints | None,
    ) -> str:
        """Train to the end; returns the outcome."""
        network, spec, ranks = self.network, self.network.spec, self.network.ranks
        for epoch in range(self.epoch + 1, spec.epochs + 1):
            if epoch > 0:
                self.training_loss = train_epoch(network, epoch - 1)
                if not math.isfinite(self.training_loss):
                    return "diverged"
            self.epoch = epoch
            if epoch % spec.record_every == 0 and not ranks.told(self._finite_record(on_record)):
                return "diverged"
            if not ranks.first or epoch == 0:
                continue
            if progress is not None:
                progress(epoch, spec.epochs)
            if checkpoints is not None and epoch < spec.epochs and checkpoints.due(epoch):
                checkpoints.save(network, self.recorder, self._standing())
        return "trained"

    def _finite_record(self, on_record: OnRecord | None) -> bool:
        """Record, on the first rank; whether the loss is finite."""
        if not self.network.ranks.first:
            return True
        before = time.perf_counter()
        with products(DEFAULT):
            record = self.records[self.epoch] = self.recorder.measure(self.training_loss)
            if on_record is not None:
                on_record(self.epoch, self.network)
        self.recording_seconds += time.perf_counter() - before
        return math.isfinite(record.loss)

    def _standing(self) -> Standing:
        seconds = time.perf_counter() - self.started
        return Standing(
            self.epoch, self.training_loss, self.records, seconds, self.recording_seconds
        )


def train_epoch(network: Network, epoch: int) -> float:
    """One epoch of steps; returns the mean training loss (a single device synchronisation)."""
    spec, credit, optimizer = network.spec, network.credit, network.optimizer
    steps_per_pass = network.task.n_train // spec.batch_size
    total = torch.zeros((), device=next(network.model.parameters()).device)
    network.called.train()
    step = 0
    passes = credit.passes_per_epoch
    for _ in range(passes):
        batches = train_batches(
            network.task, spec.batch_size, network.data_generator, network.ranks
        )
        for batch in batches:
            credit.set_progress(epoch * passes + step / steps_per_pass)
            optimizer.zero_grad(set_to_none=True)
            total += backward(network, batch)
            optimizer.step()
            credit.step()
            step += 1
    network.ranks.average([total])
    return float(total) / step


def backward(network: Network, batch: Batch) -> Tensor:
    """Leave the (pseudo)gradients of one batch, of all ranks' parts, in ``.grad``.

    Returns
    -------
    The mean loss of this rank's part.
    """
    credit, options = network.credit, network.runtime
    objective = network.task.losses if credit.per_stimulus else network.task.loss
    device = batch.labels.device

    def closure(part: Batch) -> Tensor:
        with autocast(options, device):
            return objective(network.called, part)

    parts = micro_batches(laid_out(batch, options), options)
    losses = [credit.backward(partial(closure, part)) for part in parts]
    gradients = [p.grad for p in network.model.parameters() if p.grad is not None]
    divide(gradients, len(parts))
    if credit.task_rate:  # they are 0 otherwise
        network.ranks.average(gradients)
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()
