"""The training loop: epochs of (pseudo)gradient steps, with a record every few epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

import torch
import xarray as xr

from goaldriven.specs import NetworkSpec
from goaldriven.training.network import Network, build
from goaldriven.training.record import Record, Recorder
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
    """
    started = time.perf_counter()
    network = build(spec, device)
    recorder = Recorder(network)
    records: dict[int, Record] = {}
    recording_seconds = 0.0
    training_loss = math.nan
    outcome = "trained"
    for epoch in range(spec.epochs + 1):
        if epoch > 0:
            training_loss = train_epoch(network, epoch - 1)
            if not math.isfinite(training_loss):
                outcome = "diverged"
                break
        if epoch % spec.record_every == 0:
            before = time.perf_counter()
            records[epoch] = recorder.measure(training_loss)
            if on_record is not None:
                on_record(epoch, network)
            recording_seconds += time.perf_counter() - before
            if not math.isfinite(records[epoch].loss):
                outcome = "diverged"
                break
        if progress is not None and epoch > 0:
            progress(epoch, spec.epochs)
    return assemble(
        network,
        records,
        outcome=outcome,
        seconds=time.perf_counter() - started,
        recording_seconds=recording_seconds,
    )


def train_epoch(network: Network, epoch: int) -> float:
    """One epoch of steps; returns the mean training loss (a single device synchronisation)."""
    spec, credit, optimizer = network.spec, network.credit, network.optimizer
    steps_per_pass = network.task.n_train // spec.batch_size
    total = torch.zeros((), device=next(network.model.parameters()).device)
    network.model.train()
    step = 0
    passes = credit.passes_per_epoch
    for _ in range(passes):
        for batch in network.task.train_batches(spec.batch_size, network.data_generator):
            credit.set_progress(epoch * passes + step / steps_per_pass)
            optimizer.zero_grad(set_to_none=True)
            objective = network.task.losses if credit.per_stimulus else network.task.loss
            total += credit.backward(partial(objective, network.model, batch))
            optimizer.step()
            credit.step()
            step += 1
    return float(total) / step
