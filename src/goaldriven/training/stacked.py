"""The training loop of a stack: several networks at once, a trajectory of each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import xarray as xr

from goaldriven import tasks
from goaldriven.specs import NetworkSpec
from goaldriven.training.network import Network, build
from goaldriven.training.record import Record, Recorder
from goaldriven.training.stack import Build, Stack
from goaldriven.training.trajectory import assemble

Progress = Callable[[NetworkSpec], None]
"""Called with a network after each of its epochs."""

OnRecord = Callable[[int, Network], None]
"""Called with (epoch, network) after every record; it must leave the network as it is."""

Finished = Callable[[NetworkSpec, xr.Dataset], None]
"""Called with a network and its trajectory as it ends: those that diverge end first."""


@dataclass
class _Member:
    """One network of the stack while it trains."""

    network: Network
    recorder: Recorder
    records: dict[int, Record] = field(default_factory=dict)
    recording_seconds: float = 0.0
    training_loss: float = math.nan
    over: bool = False


def train_stack(
    specs: Sequence[NetworkSpec],
    *,
    device: str = "cpu",
    finished: Finished,
    progress: Progress | None = None,
    on_record: OnRecord | None = None,
    build: Build | None = None,
) -> None:
    """Train networks together that share all but rule and seeds; see `Stack`.

    What `goaldriven.training.train` returns of each is given to ``finished``: the same trajectory,
    up to rounding (batched kernels may add up in another order). A network that diverges ends
    there, with the records up to then, and the others go on. In the attributes ``seconds`` is the
    network's share of the stack's time, its own recording apart.

    Parameters
    ----------
    specs : what to train.
    device : a torch device.
    build : makes one network; None for `goaldriven.training.build`, with one task for all.

    Raises
    ------
    SpecError : the networks do not go together.
    DataError : the task's data cannot be used.
    """
    started = time.perf_counter()
    stack = Stack(specs, build or builder(specs[0], device))
    members = [_Member(network, Recorder(network)) for network in stack.networks]
    recording = 0.0

    def end(member: _Member, outcome: str) -> None:
        member.over = True
        shared = time.perf_counter() - started - recording
        trajectory = assemble(
            member.network,
            member.records,
            outcome=outcome,
            seconds=shared / len(members) + member.recording_seconds,
            recording_seconds=member.recording_seconds,
        )
        finished(member.network.spec, trajectory)

    for epoch in range(specs[0].epochs + 1):
        if epoch > 0:
            losses = stack.train_epoch(epoch - 1)
            for member, loss in zip(members, losses, strict=True):
                member.training_loss = loss
                if not member.over and not math.isfinite(loss):
                    end(member, "diverged")
        for member in [m for m in members if not m.over]:
            if epoch % specs[0].record_every == 0:
                recording += _record(member, epoch, on_record)
                if not math.isfinite(member.records[epoch].loss):
                    end(member, "diverged")
                    continue
            if progress is not None and epoch > 0:
                progress(member.network.spec)
        if all(member.over for member in members):
            return
    for member in [m for m in members if not m.over]:
        end(member, "trained")


def builder(spec: NetworkSpec, device: str) -> Build:
    """`goaldriven.training.build` with one task for all networks of a stack."""
    task = tasks.load(spec.task, device=device)
    return lambda one: build(one, device, task=task)


def _record(member: _Member, epoch: int, on_record: OnRecord | None) -> float:
    """Record one network; the seconds that took."""
    before = time.perf_counter()
    member.records[epoch] = member.recorder.measure(member.training_loss)
    if on_record is not None:
        on_record(epoch, member.network)
    seconds = time.perf_counter() - before
    member.recording_seconds += seconds
    return seconds
