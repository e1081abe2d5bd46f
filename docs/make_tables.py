"""The tables of docs/, from studies that have been run.

python docs/make_tables.py rules results/rules              # docs/learning_rules.md
python docs/make_tables.py final results/autoencoder        # docs/learning_rules.md
python docs/make_tables.py performance results/digits       # docs/benchmarks.md, also of the demo
python docs/make_tables.py recording results/digits         # docs/benchmarks.md
python docs/make_tables.py knets results/digits             # docs/benchmarks.md, identification
python docs/make_tables.py robustness results/robustness    # docs/learning_rules.md
python docs/make_tables.py findings results/digits          # docs/results.md

Angles between W and B and ‖B‖/‖W‖ are means over the layers whose backward weights carry error (all
but the first). Mean ± s.e.m. is over networks. ``performance`` and ``knets`` take data seed 0.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from goaldriven.identify import experiments, identify
from goaldriven.report.robustness import by_architecture
from goaldriven.trajectories import load_examples, load_networks


def networks(folder: Path) -> pd.DataFrame:
    """One row per network."""
    return pd.DataFrame(
        {
            **{
                name: network.attrs[name]
                for name in ("rule", "architecture", "batch_size", "data_seed", "chance")
            },
            "metric": float(network["metric"][-1]),
            "loss": float(network["loss"][-1]),
            "angle": float(network["weight_angle"][-1, 1:].mean()),
            "ratio": float(network["weight_norm_ratio"][-1, 1:].mean()),
            "diverged": network.attrs["outcome"] != "trained",
            "recording": network.attrs["recording_seconds"],
            "training": network.attrs["seconds"] - network.attrs["recording_seconds"],
        }
        for network in load_networks(folder)
    )


def rules(folder: Path) -> None:
    """Accuracy, angle and norm ratio per rule and architecture, best rule first."""
    table = networks(folder)
    architectures = list(dict.fromkeys(table["architecture"]))
    columns = [f"{a}: accuracy | angle (°) | ‖B‖/‖W‖" for a in architectures]
    print(f"| rule | {' | '.join(columns)} |")
    print("|---" * (1 + 3 * len(architectures)) + "|")
    for rule in table.groupby("rule")["metric"].mean().sort_values(ascending=False).index:
        cells = []
        for architecture in architectures:
            mine = table[(table["rule"] == rule) & (table["architecture"] == architecture)]
            cells += [
                with_error(mine[c], d) for c, d in (("metric", 3), ("angle", 0), ("ratio", 2))
            ]
        print(f"| `{rule}` | {' | '.join(cells)} |")
    print(f"\n{table['diverged'].sum()} of {len(table)} diverged")


def final(folder: Path) -> None:
    """Validation loss and metric per rule."""
    print("| rule | validation loss | metric |\n|---|---|---|")
    for rule, mine in networks(folder).groupby("rule", sort=False):
        print(f"| `{rule}` | {with_error(mine['loss'], 3)} | {with_error(mine['metric'], 3)} |")


def performance(folder: Path) -> None:
    """Median, lowest and highest metric per rule; how many diverged or ended at chance."""
    table = networks(folder)
    table = table[table["data_seed"] == 0]
    print("| rule | median accuracy | lowest | highest |\n|---|---|---|---|")
    for rule, mine in table.groupby("rule", sort=False):
        figures = (mine["metric"].median(), mine["metric"].min(), mine["metric"].max())
        print(f"| `{rule}` | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
    at_chance = (table["metric"] < table["chance"] + 0.05).sum()
    print(f"\n{len(table)} networks: {table['diverged'].sum()} diverged, {at_chance} at chance")


def recording(folder: Path) -> None:
    """Recording's time over training's, per rule and batch size, and in all."""
    table = networks(folder)
    for keys in (["rule", "batch_size"], ["rule"], []):
        grouped = table.groupby(keys) if keys else table.assign(all="all").groupby("all")
        sums = grouped[["recording", "training"]].sum()
        print((sums["recording"] / sums["training"]).round(3).to_string(), end="\n\n")


def knets(folder: Path) -> None:
    """Identification of the rule of KNets, by the forest and the kernel SVM."""
    examples = load_examples(folder)
    architecture = examples["architecture"].values.astype(str)
    chosen = np.char.startswith(architecture, "knet") & (examples["data_seed"].values == 0)
    chosen = examples.isel(example=np.flatnonzero(chosen))
    print(f"{len(set(chosen['network'].values))} networks, {chosen.sizes['example']} layers")
    classifiers = ("random_forest", "kernel_svm")
    print(identify(chosen, classifiers=classifiers, observables=["all"]).summary().to_string())


def robustness(folder: Path) -> None:
    """The gap to backprop of the same optimizer, per rule and architecture, in percent points."""
    table = by_architecture(load_networks(folder))
    compared = table[table["reference"] != ""]
    architectures = list(dict.fromkeys(compared["architecture"]))
    print(f"| rule | beside | {' | '.join(architectures)} |")
    print("|---" * (2 + len(architectures)) + "|")
    for (rule, reference), mine in compared.groupby(["rule", "reference"], sort=False):
        of = mine.set_index("architecture")
        gap, median, pairs = 100 * of["gap_median"], of["median"], of["pairs"]
        cells = [
            f"{gap[a]:+.1f} ({median[a]:.3f}, {pairs[a]})" if a in of.index else "–"
            for a in architectures
        ]
        print(f"| `{rule}` | `{reference}` | {' | '.join(cells)} |")


def findings(folder: Path) -> None:
    """Every experiment that has results: what it found, beside what the paper found."""
    print("| experiment | found here | the paper | |\n|---|---|---|---|")
    for name in experiments.with_results(folder, list(experiments.EXPERIMENTS)):
        results = experiments.load(folder, name)
        for finding in experiments.experiment(name).findings(results):
            print(f"| `{name}` | {finding.statement} | {finding.paper} | {finding.status} |")


def with_error(values: pd.Series, digits: int) -> str:
    finite = values.dropna()
    if finite.empty:
        return "–"
    error = f" ± {finite.sem():.{digits}f}" if len(finite) > 1 else ""
    return f"{finite.mean():.{digits}f}{error}"


TABLES: dict[str, Callable[[Path], None]] = {
    table.__name__: table
    for table in (rules, final, performance, recording, knets, robustness, findings)
}

if __name__ == "__main__":
    TABLES[sys.argv[1]](Path(sys.argv[2]))
