"""What recording all observables over a validation set costs, relative to a plain forward pass.

    python benchmarks/recording.py [--repetitions 9] [--threads 1] [--device cpu]

Recordings and plain passes over the same stimuli, in eval mode and without gradients, are
interleaved in one process; the ratio is the median over repetitions of the ratios within one
repetition. On a CPU with one thread time is the process' CPU time, which other processes do not
stretch (though they take cache and memory bandwidth, of which recording needs more). The peak of
extra memory is what recording adds, in a process of its own, to the largest resident size that
forward passes have reached (on a GPU: to the largest allocation), in units of the activations of
the largest layer for one batch. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from timing import clock_for, in_own_process, interleave, peak_memory, reset_peak_memory
from torch import Tensor

from goaldriven import architectures, observables
from goaldriven.heads import Readout
from goaldriven.specs.architectures import KNet, ResNet

# name → architecture, image size, channels, stimuli, batch size
NETWORKS: dict[str, tuple[KNet | ResNet, int, int, int, int]] = {
    "knet5": (KNet(name="knet5"), 32, 3, 1024, 128),
    "resnet10": (ResNet(name="resnet10"), 32, 3, 512, 128),
    "knet4 half width, digits": (KNet(name="knet4", width=0.5), 8, 1, 450, 256),
    "resnet10 half width, digits": (ResNet(name="resnet10", width=0.5), 8, 1, 450, 256),
}


def make(network: str, device: str) -> tuple[architectures.Network, list[Tensor]]:
    """A network in eval mode and its validation batches: noise smoothed as images are."""
    spec, size, channels, n_stimuli, batch_size = NETWORKS[network]
    generator = torch.Generator().manual_seed(1)
    model = architectures.build(spec, (channels, size, size), Readout(10), generator)
    noise = torch.randn((n_stimuli, channels, size + 4, size + 4), generator=generator)
    stimuli = torch.nn.functional.avg_pool2d(noise, 5, stride=1) * 5
    return model.to(device).eval(), list(stimuli.to(device).split(batch_size))


def forward(model: torch.nn.Module, batches: list[Tensor]) -> None:
    with torch.no_grad():
        for batch in batches:
            model(batch)


def times(
    network: str, device: str, repetitions: int, clock: Callable[[], float]
) -> tuple[float, float, float]:
    """Median milliseconds of a pass and of a recording, and the median ratio."""
    model, batches = make(network, device)
    steps = (
        lambda: forward(model, batches),
        lambda: observables.record(model, model.layers, batches),
    )
    passes, recordings = interleave(steps, repetitions, clock, unmeasured=1)
    ratios = [r / p for r, p in zip(recordings, passes, strict=True)]
    return (
        1e3 * statistics.median(passes),
        1e3 * statistics.median(recordings),
        statistics.median(ratios),
    )


def _largest_activations(model: architectures.Network, batch: Tensor) -> int:
    """Bytes of the largest observed activity."""
    sizes: list[int] = []
    handles = [
        model.get_submodule(layer.output).register_forward_hook(
            lambda module, inputs, y: sizes.append(y.numel() * y.element_size())
        )
        for layer in model.layers
    ]
    forward(model, [batch])
    for handle in handles:
        handle.remove()
    return max(sizes)


def extra_memory(network: str, device: str, threads: int) -> float:
    """Peak memory beyond that of forward passes, in activations of the largest layer."""
    torch.set_num_threads(threads)
    model, batches = make(network, device)
    observables.record(model, model.layers, [batches[0][:2]])  # loads code
    unit = _largest_activations(model, batches[0])
    reset_peak_memory(device)
    for _ in range(3):
        forward(model, batches)
    before = peak_memory(device)
    observables.record(model, model.layers, batches)
    return (peak_memory(device) - before) / unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = clock_for(arguments.device, arguments.threads)
    print("| network | stimuli | forward (ms) | recording (ms) | ratio | extra memory (layers) |")
    print("|---|---|---|---|---|---|")
    for network in arguments.networks:
        few = NETWORKS[network][1] < 32
        repetitions = arguments.repetitions * (10 if few else 1)
        plain, recording, ratio = times(network, arguments.device, repetitions, clock)
        memory = in_own_process(extra_memory, network, arguments.device, arguments.threads)
        _, _, _, n_stimuli, batch_size = NETWORKS[network]
        print(
            f"| {network} | {n_stimuli} in {batch_size}s | {plain:.1f} | {recording:.1f} "
            f"| {ratio:.2f} | {memory:.2f} |"
        )


if __name__ == "__main__":
    main()
