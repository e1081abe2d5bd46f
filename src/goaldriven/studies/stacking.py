"""Which of a study's networks train stacked, as one program, and how many together."""

from __future__ import annotations

import multiprocessing
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from multiprocessing.connection import Connection
from typing import Literal

from goaldriven.errors import StudyError
from goaldriven.specs import NetworkSpec
from goaldriven.specs.stacking import company, segment_key, stack_key

StackSize = int | Literal["off", "auto"]
"""Networks per stack: a number, ``auto`` for what a quick trial finds to pay, or ``off``."""

FindSize = Callable[[Sequence[NetworkSpec], str, int, int, Callable[[str], None]], int]
"""Called as `trial` is."""

Pending = deque[NetworkSpec | tuple[NetworkSpec, ...]]


def parse_stack(text: str) -> StackSize:
    """``off``, ``auto``, or a number of networks.

    Raises
    ------
    StudyError : anything else.
    """
    if text in ("off", "auto"):
        return text  # type: ignore[return-value]
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise StudyError(f"stack must be off, auto or a number of at least 1, got {text!r}")


def plan_stacks(
    networks: Sequence[NetworkSpec],
    size: StackSize,
    device: str,
    threads: int,
    jobs: int,
    say: Callable[[str], None] | None = None,
    find_size: FindSize | None = None,
    epochs: Mapping[NetworkSpec, Collection[int]] | None = None,
) -> Pending:
    """The networks in stacks of at most ``size``.

    A stack shares all but rule and seeds, and an epoch to go on from; networks whose rules
    alternate alignment with learning are kept apart from the others, whose epochs have half the
    steps, and so is every rule that repeats passes with noise, which shares none with others.
    Stacks are of about equal size, and at least as many as there are jobs for them, where there are
    enough networks.

    Parameters
    ----------
    device, threads, jobs : of the run, for ``auto``.
    say : called with one line for every group of networks.
    find_size : finds what ``auto`` is; None for `trial`, on this machine.
    epochs : those that networks can go on from; the others begin anew.
    """
    tell = say or (lambda _: None)
    if size == "off":
        return deque(networks)
    pending: Pending = deque()
    for group in _groups(networks, epochs or {}):
        most = -(-len(group) // max(jobs, 1))
        find = find_size or trial
        asked = find(group[:most], device, threads, jobs, tell) if size == "auto" else int(size)
        chosen = max(1, min(asked, most))
        pending.extend(_split(group, chosen))
        how = f"in stacks of {chosen}" if chosen > 1 else "one by one"
        first = group[0]
        tell(
            f"{first.task.name}/{first.architecture.name}/b{first.batch_size}: "
            f"{len(group)} networks {how}"
        )
    return pending


def _groups(
    networks: Sequence[NetworkSpec], epochs: Mapping[NetworkSpec, Collection[int]]
) -> list[list[NetworkSpec]]:
    def key(network: NetworkSpec) -> tuple[str, str]:
        return stack_key(network), company(network.rule)

    # By data seed first: networks that see the same stimuli share their drawing.
    ordered = sorted(networks, key=lambda n: (*key(n), n.data_seed, segment_key(n), n.model_seed))
    companies = [list(group) for _, group in groupby(ordered, key)]
    return [group for members in companies for group in _of_one_epoch(members, epochs)]


def _of_one_epoch(
    networks: Sequence[NetworkSpec], epochs: Mapping[NetworkSpec, Collection[int]]
) -> Iterator[list[NetworkSpec]]:
    """Networks that can go on from one epoch, or all begin anew; as many together as can be.

    A stack that was killed while it stored its states goes on whole, from the epoch before.
    """
    left = list(networks)
    while left:
        of = {network: epochs.get(network) or (-1,) for network in left}
        counts = Counter(epoch for network in left for epoch in of[network])
        most = max(counts, key=lambda epoch: (counts[epoch], epoch))
        yield [network for network in left if most in of[network]]
        left = [network for network in left if most not in of[network]]


def _split(group: Sequence[NetworkSpec], size: int) -> list[NetworkSpec | tuple[NetworkSpec, ...]]:
    """Parts of about equal length, of at most ``size``; a part of one is a network by itself."""
    count = -(-len(group) // size)
    bounds = [round(i * len(group) / count) for i in range(count + 1)]
    parts = [tuple(group[a:b]) for a, b in pairwise(bounds)]
    return [part if len(part) > 1 else part[0] for part in parts]


def trial(
    group: Sequence[NetworkSpec],
    device: str,
    threads: int,
    jobs: int,
    tell: Callable[[str], None],
) -> int:
    """The stack size at which networks train fastest, tried out in a process of its own.

    1 where stacking does not pay, and where the trial fails, out of memory for instance.
    """
    context = multiprocessing.get_context("spawn")  # leaves no CUDA context behind
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_trial, args=(theirs, tuple(group), device, threads, jobs), daemon=True
    )
    process.start()
    theirs.close()
    try:
        size, text = ours.recv()
    except EOFError:
        size, text = 1, "the trial of stacks failed; networks train one by one"
    process.join()
    tell(text)
    return int(size)


def _trial(
    connection: Connection,
    group: tuple[NetworkSpec, ...],
    device: str,
    threads: int,
    jobs: int,
) -> None:
    connection.send(tried(group, device, threads, jobs))


def tried(group: Sequence[NetworkSpec], device: str, threads: int, jobs: int) -> tuple[int, str]:
    """What a trial in this process says: the size, and a line on it."""
    from goaldriven.training.stack_trial import best_size

    try:
        found = best_size(group, device=device, threads=threads, jobs=jobs)
    except Exception as error:  # the networks, one by one, will say more
        return 1, f"the trial of stacks failed ({error}); networks train one by one"
    return found.size, found.text
