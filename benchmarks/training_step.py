"""What a training step costs under each learning rule, relative to plain PyTorch backprop.

    python benchmarks/training_step.py [--repetitions 30] [--threads 1] [--networks knet5 resnet18]

A step is: zero the gradients, forward, loss, backward, both optimizers. The plain step has the same
network, batch and forward optimizer, and nothing of the package in it. Steps of all variants are
interleaved, in an order that rotates, in one process; a ratio is the median over repetitions of the
ratios within one repetition. On a CPU with one thread time is the process' CPU time, which other
processes do not stretch. The peak of memory is that of a process of its own less what it held
before the network was made, over the same of the plain step. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from timing import Step, clock_for, in_own_process, interleave, peak_memory, reset_peak_memory
from torch.nn import functional

from goaldriven import architectures, rules
from goaldriven.heads import Readout
from goaldriven.specs.architectures import KNet, ResNet
from goaldriven.specs.credit import LayerwiseOperations

# name → architecture, image size, channels, batch size
NETWORKS = {
    "knet5": (KNet(name="knet5"), 32, 3, 128),
    "resnet10": (ResNet(name="resnet10"), 32, 3, 128),
    "resnet18": (ResNet(name="resnet18"), 32, 3, 64),
    "resnet10_v2": (ResNet(name="resnet10_v2"), 32, 3, 128),
    "knet4 half width, digits": (KNet(name="knet4", width=0.5), 8, 1, 64),
}

_LINEAR = [
    *("forward_bias", "forward_relu", "forward_batch_centring", "forward_feature_centring"),
    *("backward_feature_centring", "input_batch_centring"),
]
# Small enough for B to change little: what is timed is not to diverge.
_ALIGN = {"name": "information_alignment", "amp": 1e-3, "decay": 1e-3, "null": 1e-3}
_ALIGN |= {"optimizer": {"name": "adam", "learning_rate": 1e-5}}


_PLAIN = LayerwiseOperations().model_dump()


def _ia(*operations: str, **settings: object) -> rules.LearningRule:
    flags = LayerwiseOperations(**dict.fromkeys(operations, True))
    plain = {"input_noise": None, "alternating": False}
    credit = {**_ALIGN, "operations": flags.model_dump(), **plain, **settings}
    return rules.make("ia", credit=credit)


def _aligned(name: str, **settings: object) -> rules.LearningRule:
    """A named rule in its plainest form, as the goals are stated for."""
    return rules.make(name, credit={"optimizer": _ALIGN["optimizer"], **settings})


def variants() -> dict[str, rules.LearningRule]:
    named = {name: rules.make(name) for name in ("fa", "usf", "brsf", "frsf", "dfa", "kp")}
    return named | {
        "sa": _aligned("sa"),
        "wm": _aligned("wm", input_noise=None, alternating=False, operations=_PLAIN),
        "aa": _aligned("aa", input_noise=None, delay_epochs=0),
        "ia": _ia(),
        "ia, linear operations": _ia(*_LINEAR),
        "ia, + forward normalisation": _ia(*_LINEAR, "forward_feature_normalisation"),
        "ia, + input normalisation": _ia(*_LINEAR, "input_feature_normalisation"),
        "ia, backward ReLU": _ia("backward_relu"),
        "ia, backward normalisation": _ia("backward_feature_normalisation"),
        "ia, noise, alternating (two steps)": _ia(input_noise=1.0, alternating=True),
        "wp": rules.make("wp"),
        "np": rules.make("np"),
        "npf": rules.make("npf"),
    }


def steps_of(network: str, rule: rules.LearningRule, device: str) -> tuple[Step, Step]:
    """(plain step, step under the rule), of two networks with equal weights and data."""
    spec, size, channels, batch_size = NETWORKS[network]
    shape = (channels, size, size)
    data = torch.Generator().manual_seed(1)
    x = torch.randn((batch_size, *shape), generator=data).to(device)
    y = torch.randint(10, (batch_size,), generator=data).to(device)
    plain, attached = (
        architectures.build(spec, shape, Readout(10), torch.Generator().manual_seed(0)).to(device)
        for _ in range(2)
    )
    plain_optimizer, optimizer = rule.optimizer(plain), rule.optimizer(attached)
    for group in (*plain_optimizer.param_groups, *optimizer.param_groups):
        group["lr"] = 1e-5
    credit = rule.attach(attached)

    def plain_step() -> None:
        for _ in range(credit.passes_per_epoch):
            plain_optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(plain(x), y).backward()
            plain_optimizer.step()

    def rule_step() -> None:
        for _ in range(credit.passes_per_epoch):
            credit.set_progress(0.0)
            optimizer.zero_grad(set_to_none=True)
            credit.backward(lambda: functional.cross_entropy(attached(x), y))
            optimizer.step()
            credit.step()

    return plain_step, rule_step


def memory_of(network: str, variant: str, which: int, device: str, threads: int) -> float:
    """Bytes that three steps need at most: plain ones (0) or those under the rule (1)."""
    torch.set_num_threads(threads)
    _warm_up(device)
    before = reset_peak_memory(device)
    step = steps_of(network, variants()[variant], device)[which]
    for _ in range(3):
        step()
    return peak_memory(device) - before


def _warm_up(device: str) -> None:
    """Code that any step loads, so that it counts for none."""
    layers = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten()).to(device)
    layers(torch.zeros(2, 1, 4, 4, device=device)).sum().backward()
    torch.optim.Adam(layers.parameters(), fused=True).step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--variants", nargs="+", default=list(variants()), choices=list(variants()))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = clock_for(arguments.device, arguments.threads)
    print("| network | rule | plain backprop, ms | rule, ms | ratio | peak memory |")
    print("|---|---|---:|---:|---:|---:|")
    for network in arguments.networks:
        for name in arguments.variants:
            steps = steps_of(network, variants()[name], arguments.device)
            plain, rule = interleave(list(steps), arguments.repetitions, clock)
            ratio = statistics.median(r / p for p, r in zip(plain, rule, strict=True))
            memory = in_own_process(
                memory_of, network, name, 1, arguments.device, arguments.threads
            ) / in_own_process(memory_of, network, name, 0, arguments.device, arguments.threads)
            times = (1e3 * statistics.median(seconds) for seconds in (plain, rule))
            row = "| {} | {} | {:.1f} | {:.1f} | {:.2f} | {:.2f} |"
            print(row.format(network, name, *times, ratio, memory), flush=True)


if __name__ == "__main__":
    main()
