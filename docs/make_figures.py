"""The figures of README and docs, from studies that have been run.

python docs/make_figures.py accuracy results/demo
python docs/make_figures.py autoencoder results/autoencoder
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from goaldriven.report import figures, tables
from goaldriven.report.identified import read_results
from goaldriven.trajectories import load_networks


def accuracy(folder: Path) -> Figure:
    """Accuracy of identification, by observable and classifier."""
    results = read_results(folder)
    if results is None:
        sys.exit("identify the study first")
    return figures.accuracy(results.accuracy)


def autoencoder(folder: Path) -> Figure:
    """Variance explained through learning, per rule."""
    networks = load_networks(folder)
    rules = list(dict.fromkeys(network.attrs["rule"] for network in networks))
    figure = figures.learning_curves(tables.learning_curves(networks), rules)
    for axes in figure.axes:
        axes.set_yscale("linear")
        axes.set_ylim(0.0, 0.6)
        axes.set_yticks([0.0, 0.2, 0.4, 0.6], ["0", "0.2", "0.4", "0.6"])
    return figure


if __name__ == "__main__":
    name, folder = sys.argv[1:]
    figure = {"accuracy": accuracy, "autoencoder": autoencoder}[name](Path(folder))
    out = Path(__file__).parent / "figures" / f"{name}.png"
    figure.savefig(out, dpi=150, bbox_inches="tight")
    print(out)
