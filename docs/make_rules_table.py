"""The table of learning rules in docs/learning_rules.md, from a study that has been run.

goaldriven run studies/rules.yaml && python docs/make_rules_table.py results/rules

Accuracy on the validation set; angle between W and B and ‖B‖/‖W‖, both means over the layers whose
backward weights carry error (all but the first), after the last epoch. Mean ± s.e.m. over networks.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from goaldriven.trajectories import load_networks


def rows(folder: Path) -> pd.DataFrame:
    """One row per network."""
    return pd.DataFrame(
        {
            "rule": network.attrs["rule"],
            "architecture": network.attrs["architecture"],
            "accuracy": network["metric"].values[-1],
            "angle": float(network["weight_angle"][-1, 1:].mean()),
            "ratio": float(network["weight_norm_ratio"][-1, 1:].mean()),
            "diverged": network.attrs["outcome"] != "trained",
        }
        for network in load_networks(folder)
    )


def with_error(values: pd.Series, digits: int) -> str:
    finite = values.dropna()
    if finite.empty:
        return "–"
    error = f" ± {finite.sem():.{digits}f}" if len(finite) > 1 else ""
    return f"{finite.mean():.{digits}f}{error}"


if __name__ == "__main__":
    networks = rows(Path(sys.argv[1]))
    architectures = list(dict.fromkeys(networks["architecture"]))
    best = networks.groupby("rule")["accuracy"].mean().sort_values(ascending=False).index
    print(
        "| rule | "
        + " | ".join(f"{a}: accuracy | angle (°) | ‖B‖/‖W‖" for a in architectures)
        + " |"
    )
    print("|---" * (1 + 3 * len(architectures)) + "|")
    for rule in best:
        cells = []
        for architecture in architectures:
            chosen = (networks["rule"] == rule) & (networks["architecture"] == architecture)
            mine = networks[chosen]
            cells.append(with_error(mine["accuracy"], 3))
            cells += [with_error(mine["angle"], 0), with_error(mine["ratio"], 2)]
        print(f"| `{rule}` | " + " | ".join(cells) + " |")
    print(f"\n{networks['diverged'].sum()} of {len(networks)} diverged")
