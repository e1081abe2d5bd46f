"""What recording adds to training, and how well a study keeps the cores busy.

    python benchmarks/study.py [--jobs 2] [--out results/benchmark]

Runs part of the digits study (100 epochs, 21 records) in a fresh folder. "Recording" is the time
spent on records over the time spent on training in the same networks. "Efficiency" is the sum of
the networks' own times (what `gd.train` takes) over cores × wall time of the whole run, start-up of
the workers included. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from goaldriven.specs import Study
from goaldriven.studies import StudyFolder, load_study, run_study
from goaldriven.studies.runner import usable_cores
from goaldriven.trajectories import load_networks


def benchmark_study() -> Study:
    """Every rule on three architectures, two model seeds, batch size 64."""
    digits = load_study("digits")
    return Study(
        **digits.model_dump()
        | {
            "name": "benchmark",
            "tasks": ["digits"],
            "architectures": [a for a in digits.architectures if a.name in CHOSEN],
            "batch_sizes": [64],
            "data_seeds": [0],
        }
    )


CHOSEN = ("knet4", "knet5_lrn", "resnet10")


def main(jobs: int, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    folder = StudyFolder.create(out, benchmark_study())
    started = time.perf_counter()
    run_study(folder, jobs=jobs)
    wall = time.perf_counter() - started
    networks = [n.attrs for n in load_networks(out)]
    print("| rule | architecture | seconds per network | recording / training |")
    print("|---|---|---|---|")
    for rule in dict.fromkeys(n["rule"] for n in networks):
        for architecture in CHOSEN:
            mine = [n for n in networks if (n["rule"], n["architecture"]) == (rule, architecture)]
            recording = sum(n["recording_seconds"] for n in mine)
            seconds = sum(n["seconds"] for n in mine)
            share = recording / (seconds - recording)
            print(f"| {rule} | {architecture} | {seconds / len(mine):.1f} | {share:.1%} |")
    busy = sum(n["seconds"] for n in networks)
    training = busy - sum(n["recording_seconds"] for n in networks)
    print(
        f"\n{len(networks)} networks, {jobs} workers, {wall:.0f} s: efficiency "
        f"{busy / (jobs * wall):.1%} of the networks' own times, {training / (jobs * wall):.1%} of "
        "their times without recording"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=usable_cores())
    parser.add_argument("--out", type=Path, default=Path("results/benchmark"))
    arguments = parser.parse_args()
    main(arguments.jobs, arguments.out)
