"""``goaldriven synapses fit`` and ``goaldriven synapses demo``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from rich.console import Console

from goaldriven.commands.identifying import bar
from goaldriven.commands.output import output, plain_table
from goaldriven.errors import DataError, unknown
from goaldriven.report.synapses import write_networks, write_synapses
from goaldriven.synapses.analysis import Analysis, analyse
from goaldriven.synapses.files import read_table
from goaldriven.synapses.networks import fit_weights, network_weights, weight_moments
from goaldriven.synapses.published import load_demo
from goaldriven.synapses.table import groups_of, keep_common_sessions, select_group
from goaldriven.trajectories.atomic import check_writable


def fit(
    path: Path,
    group: str | None,
    out: Path | None,
    bootstraps: int,
    seed: int,
    common_sessions: bool,
    drop_absent: bool,
) -> None:
    """Analyse a file; the results go to ``out``, by default a folder beside the file's name."""
    table = _read(path, group, drop_absent)
    if common_sessions:
        table = keep_common_sessions(table)
    folder = out or Path("results") / f"synapses_{path.stem}"
    _analyse(table, folder, bootstraps, seed, f"{path.name}")


def demo(out: Path | None, bootstraps: int, seed: int) -> None:
    """Analyse the published data."""
    folder = out or Path("results") / "synapses_demo"
    source = (
        "Synapses onto pyramidal and parvalbumin-positive neurons of mouse barrel cortex; data of "
        "Melander, Nayebi et al. 2021, Cell Reports 37, 109972."
    )
    _analyse(load_demo(), folder, bootstraps, seed, source)


def networks(folder: Path, out: Path | None, synapses: int, bootstraps: int, seed: int) -> None:
    """Put the weights of a study's networks through the Kesten fit and the comparison of rules."""
    weights = network_weights(folder, rng=np.random.default_rng([seed, 0]), synapses=synapses)
    console = Console(stderr=True)
    console.print(
        f"{weights.sizes['synapse']} weights at {weights.sizes['epoch']} epochs", highlight=False
    )
    rng = np.random.default_rng([seed, 1])
    place = out or folder / "synapses"
    check_writable(place)
    with _stopping(console):
        fits = fit_weights(weights, rng=rng, bootstraps=bootstraps)
    path = write_networks(weight_moments(weights), fits, place)
    console.print(f"tables, figure and page → {path}", highlight=False, soft_wrap=True)


@contextmanager
def _stopping(console: Console) -> Iterator[None]:
    """Say what Ctrl-C leaves behind."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("stopped; nothing was written", style="bold")
        raise


def _read(path: Path, group: str | None, drop_absent: bool) -> xr.Dataset:
    """``group`` is the column of groups in a CSV file, or the one group to analyse."""
    column = group if group and path.suffix.lower() == ".csv" and _has(path, group) else None
    table = read_table(path, group=column, drop_absent=drop_absent)
    if group in (None, "group", "cell_type") or column:
        return table
    if group not in groups_of(table):
        raise DataError(f"{path}: " + unknown("--group", group, groups_of(table)))
    return select_group(table, str(group))


def _has(path: Path, column: str) -> bool:
    try:
        return column in pd.read_csv(path, nrows=0).columns
    except (OSError, ValueError):
        return False  # the reader says what is wrong with the file


def _analyse(table: xr.Dataset, folder: Path, bootstraps: int, seed: int, source: str) -> None:
    console = Console(stderr=True)
    check_writable(folder)
    with _stopping(console), bar(console) as progress:
        task = progress.add_task("synapses", total=None)

        def advance(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=what)

        analysis = analyse(table, bootstraps=bootstraps, seed=seed, progress=advance)
    path = write_synapses(analysis, folder, source=source)
    _tell(analysis, output())
    for (group, name), why in analysis.skipped.items():
        console.print(f"{group}: {name} passed over; {why}", style="bold", soft_wrap=True)
    console.print(f"tables, figures and page → {path}", highlight=False, soft_wrap=True)


def _tell(analysis: Analysis, console: Console) -> None:
    """The few numbers that one looks at first: one row per quantity, one column per group."""
    rows = plain_table("quantity", *analysis.groups)
    found = {group: _numbers(analysis, group) for group in analysis.groups}
    names = dict.fromkeys(name for of in found.values() for name in of)
    for name in names:
        rows.add_row(name, *(found[group].get(name, "–") for group in analysis.groups))
    console.print(rows)


def _numbers(analysis: Analysis, group: str) -> dict[str, str]:
    tables = {n: t[t["group"] == group] for n, t in analysis.tables.items()}
    size = select_group(analysis.table, group)["size"].values
    numbers = {"synapses": str(len(size)), "sizes above 0": str(int((size > 0).sum()))}
    changes = tables.get("weight_changes", pd.DataFrame())
    if len(changes):
        day = changes["day"] == (24 if (changes["day"] == 24).any() else changes["day"].max())
        last = changes[day].iloc[0]
        numbers[f"mean |Δ ln size|, day {last['day']:g}"] = (
            f"{last['change']:.3f} ± {last['change_sem']:.3f} (n = {last['n']:.0f})"
        )
    for name, label, column in (
        ("survival", "survival, last day", "survival"),
        ("markov_memory", "partial correlation, two sessions", "partial_correlation"),
    ):
        if len(tables.get(name, ())):
            numbers[label] = f"{tables[name].iloc[-1][column]:.3f}"
    for _, row in tables.get("markov_stationarity", pd.DataFrame()).iterrows():
        numbers[f"stationary − data, {row['states']}"] = f"{row['distance']:.3f}"
    numbers |= _kesten(tables.get("kesten", pd.DataFrame()))
    compared = tables.get("comparison", pd.DataFrame())
    if len(compared):
        numbers["best rule, held out"] = str(compared.iloc[0]["model"])
    return numbers


def _kesten(rows: pd.DataFrame) -> dict[str, str]:
    numbers = {}
    for estimator, parameter, label in (
        ("binned", "mu_b", "Kesten intercept μ_b"),
        ("binned", "r2_mean", "R² of mean change"),
        ("binned multiplicative", "r2_mean", "R² without additive part"),
    ):
        if not len(rows):
            break
        chosen = rows[(rows["estimator"] == estimator) & (rows["parameter"] == parameter)]
        if len(chosen) and np.isfinite(chosen.iloc[0]["estimate"]):
            row = chosen.iloc[0]
            numbers[label] = f"{row['estimate']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    return numbers
