"""How much faster networks train stacked, as one program, than one after the other.

    python benchmarks/stacking.py [--networks 64] [--stack 64] [--device cuda] [--batch-size 32]
    python benchmarks/stacking.py --count
    python benchmarks/stacking.py --size 8 --width 0.03 --batch-size 2 --steps 10

Steps of 64 KNet4 (or so many) on stimuli of 1×8×8 and 3×32×32 (random pixels: only the time
counts), of one rule or several, with one data seed or, with --own-seeds, a seed for each network.
Both ways train the same networks from the same seeds in one process, in turns; the figure is the
median ratio of the seconds per step of all networks (CPU time with one thread). Recording is not
part of it, it is the same both ways. Prints a Markdown table.

With --count operators are counted in place of seconds, which no device and no load changes: those
that compute, of a step of all networks, both ways. A GPU launches a kernel or so for each. With
networks of next to no arithmetic, as in the third line above, seconds are those that the host takes
to launch: the most that a stack can gain where kernels take no time.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from timing import clock_for, interleave
from torch.utils._python_dispatch import TorchDispatchMode

from goaldriven.specs import NetworkSpec
from goaldriven.tasks.supervised import SupervisedTask
from goaldriven.training.loop import train_epoch
from goaldriven.training.network import Network, build
from goaldriven.training.stack import Stack

N_CLASSES = 10


def random_task(
    spec: NetworkSpec, shape: tuple[int, int, int], steps: int, device: str
) -> SupervisedTask:
    """``steps`` batches of random stimuli."""
    generator = torch.Generator().manual_seed(0)
    n = steps * spec.batch_size
    stimuli = torch.randn(n, *shape, generator=generator).to(device)
    labels = torch.randint(N_CLASSES, (n,), generator=generator).to(device)
    return SupervisedTask(
        spec.task, shape, N_CLASSES, labels, stimuli, labels, lambda chosen, _: stimuli[chosen]
    )


class Operators(TorchDispatchMode):
    """Counts what computes: neither views nor bare allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.computing = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.computing += not (func.is_view or name in _BARE or name.startswith(("empty", "new_e")))
        return func(*args, **(kwargs or {}))


_BARE = {"detach", "_unsafe_view", "_reshape_alias", "lift_fresh", "_record_function_enter_new",
         "_record_function_exit"}  # fmt: skip


def operators(run: Callable[[], object]) -> int:
    with Operators() as counted:
        run()
    return counted.computing


def networks_of(
    rules: tuple[str, ...], own_seeds: bool, given: argparse.Namespace
) -> list[NetworkSpec]:
    """``networks`` of them, the rules in turns."""
    return [
        NetworkSpec(
            task="digits",
            architecture={"name": "knet4", "width": given.width},
            rule=rules[i % len(rules)],
            batch_size=given.batch_size,
            model_seed=i,
            data_seed=i if own_seeds else 0,
        )
        for i in range(given.networks)
    ]


def compare(
    shape: tuple[int, int, int], rules: tuple[str, ...], own_seeds: bool, given: argparse.Namespace
) -> tuple[float, float, float]:
    """Milliseconds, or operators, of one step of all networks, singly and stacked; the ratio."""
    specs = networks_of(rules, own_seeds, given)
    task = random_task(specs[0], shape, given.steps, given.device)

    def made(spec: NetworkSpec) -> Network:
        return build(spec, given.device, task=task)

    size = given.stack or given.networks
    parts = [specs[i : i + size] for i in range(0, len(specs), size)]
    stacks = [Stack(list(map(made, part)), made) for part in parts]
    # Networks of one rule have equal numbers of operators.
    singles = [made(spec) for spec in (specs[: len(rules)] if given.count else specs)]
    steps = given.steps * singles[0].credit.passes_per_epoch

    def one_by_one() -> None:
        for network in singles:
            train_epoch(network, 0)

    def together() -> None:
        for stack in stacks:
            stack.train_epoch(0)

    if given.count:
        one_by_one(), together()  # what is done once is done
        of_rules, stacked = operators(one_by_one) / steps, operators(together) / steps
        single = of_rules * given.networks / len(rules)
        return single, stacked, single / stacked
    clock = clock_for(given.device, given.threads)
    seconds = interleave((one_by_one, together), given.repetitions, clock, unmeasured=1)
    ratio = statistics.median(a / b for a, b in zip(*seconds, strict=True))
    per_step = [1e3 * statistics.median(s) / steps for s in seconds]
    return per_step[0], per_step[1], ratio


def main(given: argparse.Namespace) -> None:
    torch.set_num_threads(given.threads)
    unit = "operators" if given.count else "ms"
    print(f"| stimuli | rules | data seeds | one by one, {unit} | stacked, {unit} | ratio |")
    print("|---|---|---|---|---|---|")
    for shape in ((1, 8, 8), (3, 32, 32)):
        if given.size and given.size != shape[-1]:
            continue
        for rules in (tuple(group.split(",")) for group in given.rules):
            for own_seeds in (False, True) if given.own_seeds else (False,):
                single, stacked, ratio = compare(shape, rules, own_seeds, given)
                digits = 0 if given.count else 1
                print(
                    f"| {'×'.join(map(str, shape))} | {', '.join(rules)} | "
                    f"{'own' if own_seeds else 'one'} | {single:.{digits}f} | "
                    f"{stacked:.{digits}f} | {ratio:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=64)
    parser.add_argument("--stack", type=int, default=0, help="networks per stack; 0 for all")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--width", type=float, default=1.0, help="multiplies all channels")
    parser.add_argument("--size", type=int, default=0, choices=(0, 8, 32))
    parser.add_argument(
        "--rules", nargs="+", default=["sgdm", "sgdm,adam,fa", "ia", "dfa"], help="a,b: mixed"
    )
    parser.add_argument("--steps", type=int, default=2, help="per epoch")
    parser.add_argument("--own-seeds", action="store_true", help="with a data seed each, too")
    parser.add_argument("--count", action="store_true", help="operators, not seconds")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    main(parser.parse_args())
