"""The tables and the figure of docs/synapses_kesten.md.

python docs/kesten_tables.py readings DATA            # the thesis's R², reading by reading
python docs/kesten_tables.py fits DATA                # parameters, intervals, likelihood ratios
python docs/kesten_tables.py lags DATA                # autocorrelation of the weights
python docs/kesten_tables.py rules DATA               # comparison of rules on held-out synapses
python docs/kesten_tables.py networks DATA STUDY      # the same of networks, and the figure

DATA is synapse_sizes_melander2021.npz, STUDY a study folder run with --keep-checkpoints.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from goaldriven.report import figures
from goaldriven.synapses import comparison, kesten, networks, normalise

THESIS = {"pyr": (0.53, 0.62), "pv": (0.03, 0.89)}
CELLS = {"pyr": "pyramidal", "pv": "PV"}
PUBLISHED = {"pyr": 8, "pv": 7}
"""Sessions: 7 of the 21 PV dendrites have only 7, and the authors' code reads 7 of all."""
EPOCHS = {"from epoch 5 on": (5, 100), "second half": (50, 100)}
SYNAPSES = 2
"""How many synapses of each layer of a network are followed."""

Pairs = tuple[np.ndarray, np.ndarray]


def load(path: Path, cell: str, sessions: int | None = None) -> tuple[np.ndarray, ...]:
    """w, days and dendrites of one cell type."""
    data = np.load(path)
    n = sessions or PUBLISHED[cell]
    return data[f"{cell}_norm"][:, :n], data["days"][:n], data[f"{cell}_dendrite"]


def pairs_of(w: np.ndarray, deaths: bool, middle: bool) -> Pairs:
    before, after = w[:, :-1].ravel(), w[:, 1:].ravel()
    kept = (before > 0) & ((after >= 0) if deaths else (after > 0))
    if middle:
        low, high = np.percentile(before[kept], [25, 75])
        kept &= (before >= low) & (before <= high)
    return before[kept], after[kept] - before[kept]


def cuts(before: np.ndarray, how: str) -> list[np.ndarray]:
    order, n = np.argsort(before, kind="stable"), len(before)
    if how == "⌈n/20⌉ each":
        size = -(-n // 20)
        return [order[i : i + size] for i in range(0, n, size)]
    if how == "⌊n/20⌋ each":
        return [order[i * (n // 20) : (i + 1) * (n // 20)] for i in range(20)]
    return list(np.array_split(order, 20))


def slopes(x: np.ndarray, y: np.ndarray, variance: np.ndarray, how: str) -> dict[bool, np.ndarray]:
    """Fitted values with (True) and without (False) an intercept."""
    weight = 1 / variance if how == "bins by 1/var" else np.ones_like(x)
    line = np.polyfit(x, y, 1, w=np.sqrt(weight))
    alone = (weight * x * y).sum() / (weight * x**2).sum()
    if how == "ratio of means":
        alone = y.sum() / x.sum()
    return {True: np.polyval(line, x), False: alone * x}


def r2(y: np.ndarray, fitted: np.ndarray, centred: bool) -> float:
    return float(1 - ((y - fitted) ** 2).sum() / ((y - centred * y.mean()) ** 2).sum())


def readings(path: Path) -> None:
    """Every combination of choices that the text leaves open, nearest to the thesis first."""
    found = pd.concat(
        [pd.DataFrame(_readings(path, cell)).assign(cell=cell) for cell in CELLS], ignore_index=True
    )
    choices = [c for c in found if c not in ("cell", "pairs", "without", "with", "off")]
    for cell, (without, with_) in THESIS.items():
        mine = found["cell"] == cell
        found.loc[mine, "off"] = np.maximum(
            (found["without"] - without).abs(), (found["with"] - with_).abs()
        )
    wide = found.pivot(index=choices, columns="cell", values=["pairs", "without", "with", "off"])
    print("One choice for both cell types (PV in 7 sessions), nearest first by `with` alone:")
    near = (wide["with"] - pd.Series({c: THESIS[c][1] for c in CELLS})).abs().max(axis=1)
    print(wide.loc[near.sort_values().index[:12]].round(3).to_string())
    print("\nThe published reading with every fit and definition of R²:")
    print(wide.xs(("norm", "kept", "all", "⌈n/20⌉ each"), level=(0, 1, 2, 3)).round(3).to_string())
    for cell in CELLS:
        print(f"\n{CELLS[cell]} alone, nearest first by both:")
        best = found[found["cell"] == cell].sort_values("off").head(8)
        print(best.round(3).to_string(index=False))


def _readings(path: Path, cell: str) -> Iterator[dict[str, object]]:
    data = np.load(path)
    n, dendrite = PUBLISHED[cell], data[f"{cell}_dendrite"]
    sources = {
        "norm": data[f"{cell}_norm"][:, :n],
        "raw": data[f"{cell}_green_raw"][:, :n].astype(float),
        "raw, normalised here": normalise(data[f"{cell}_green_raw"], dendrite)[:, :n],
    }
    for (source, w), deaths, middle in itertools.product(sources.items(), (True, False), (0, 1)):
        before, change = pairs_of(w, deaths, bool(middle))
        for how in ("⌈n/20⌉ each", "⌊n/20⌋ each", "as even as can be"):
            bins = cuts(before, how)
            x, x2 = (np.array([(before[b] ** p).mean() for b in bins]) for p in (1, 2))
            y, v = (np.array([f(change[b]) for b in bins]) for f in (np.mean, np.var))
            for name, fit, centred in itertools.product(
                ("mean change", "variance"),
                ("least squares", "bins by 1/var", "ratio of means"),
                (True, False),
            ):
                at, of = (x, y) if name == "mean change" else (x2, v)
                fitted = slopes(at, of, v, fit)
                yield {
                    "weights": source,
                    "changes to 0": "kept" if deaths else "left out",
                    "synapses": "25–75%" if middle else "all",
                    "bins": how,
                    "line": name,
                    "fit": fit,
                    "R²": "centred" if centred else "uncentred",
                    "pairs": len(before),
                    "without": r2(of, fitted[False], centred),
                    "with": r2(of, fitted[True], centred),
                }


def fits(path: Path) -> None:
    """Estimates with 95% intervals over dendrites, and likelihood ratios."""
    for cell, name in CELLS.items():
        fit = kesten.fit_kesten(*load(path, cell), bootstraps=1000, rng=np.random.default_rng(0))
        counts = fit.moments["n"].tolist()
        print(
            f"\n{name}: {fit.pairs} pairs present, {fit.pairs_to_absent} to absent; bins {counts}"
        )
        print(fit.table().round(4).to_string(index=False))
        print(fit.test_table().to_string(index=False))


def lags(path: Path) -> None:
    """Autocorrelation of the synapses present in all sessions, by sessions apart."""
    for cell, name in CELLS.items():
        w = load(path, cell)[0]
        w = w[(w > 0).all(axis=1)]
        x, n = w - w.mean(), w.shape[1]
        c = np.array([np.mean(x[:, : n - k] * x[:, k:]) for k in range(n)])
        print(f"{name} ({len(w)}): {(c / c[0]).round(3)}, ratios {(c[1:] / c[:-1]).round(3)}")


def rules(path: Path) -> None:
    """Comparison of rules, dendrites held out and synapses held out."""
    for (cell, name), by in itertools.product(CELLS.items(), ("cluster", "synapse")):
        table = comparison.compare_models(*load(path, cell), rng=np.random.default_rng(0), by=by)
        print(f"\n{name}, {by} held out\n{table.round(4).to_string(index=False)}")


def of_networks(path: Path, study: Path) -> None:
    """Fits and comparison per learning rule, and the figure with the synapses' own."""
    rng = np.random.default_rng(0)
    weights = networks.network_weights(study, rng=rng, synapses=SYNAPSES)
    for name, (first, last) in EPOCHS.items():
        part = weights.sel(epoch=slice(first, last))
        table = networks.fit_weights(part, rng=rng, bootstraps=40)
        print(f"\n{name}\n{table.round(4).to_string(index=False)}")
    moments = [networks.weight_moments(part, bins=10)]
    compared = [table[table["kind"] == "comparison"]]
    for cell, label in (("pyr", "Pyr"), ("pv", "PV")):
        w, days, dendrites = load(path, cell)
        moments.append(kesten.binned_moments(w, 10, days=days).assign(rule=label))
        found = comparison.compare_models(
            w, days, dendrites, rng=rng, models=networks.NETWORK_MODELS
        )
        found = found[found["metric"] == "difference"].rename(columns={"model": "name"})
        compared.append(found.assign(rule=label))
    figure = figures.weight_dynamics(pd.concat(moments), pd.concat(compared))
    out = Path(__file__).parent / "figures" / "weight_dynamics.png"
    figure.savefig(out, dpi=150, bbox_inches="tight")
    print(out)


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    {"readings": readings, "fits": fits, "lags": lags, "rules": rules, "networks": of_networks}[
        command
    ](*map(Path, paths))
