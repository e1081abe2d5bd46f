"""What recording under many measurement conditions costs, relative to recording one.

    python benchmarks/measurement.py [--repetitions 5] [--threads 1] [--sets electrophysiology …]

One is `goaldriven.observables.record`: all units without noise. Repetitions are interleaved in one
process, and the ratio is the median over repetitions, in CPU time where there is one thread (see
recording.py). Beside it are the same relative to one condition of the set recorded by itself, the
mean of them (a condition with noise costs more than a record without), and how many times as many
weights and activities the conditions read as one record does: where that is large (a thousand of a
thousand units, fifty times), so is the cost. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence

import torch
from recording import make
from timing import clock_for, interleave
from torch import Tensor, nn

from goaldriven import observables
from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.studies.measuring import load_measurements

NETWORKS = ("knet4 half width, digits", "knet5", "resnet10")


def conditions() -> dict[str, tuple[MeasurementSpec, ...]]:
    """The shipped measurements, the published ones with one seed, and one condition by itself."""
    names = ("electrophysiology", "quick", "through_feedback", "published")
    shipped = {name: load_measurements(name).specs() for name in names}
    one_seed = tuple(m for m in shipped["published"] if m.seed == 0)
    return {"all units": (MeasurementSpec(),), **shipped, "published, one seed": one_seed}


def values_read(model: nn.Module, x: Tensor, specs: Sequence[MeasurementSpec]) -> float:
    """Weights and activities read under ``specs``, as a multiple of those there are.

    Conditions that come to the same in a layer (a thousand units of ten) are counted once.
    """
    sizes: list[tuple[int, int]] = []
    for layer in model.layers:  # type: ignore[union-attr]
        module = model.get_submodule(layer.output)
        note = module.register_forward_hook(lambda m, a, y: sizes.append((y[0].numel(), len(y))))
        with torch.no_grad():
            model(x)
        note.remove()
        weight = model.get_submodule(layer.name).weight
        sizes.append((weight.numel(), 1))  # type: ignore[union-attr, operator, arg-type]
    read = 0
    for n, rows in sizes:
        distinct = {
            (m.units_of(n), m.seed, m.noise, m.relative_noise, m.noise_kind, m.stimulus_count)
            for m in specs
        }
        read += sum(units * rows for units, *_ in distinct)
    return read / sum(n * rows for n, rows in sizes)


def ratios(
    network: str, names: Sequence[str] | None, repetitions: int, clock: Callable[[], float]
) -> tuple[float, dict[str, tuple[int, float, float, float]]]:
    """Milliseconds of one record; for each set its size, its costs and its values, relative."""
    model, batches = make(network, "cpu")
    n_stimuli = sum(map(len, batches))
    sets = {name: specs for name, specs in conditions().items() if not names or name in names}

    def measuring(specs: tuple[MeasurementSpec, ...]) -> Callable[[], object]:
        return lambda: observables.record_measured(
            model, model.layers, batches, specs, n_stimuli=n_stimuli
        )

    def seconds(step: Callable[[], object]) -> float:
        start = clock()
        step()
        return clock() - start

    def singly(specs: tuple[MeasurementSpec, ...]) -> float:
        """Mean seconds of a condition by itself."""
        return statistics.mean(seconds(measuring((spec,))) for spec in specs)

    steps = (
        lambda: observables.record(model, model.layers, batches),
        *(measuring(specs) for specs in sets.values()),
    )
    one, *many = interleave(steps, repetitions, clock, unmeasured=1)
    found = {}
    for (name, specs), times in zip(sets.items(), many, strict=True):
        ratio = statistics.median(t / o for t, o in zip(times, one, strict=True))
        alone = statistics.median(singly(specs) for _ in range(min(repetitions, 3)))
        of_one = statistics.median(times) / alone
        found[name] = (len(specs), ratio, of_one, values_read(model, torch.cat(batches), specs))
    return 1e3 * statistics.median(one), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sets", nargs="+", choices=tuple(conditions()), help="all by default")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = clock_for("cpu", arguments.threads)
    heads = ("network", "one record (ms)", "conditions", "number", "cost", "over one of them")
    print("| " + " | ".join((*heads, "values read")) + " |")
    print("|---|---|---|---|---|---|---|")
    for network in NETWORKS:
        milliseconds, found = ratios(network, arguments.sets, arguments.repetitions, clock)
        for name, (number, ratio, of_one, values) in found.items():
            print(
                f"| {network} | {milliseconds:.1f} | {name} | {number} | {ratio:.2f}× | "
                f"{of_one:.2f}× | {values:.2f}× |"
            )


if __name__ == "__main__":
    main()
