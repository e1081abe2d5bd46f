"""How much faster networks train stacked, as one program, than one after the other.

    python benchmarks/stacking.py [--networks 64] [--stack 64] [--device cuda] [--batch-size 32]

Steps of 64 KNet4 (or so many) on stimuli of 1×8×8 and 3×32×32 (random pixels: only the time
counts), of one rule or three, with one data seed or, with --own-seeds, a seed for each network.
Both ways train the same networks from the same seeds in one process, in turns; the figure is the
median ratio of the seconds per step of all networks (CPU time with one thread). Recording is not
part of it, it is the same both ways. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from timing import clock_for, interleave

from goaldriven.specs import NetworkSpec
from goaldriven.tasks.supervised import SupervisedTask
from goaldriven.training.loop import train_epoch
from goaldriven.training.network import Network, build
from goaldriven.training.stack import Stack

STEPS = 2
N_CLASSES = 10


def random_task(spec: NetworkSpec, shape: tuple[int, int, int], device: str) -> SupervisedTask:
    """``STEPS`` batches of random stimuli."""
    generator = torch.Generator().manual_seed(0)
    n = STEPS * spec.batch_size
    stimuli = torch.randn(n, *shape, generator=generator).to(device)
    labels = torch.randint(N_CLASSES, (n,), generator=generator).to(device)
    return SupervisedTask(
        spec.task, shape, N_CLASSES, labels, stimuli, labels, lambda chosen, _: stimuli[chosen]
    )


def compare(
    shape: tuple[int, int, int], rules: tuple[str, ...], own_seeds: bool, given: argparse.Namespace
) -> tuple[float, float, float]:
    """Milliseconds of one step of all networks, one after the other and stacked; the ratio."""
    specs = [
        NetworkSpec(
            task="digits",
            architecture="knet4",
            rule=rules[i % len(rules)],
            batch_size=given.batch_size,
            model_seed=i,
            data_seed=i if own_seeds else 0,
        )
        for i in range(given.networks)
    ]
    task = random_task(specs[0], shape, given.device)

    def made(spec: NetworkSpec) -> Network:
        return build(spec, given.device, task=task)

    singles = [made(spec) for spec in specs]
    size = given.stack or given.networks
    stacks = [Stack(specs[i : i + size], made) for i in range(0, len(specs), size)]

    def one_by_one() -> None:
        for network in singles:
            train_epoch(network, 0)

    def together() -> None:
        for stack in stacks:
            stack.train_epoch(0)

    clock = clock_for(given.device, given.threads)
    seconds = interleave((one_by_one, together), given.repetitions, clock, unmeasured=1)
    ratio = statistics.median(a / b for a, b in zip(*seconds, strict=True))
    steps = STEPS * singles[0].credit.passes_per_epoch
    per_step = [1e3 * statistics.median(s) / steps for s in seconds]
    return per_step[0], per_step[1], ratio


def main(given: argparse.Namespace) -> None:
    torch.set_num_threads(given.threads)
    print("| stimuli | rules | data seeds | one by one, ms | stacked, ms | ratio |")
    print("|---|---|---|---|---|---|")
    for shape in ((1, 8, 8), (3, 32, 32)):
        if given.size and given.size != shape[-1]:
            continue
        for rules in (("sgdm",), ("sgdm", "adam", "fa"), ("ia",)):
            for own_seeds in (False, True) if given.own_seeds else (False,):
                single, stacked, ratio = compare(shape, rules, own_seeds, given)
                print(
                    f"| {'×'.join(map(str, shape))} | {', '.join(rules)} | "
                    f"{'own' if own_seeds else 'one'} | {single:.1f} | {stacked:.1f} | "
                    f"{ratio:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=64)
    parser.add_argument("--stack", type=int, default=0, help="networks per stack; 0 for all")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--size", type=int, default=0, choices=(0, 8, 32))
    parser.add_argument("--own-seeds", action="store_true", help="with a data seed each, too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    main(parser.parse_args())
