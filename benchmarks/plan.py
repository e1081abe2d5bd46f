"""What `goaldriven plan --calibrate` predicts, over what training then takes, in CPU time.

    python benchmarks/plan.py [--epochs 6] [--architectures knet4 resnet10] [--rules sgdm fa ia]

Times a few steps of every kind of network, as the plan does, predicts each network's time from its
FLOPs (training and records), and trains it on the digits, records and loading included. Prints a
Markdown table, with the costs over that of the first network besides: as counted in FLOPs alone and
as measured.
"""

from __future__ import annotations

import argparse
import time

import torch

from goaldriven.planning import plan_study
from goaldriven.planning.calibration import calibrated
from goaldriven.specs import NetworkSpec
from goaldriven.training import train


def seconds_of(network: NetworkSpec) -> float:
    """CPU seconds of training a network, records included."""
    started = time.process_time()
    train(network)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--architectures", nargs="+", default=["knet4", "resnet10"])
    parser.add_argument("--rules", nargs="+", default=["sgdm", "adam", "fa", "ia"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    networks = [
        NetworkSpec(
            task="digits", architecture=a, rule=r, epochs=given.epochs, record_every=given.epochs
        )
        for a in given.architectures
        for r in given.rules
    ]
    planned, found = plan_study("plan", networks), calibrated(networks)
    train(networks[0].model_copy(update={"epochs": 1, "record_every": 1}))  # first calls cost more
    print(
        "| architecture | rule | predicted / measured | FLOPs, of the first | time, of the first |"
    )
    print("|---|---|---:|---:|---:|")
    total, first = 0.0, 0.0
    for network, cost in zip(networks, planned.costs, strict=True):
        predicted, measured = found.seconds_of(cost), seconds_of(network)
        total, first = total + measured, first or measured
        flops = cost.flops / planned.costs[0].flops
        name = f"| {network.architecture.name} | {network.rule.name} "
        ratios = f"| {predicted / measured:.2f} | {flops:.2f} | {measured / first:.2f} |"
        print(name + ratios, flush=True)
    print(f"| all | all | {found.seconds(planned) / total:.2f} | | |")


if __name__ == "__main__":
    main()
