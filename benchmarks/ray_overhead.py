"""What Ray adds to a network, against the local pool.

    python benchmarks/ray_overhead.py [--networks 40] [--jobs 1]

Trains tiny networks (an MLP on 64 digits) by the local pool and by a Ray cluster here, as
many at a time. Start-up is left out on both sides: the clock runs from the first network that is
finished to the last. Prints the ratio of the times per network, and the difference.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from goaldriven.specs import NetworkSpec, Study
from goaldriven.studies import StudyFolder, run_study
from goaldriven.studies.executors.ray_cluster import RayOptions


def tiny(networks: int) -> Study:
    return Study(
        name="overhead",
        tasks=[{"name": "digits", "train_limit": 64, "validation_limit": 32}],
        architectures=[{"name": "mlp", "hidden": [16]}],
        rules=["sgdm"],
        batch_sizes=[32],
        model_seeds=list(range(networks)),
        epochs=6,
        record_every=3,
    )


def seconds_per_network(out: Path, networks: int, jobs: int, cluster: RayOptions | None) -> float:
    finished: list[float] = []

    def report(kind: str, network: NetworkSpec) -> None:
        if kind == "done":
            finished.append(time.perf_counter())

    folder = StudyFolder.create(out, tiny(networks))
    run_study(folder, jobs=jobs, cluster=cluster, report=report)
    return (finished[-1] - finished[0]) / (len(finished) - 1)


def main(networks: int, jobs: int) -> None:
    with tempfile.TemporaryDirectory() as here:
        local = seconds_per_network(Path(here) / "local", networks, jobs, None)
        ray = seconds_per_network(Path(here) / "ray", networks, jobs, RayOptions("local"))
    print("| networks | at a time | Ray / local pool | Ray − local pool |")
    print("|---|---|---|---|")
    print(f"| {networks} | {jobs} | {ray / local:.2f} | {1000 * (ray - local):.0f} ms |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    main(arguments.networks, arguments.jobs)
