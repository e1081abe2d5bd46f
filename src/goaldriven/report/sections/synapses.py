"""The page on synaptic sizes: what was read, what the synapses did, and the Markov chain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from goaldriven.report.blocks import Block, Download, Items, Paragraph, Plate, Section, Table
from goaldriven.report.figures import synapses as figures
from goaldriven.report.figures import synapses_markov
from goaldriven.report.figures.synapses_markov import Line
from goaldriven.report.names import listing
from goaldriven.synapses.analysis import Analysis
from goaldriven.synapses.table import weights_of

Cell = Callable[[pd.Series], str]


def number(column: str, digits: int = 3) -> Cell:
    """A cell that prints a column to so many significant digits."""
    return lambda row: "–" if pd.isna(row[column]) else f"{row[column]:.{digits}g}"


def with_interval(column: str, digits: int = 3, ends: tuple[str, str] | None = None) -> Cell:
    """A cell with a value and its interval, by default ``<column>_low`` and ``<column>_high``."""
    ends = ends or (f"{column}_low", f"{column}_high")

    def cell(row: pd.Series) -> str:
        value, low, high = (row[c] for c in (column, *ends))
        if pd.isna(low):
            return f"{value:.{digits}g}"
        return f"{value:.{digits}g} ({low:.{digits}g} to {high:.{digits}g})"

    return cell


def word(column: str) -> Cell:
    return lambda row: str(row[column])


def rows_of(
    caption: str,
    rows: pd.DataFrame,
    columns: dict[str, Cell],
    *,
    filename: str | None = None,
    text_columns: int = 1,
    folded: bool = False,
) -> Table:
    """A table on the page: header → how a row fills the cell; the whole frame to download."""
    return Table(
        caption,
        tuple(columns),
        tuple(tuple(cell(row) for cell in columns.values()) for _, row in rows.iterrows()),
        downloads=(Download(filename, rows),) if filename else (),
        text_columns=text_columns,
        folded=folded,
    )


def data(analysis: Analysis) -> Section:
    """How many synapses of which group were read, and what could not be done with them."""
    rows = []
    for group in analysis.groups:
        w, days, dendrites = weights_of(analysis.table, group)
        observed = np.isfinite(w)
        rows.append(
            (
                group, str(len(w)), str(len(np.unique(dendrites))), str(len(days)),
                f"{days[0]:g} to {days[-1]:g}", str(int((w > 0).sum())), str(int((w == 0).sum())),
                str(int((~observed).sum())),
            )
        )  # fmt: skip
    header = (
        "group", "synapses", "dendrites", "sessions", "days", "sizes", "absent", "not observed",
    )  # fmt: skip
    blocks: list[Block] = [
        Table("Synapses by group; absent and not observed are counts of sessions.", header,
              tuple(rows))
    ]  # fmt: skip
    dropped = int(analysis.table.attrs.get("dropped_absent", 0))
    if dropped:
        blocks.append(
            Paragraph(f"{dropped} synapses that are present in no session were left out.")
        )
    blocks.append(
        Paragraph(
            f"Intervals are 95% percentile intervals of {analysis.bootstraps} bootstrap resamples "
            "of whole dendrites, for synapses of a dendrite are not independent; seed "
            f"{analysis.seed}."
        )
    )
    if analysis.skipped:
        items = tuple(
            f"{group}, {name.replace('_', ' ')}: {why}"
            for (group, name), why in analysis.skipped.items()
        )
        blocks += [Paragraph("Not done, for want of data:", "notice"), Items(items)]
    return Section("data", "Synapses", tuple(blocks))


def description(analysis: Analysis) -> Section:
    """Distribution, change, survival, coming and going."""
    tables = analysis.tables
    blocks: list[Block] = []
    if "weight_changes" in tables:
        blocks.append(Paragraph(_last_change(tables["weight_changes"]), "answer"))
    names = ("weight_changes", "survival", "additions", "eliminations")
    blocks.append(
        Plate(
            "synapses",
            "Sizes of synapses over days",
            "a: sizes of all sessions (shaded) and their log-normal fits. b, c: the synapses that "
            "are there in every session and whose first size lies between the 25th and 75th "
            "percentile of those: mean size, and mean magnitude of the change of log size since "
            "the first session (± s.e.m.). d: fraction of the first session's synapses still "
            "there (band: 95%, over dendrites). e, f: mean size (± s.e.m.) since a synapse was "
            "first seen, and until it was first absent.",
            f"Six panels for {listing(analysis.groups)}. {_alt(tables)}",
            figures.description(analysis.table, tables),
            tuple(Download(f"{n}.csv", tables[n]) for n in names if n in tables),
        )
    )
    if "distributions" in tables:
        blocks.append(_distributions(tables["distributions"]))
    if "lognormality" in tables:
        blocks.append(_lognormality(tables["lognormality"]))
    if "turnover" in tables:
        blocks.append(_turnover(tables["turnover"]))
    if "changes_by_interval" in tables:
        blocks.append(
            Plate(
                "intervals",
                "Change against days apart",
                "As in c of the figure before, but over all pairs of sessions so many days apart.",
                "Line plot of mean absolute change of log size against days apart.",
                figures.intervals(tables["changes_by_interval"]),
                (Download("changes_by_interval.csv", tables["changes_by_interval"]),),
            )
        )
    return Section("description", "What the synapses do", tuple(blocks))


def _last_change(changes: pd.DataFrame) -> str:
    """The size of the changes on the last day that all groups share, in words."""
    shared = set.intersection(*(set(rows["day"]) for _, rows in changes.groupby("group")))
    last = changes[changes["day"] == max(shared)]
    parts = [
        f"{row.group} by {row.change:.2f} ± {row.change_sem:.2f} ln units ({row.percent:.0f}%, "
        f"n = {row.n})"
        for row in last.itertuples()
    ]
    return f"By day {max(shared):g} persistent synapses have changed: {'; '.join(parts)}."


def _alt(tables: dict[str, pd.DataFrame]) -> str:
    if "survival" not in tables:
        return "Distributions of sizes and their change over days."
    last = tables["survival"].groupby("group", sort=False).tail(1)
    alive = [f"{r.survival:.0%} of {r.group} by day {r.day:g}" for r in last.itertuples()]
    return f"Surviving: {listing(alive)}."


def _distributions(rows: pd.DataFrame) -> Table:
    names = {
        "lognorm": "log-normal", "gamma": "gamma", "weibull_min": "Weibull", "norm": "normal",
        "expon": "exponential",
    }  # fmt: skip
    return rows_of(
        "Distributions of sizes above 0, fitted by maximum likelihood, the likeliest first.",
        rows,
        {
            "group": word("group"),
            "distribution": lambda r: names.get(r["distribution"], str(r["distribution"])),
            "log likelihood per size": number("log_likelihood"),
            "ΔAIC": lambda r: f"{r['delta_aic']:.0f}",
            "largest distance of the cdf": number("ks", 2),
        },
        filename="distributions.csv",
        text_columns=2,
    )


def _lognormality(rows: pd.DataFrame) -> Table:
    return rows_of(
        "Is log size normal? Anderson–Darling tests session by session, p by simulation.",
        rows,
        {
            "group": word("group"),
            "day": number("day"),
            "n": number("n", 4),
            "mean of ln": number("mu", 2),
            "s.d. of ln": number("sigma", 2),
            "skewness of ln": number("skewness", 2),
            "excess kurtosis": number("excess_kurtosis", 2),
            "A²": number("anderson_darling", 2),
            "p": number("p", 2),
        },
        filename="lognormality.csv",
        folded=True,
    )


def _turnover(rows: pd.DataFrame) -> Table:
    return rows_of(
        "Gained and lost from one session to the next, as fractions of those present before.",
        rows[rows["from_day"].isna()],
        {
            "group": word("group"),
            "born": number("births", 6),
            "lost": number("deaths", 6),
            "gain": with_interval("gain", 2),
            "loss": with_interval("loss", 2),
        },
        filename="turnover.csv",
    )


def why_skipped(analysis: Analysis, name: str) -> str:
    """Why a part of the analysis was not done for the first group that lacks it."""
    return next((why for (_, n), why in analysis.skipped.items() if n == name), "no data")


def markov(analysis: Analysis, kesten: dict[str, Line]) -> Section:
    """The chain: matrix, stationary distribution, predictions, tests."""
    tables = analysis.tables
    if "markov_states" not in tables:
        why = why_skipped(analysis, "markov_states")
        return Section("markov", "Markov chain", (Paragraph(f"No chain was fitted: {why}."),))
    blocks: list[Block] = [
        Paragraph(_memory_in_words(tables), "answer"),
        _matrices(analysis, kesten),
        _predictions(tables),
    ]
    blocks += [_stationarity(tables["markov_stationarity"])]
    if "markov_convergence" in tables:
        blocks.append(_convergence(analysis))
    blocks += [make(tables[name]) for name, make in _TESTS.items() if name in tables]
    return Section("markov", "Markov chain", tuple(blocks))


def _memory_in_words(tables: dict[str, pd.DataFrame]) -> str:
    """Whether the sizes know more than their last value."""
    if "markov_memory" not in tables:
        return "There are too few sessions to test the order of the chain."
    parts = [
        f"{r.group}: {r.partial_correlation:.2f} ({r.low:.2f} to {r.high:.2f})"
        for r in tables["markov_memory"].itertuples()
    ]
    return (
        "Partial correlation of log sizes two sessions apart, given the one between: "
        f"{'; '.join(parts)}. It is 0 for a first-order chain of exactly measured log sizes; above "
        "0, the last size is not all that matters, or it is measured with noise."
    )


def _matrices(analysis: Analysis, kesten: dict[str, Line]) -> Plate:
    rows, states = analysis.tables["markov_transitions"], analysis.tables["markov_states"]
    times = [f"{g}: {analysis.fits[g].relaxation_days:.0f} days" for g in analysis.fits]
    lines = (
        " Black: mean of the next size and one standard deviation by the Kesten process."
        if kesten
        else ""
    )
    return Plate(
        "transitions",
        "Transition probabilities",
        "Rows: size in one session; columns: size in the next; both in bins of equal width, the "
        f"last bins pooled; 0 is absence. White: never seen, or rarer than 0.3%.{lines} Slowest "
        f"deviation from the stationary distribution falls to 1/e in: {'; '.join(times)}.",
        f"Transition matrices of {listing(list(analysis.fits))}, darkest near the diagonal.",
        synapses_markov.transitions(rows, states, kesten),
        (Download("markov_transitions.csv", rows), Download("markov_states.csv", states)),
    )


def _predictions(tables: dict[str, pd.DataFrame]) -> Plate:
    names = ("markov_states", "markov_correlations", "markov_survival", "survival")
    found = {n: tables[n] for n in names if n in tables}
    return Plate(
        "predictions",
        "What the chain predicts",
        "Points: data with 95% intervals over dendrites (survival: ± s.e.m.). Lines: the chain, "
        "with 95% bands: of the stationary distribution over resampled dendrites; of the "
        "correlation of size changes over simulated tables as large as the data; of survival "
        "over both.",
        "Per group: empirical and stationary distribution, correlation of changes, survival.",
        synapses_markov.predictions(found),
        tuple(Download(f"{n}.csv", t) for n, t in found.items()),
    )


def _stationarity(rows: pd.DataFrame) -> Table:
    return rows_of(
        "Stationary against empirical distribution; outside: states whose 95% interval of the "
        "difference leaves out 0.",
        rows,
        {
            "group": word("group"),
            "states": word("states"),
            "distance (total variation)": with_interval("distance", 2),
            "mean size, stationary": number("mean_stationary"),
            "mean size, data": number("mean_occupancy"),
            "outside": lambda r: f"{r['outside']} of {r['n_states']}",
        },
        filename="markov_stationarity.csv",
        text_columns=2,
    )


def _convergence(analysis: Analysis) -> Plate:
    rows = analysis.tables["markov_convergence"]
    return Plate(
        "convergence",
        "Different distributions come to the same",
        "Distance to the stationary distribution of distributions carried forward by the chain: "
        "all states alike, all absent, all largest, all smallest, and as in the data.",
        "Distances that fall with days to below a thousandth or stay above it.",
        synapses_markov.convergence(rows),
        (Download("markov_convergence.csv", rows),),
    )


def _order(rows: pd.DataFrame) -> Table:
    return rows_of(
        "Order of the chain: likelihood-ratio tests against the next higher order, p by "
        "simulation. Information: nats per step that the earlier size adds beyond chance.",
        rows,
        {
            "group": word("group"),
            "states": word("states"),
            "bins": word("bins"),
            "order": number("order"),
            "windows": number("windows", 5),
            "G²": number("g2", 4),
            "expected": number("g2_expected", 4),
            "p": number("p", 2),
            "information": number("excess", 2),
        },
        filename="markov_order.csv",
        text_columns=3,
    )


def _goodness(rows: pd.DataFrame) -> Table:
    return rows_of(
        "Goodness of fit: one matrix for all sessions; several steps ahead; occupancy. Distance: "
        "total variation between counted and predicted transitions. p by simulation.",
        rows,
        {
            "group": word("group"),
            "states": word("states"),
            "check": word("check"),
            "statistic": number("statistic", 4),
            "expected": number("expected", 4),
            "p": number("p", 2),
            "distance": number("distance", 2),
            "expected distance": number("distance_expected", 2),
        },
        filename="markov_goodness.csv",
        text_columns=3,
        folded=True,
    )


def _bins(rows: pd.DataFrame) -> Table:
    best = rows.groupby("group", sort=False).head(5)
    return rows_of(
        "Bins by held-out likelihood (whole dendrites held out), the five best of each group.",
        best,
        {
            "group": word("group"),
            "bins": lambda r: str(r["kind"]).replace("_", " "),
            "number": number("n_bins"),
            "prior": number("prior"),
            "nats per pair": number("log_likelihood", 4),
            "s.e.m. of difference": number("sem", 2),
        },
        filename="markov_bins.csv",
        text_columns=2,
        folded=True,
    )


_TESTS: dict[str, Callable[[pd.DataFrame], Table]] = {
    "markov_order": _order,
    "markov_goodness": _goodness,
    "markov_bins": _bins,
}
