"""The page on synaptic sizes, second part: the Kesten process, and which rule is followed."""

from __future__ import annotations

import pandas as pd

from goaldriven.report.blocks import Block, Download, Paragraph, Plate, Section, Table
from goaldriven.report.figures import synapses_kesten
from goaldriven.report.figures.synapses_markov import Line
from goaldriven.report.figures.weight_dynamics import weight_dynamics
from goaldriven.report.names import listing
from goaldriven.report.sections.synapses import (
    Cell,
    number,
    rows_of,
    why_skipped,
    with_interval,
    word,
)
from goaldriven.synapses.analysis import Analysis

_PARAMETERS = ("mu_a", "mu_b", "var_a", "var_b")
_NAMES = {
    "mu_a": "μ_a (mean of ε − 1)",
    "mu_b": "μ_b (mean of η)",
    "var_a": "σ_a² (variance of ε)",
    "var_b": "σ_b² (variance of η)",
    "r2_mean": "R² of the means",
    "r2_variance": "R² of the variances",
    "log_likelihood": "log likelihood",
    "stationary_mean": "stationary mean",
    "stationary_variance": "stationary variance",
    "tail_exponent": "tail exponent",
    "noise": "measurement noise",
}


def kesten_lines(analysis: Analysis, estimator: str) -> dict[str, Line]:
    """Group → the Kesten parameters of one estimator; nothing where there are none."""
    if "kesten" not in analysis.tables:
        return {}
    rows = analysis.tables["kesten"]
    chosen = rows[(rows["estimator"] == estimator) & rows["parameter"].isin(_PARAMETERS)]
    return {
        str(group): dict(zip(of["parameter"], of["estimate"], strict=True))
        for group, of in chosen.groupby("group", sort=False)
    }


def kesten(analysis: Analysis) -> Section:
    """The process w′ = εw + η: moments, estimates, tests of what can be left out."""
    tables = analysis.tables
    if "kesten" not in tables:
        why = why_skipped(analysis, "kesten")
        return Section("kesten", "Kesten process", (Paragraph(f"Nothing was fitted: {why}."),))
    blocks: list[Block] = [
        Paragraph(
            "The size w of a synapse becomes w′ = εw + η by the next session, with ε ~ N(1 + μ_a, "
            "σ_a²) and η ~ N(μ_b, σ_b²): the multiplicative part is μ_a and σ_a², the additive "
            "part μ_b and σ_b²."
        ),
        Paragraph(_additive_in_words(tables["kesten"]), "answer"),
        Plate(
            "kesten-moments",
            "Mean and variance of the change against size",
            "Sizes in bins of equal count (changes to absence included, as published): E[Δw] = "
            "μ_a w + μ_b and Var[Δw] = σ_a² w² + σ_b². Solid: with the additive part; dashed: "
            "without.",
            "Points near straight lines, mean change falling and variance rising with size.",
            synapses_kesten.moments(
                tables["kesten_moments"],
                kesten_lines(analysis, "binned"),
                kesten_lines(analysis, "binned multiplicative"),
            ),
            (Download("kesten_moments.csv", tables["kesten_moments"]),),
        ),
        _estimates(tables["kesten"]),
    ]
    if "kesten_tests" in tables:
        blocks.append(_tests(tables["kesten_tests"]))
    return Section("kesten", "Kesten process", tuple(blocks))


def _additive_in_words(rows: pd.DataFrame) -> str:
    """The intercept and the R² of the published regressions, group by group."""
    parts = []
    for group, of in rows.groupby("group", sort=False):
        keys = zip(of["estimator"], of["parameter"], strict=True)
        found = dict(zip(keys, of[["estimate", "low", "high"]].to_numpy(float), strict=True))
        intercept, low, high = found["binned", "mu_b"]
        with_it = found["binned", "r2_mean"][0]
        without = found["binned multiplicative", "r2_mean"][0]
        parts.append(
            f"{group}: intercept {intercept:.3f} ({low:.3f} to {high:.3f}), R² of the mean change "
            f"{with_it:.2f} with it and {without:.2f} without"
        )
    return f"{'; '.join(parts)}."


def _estimate(row: pd.Series) -> str:
    """With its interval, where it is estimated and not fixed."""
    fixed = pd.isna(row["estimate"]) or row["low"] == row["high"]
    cell = number("estimate") if fixed else with_interval("estimate", ends=("low", "high"))
    return cell(row)


def _estimates(rows: pd.DataFrame) -> Table:
    columns: dict[str, Cell] = {
        "group": word("group"),
        "estimator": word("estimator"),
        "quantity": lambda r: _NAMES.get(r["parameter"], str(r["parameter"])),
        "estimate (95% interval)": _estimate,
    }
    return rows_of(
        "Estimates of the Kesten process by every estimator.",
        rows,
        columns,
        filename="kesten.csv",
        text_columns=3,
        folded=True,
    )


def _tests(rows: pd.DataFrame) -> Table:
    return rows_of(
        "Likelihood ratios of the whole process against what lacks a part, on pairs of sessions "
        "with the synapse in both.",
        rows,
        {
            "group": word("group"),
            "hypothesis": word("null"),
            "likelihood ratio": number("statistic", 4),
            "p (large samples)": number("p_value", 2),
            "p (simulated)": number("p_bootstrap", 2),
        },
        filename="kesten_tests.csv",
        text_columns=2,
    )


def comparison(analysis: Analysis) -> Section:
    """Rules by their prediction of held-out dendrites."""
    title = "Which rule?"
    if "comparison" not in analysis.tables:
        why = why_skipped(analysis, "comparison")
        return Section("rule", title, (Paragraph(f"Rules were not compared: {why}."),))
    rows = analysis.tables["comparison"]
    best = {str(group): str(of["model"].iloc[0]) for group, of in rows.groupby("group", sort=False)}
    return Section(
        "rule",
        title,
        (
            Paragraph(_best_in_words(rows, best), "answer"),
            Plate(
                "comparison",
                "Prediction of held-out dendrites",
                "Mean log density of the next size given the last, of synapses present in both "
                "sessions, less that of the best rule; 95% intervals over dendrites. An interval "
                "to the left of 0 is a rule that did worse.",
                f"Differences of rules from the best: {listing(list(best.values()))}.",
                synapses_kesten.comparison(rows, best),
                (Download("comparison.csv", rows),),
            ),
            _scores(rows),
        ),
    )


def _best_in_words(rows: pd.DataFrame, best: dict[str, str]) -> str:
    """The best rule of each group, and those that cannot be told from it."""
    parts = []
    for group, name in best.items():
        of = rows[(rows["group"] == group) & (rows["metric"] == "difference")]
        level = of[(of["high"] >= 0) & (of["model"] != name)]["model"].tolist()
        also = f", not told apart from {listing([str(m) for m in level])}" if level else ""
        parts.append(f"{group}: {name}{also}")
    return f"The rule that predicts held-out dendrites best is, for {'; for '.join(parts)}."


def _scores(rows: pd.DataFrame) -> Table:
    keys = ["group", "model"]
    scores, differences = (
        rows[rows["metric"] == m].drop(columns="metric") for m in ("log_density", "difference")
    )
    return rows_of(
        "Held-out log density (nats per pair) and its difference from the best rule.",
        scores.merge(differences, on=keys, suffixes=("", "_difference")),
        {
            "group": word("group"),
            "rule": word("model"),
            "log density": number("value"),
            "difference": lambda r: (
                f"{r['value_difference']:.3f} ({r['low_difference']:.3f} to "
                f"{r['high_difference']:.3f})"
            ),
        },
        text_columns=2,
    )


def networks(moments: pd.DataFrame, fits: pd.DataFrame) -> Section:
    """Weights of trained networks put through the same analysis.

    Parameters
    ----------
    moments, fits : of `goaldriven.synapses.networks.weight_moments` and ``fit_weights``, by rule.
    """
    compared = fits[fits["kind"] == "comparison"]
    best = []
    for rule, of in compared.groupby("rule", sort=False):
        names = of["name"].astype(str).tolist()
        best.append(f"{rule}: {names[int(of['value'].to_numpy().argmax())]}")
    return Section(
        "networks",
        "The same of trained networks",
        (
            Paragraph(f"Rule that predicts held-out networks best: {'; '.join(best)}.", "answer"),
            Plate(
                "weight-dynamics",
                "Changes of networks' weights, by learning rule",
                "Size w is |weight| over the layer's middling weight before learning; a step is "
                "from one record to the next. a: relative drift; a curve that falls through 0 "
                "pulls weights back to a set point. b: relative spread; level where changes scale "
                "with weights, falling as the dashed line where they do not. c: log density of "
                "held-out networks' weights less that of the best rule of synaptic dynamics, 95% "
                "intervals over networks.",
                "Drift and spread of weights against size, and rules of dynamics compared.",
                weight_dynamics(moments, compared),
                (
                    Download("network_moments.csv", moments),
                    Download("network_fits.csv", fits),
                ),
            ),
        ),
    )
