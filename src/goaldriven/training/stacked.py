"""The training loop of a stack: several networks at once, a trajectory of each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import xarray as xr

from goaldriven import tasks
from goaldriven.specs import NetworkSpec
from goaldriven.specs.runtime import DEFAULT, RuntimeOptions
from goaldriven.specs.stacking import check_stackable
from goaldriven.training.network import Network, build
from goaldriven.training.numerics import products
from goaldriven.training.record import Recorder
from goaldriven.training.resume import Checkpoints, Standing
from goaldriven.training.stack import Build, Stack, check_together
from goaldriven.training.stack_states import begin
from goaldriven.training.trajectory import assemble

Progress = Callable[[NetworkSpec], None]
"""Called with a network after each of its epochs."""

OnRecord = Callable[[int, Network], None]
"""Called with (epoch, network) after every record; it must leave the network as it is."""

Finished = Callable[[NetworkSpec, xr.Dataset], None]
"""Called with a network and its trajectory as it ends: those that diverge end first."""


class _Member:
    """One network of the stack while it trains.

    ``seconds_before``: of training, before the stack began or went on.
    """

    def __init__(self, network: Network, recorder: Recorder, standing: Standing) -> None:
        self.network, self.recorder = network, recorder
        self.records = dict(standing.records)
        self.training_loss = standing.training_loss
        self.recording_seconds = standing.recording_seconds
        self.seconds_before = standing.seconds - standing.recording_seconds
        self.over = False


def train_stack(
    specs: Sequence[NetworkSpec],
    *,
    device: str = "cpu",
    finished: Finished,
    progress: Progress | None = None,
    on_record: OnRecord | None = None,
    build: Build | None = None,
    runtime: RuntimeOptions = DEFAULT,
    checkpoints: Mapping[NetworkSpec, Checkpoints] | None = None,
    saved: Callable[[], None] | None = None,
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
    runtime : float32 or TF32, as in single training; see `specs.stacking.check_stackable`.
    checkpoints : of each network, where it goes on from and leaves more, as if it trained by
        itself. They are made of all networks at once, and gone on from at the latest epoch of which
        all have one; the same networks in a stack then end with the bits of never interrupted.
    saved : called after checkpoints of all networks were written.

    Raises
    ------
    SpecError : the networks do not go together, or stacks have no such options.
    DataError : the task's data cannot be used.
    StudyError : a checkpoint cannot be written.
    """
    check_together(specs)
    check_stackable(runtime)
    started, own = time.perf_counter(), checkpoints or {}
    make = build or builder(specs[0], device, runtime)
    with products(runtime):
        begun = begin(specs, own, make)
        course = _Course(begun, make, started, finished, progress, on_record, own, saved)
        course.go_on(begun[0][2].epoch + 1)


class _Course:
    """The course of a stack's training."""

    def __init__(
        self,
        begun: Sequence[tuple[Network, Recorder, Standing]],
        build: Build,
        started: float,
        finished: Finished,
        progress: Progress | None,
        on_record: OnRecord | None,
        checkpoints: Mapping[NetworkSpec, Checkpoints],
        saved: Callable[[], None] | None,
    ) -> None:
        self.members = [_Member(*one) for one in begun]
        self.stack = Stack([member.network for member in self.members], build)
        self.started, self.recording = started, 0.0
        self.finished, self.progress, self.on_record = finished, progress, on_record
        self.checkpoints, self.saved = checkpoints, saved

    @property
    def left(self) -> list[_Member]:
        return [member for member in self.members if not member.over]

    def go_on(self, first: int) -> None:
        """Train to the end, from epoch ``first`` on."""
        spec = self.members[0].network.spec
        for _ in range(1, first):
            self.tell()
        for epoch in range(first, spec.epochs + 1):
            if epoch > 0:
                self.train(epoch)
            if epoch % spec.record_every == 0:
                self.record(epoch)
            if not self.left:
                return
            if epoch > 0:
                self.tell()
            if 0 < epoch < spec.epochs:
                self.save(epoch)
        for member in self.left:
            self.end(member, "trained")

    def train(self, epoch: int) -> None:
        losses = self.stack.train_epoch(epoch - 1)
        for member, loss in zip(self.members, losses, strict=True):
            member.training_loss = loss
            if not member.over and not math.isfinite(loss):
                self.end(member, "diverged")

    def record(self, epoch: int) -> None:
        for member in self.left:
            before = time.perf_counter()
            with products(DEFAULT):
                record = member.records[epoch] = member.recorder.measure(member.training_loss)
                if self.on_record is not None:
                    self.on_record(epoch, member.network)
            seconds = time.perf_counter() - before
            member.recording_seconds += seconds
            self.recording += seconds
            if not math.isfinite(record.loss):
                self.end(member, "diverged")

    def tell(self) -> None:
        if self.progress is not None:
            for member in self.left:
                self.progress(member.network.spec)

    def save(self, epoch: int) -> None:
        """Checkpoints of all that are left, where one of them is due."""
        kept = [(m, self.checkpoints.get(m.network.spec)) for m in self.left]
        if not any(checkpoints is not None and checkpoints.due(epoch) for _, checkpoints in kept):
            return
        for member, checkpoints in kept:
            if checkpoints is not None:
                standing, state = self.standing(member, epoch), self.stack.state_of(member.network)
                checkpoints.save(member.network, member.recorder, standing, state)
        if self.saved is not None:
            self.saved()

    def standing(self, member: _Member, epoch: int) -> Standing:
        share = (time.perf_counter() - self.started - self.recording) / len(self.members)
        return Standing(
            epoch,
            member.training_loss,
            member.records,
            member.seconds_before + share + member.recording_seconds,
            member.recording_seconds,
        )

    def end(self, member: _Member, outcome: str) -> None:
        member.over = True
        standing = self.standing(member, member.network.spec.epochs)
        trajectory = assemble(
            member.network,
            member.records,
            outcome=outcome,
            seconds=standing.seconds,
            recording_seconds=standing.recording_seconds,
        )
        self.finished(member.network.spec, trajectory)


def builder(spec: NetworkSpec, device: str, runtime: RuntimeOptions = DEFAULT) -> Build:
    """`goaldriven.training.build` with one task for all networks of a stack."""
    task = tasks.load(spec.task, device=device)
    return lambda one: build(one, device, runtime, task=task)
