"""What survives when something is held out: architectures, curricula, tasks, model seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.comparisons import Estimate, Redrawn, decided, redrawn
from goaldriven.identify.experiments.material import OBSERVABLES, Material
from goaldriven.identify.experiments.results import Results
from goaldriven.identify.experiments.spec import Experiment, Finding, Plot, Status, told
from goaldriven.identify.splits import Split, held_out

CLASSIFIERS = ("random_forest", "svm")
INSIDE = "none: by network"

FACTORS: dict[str, tuple[str, ...]] = {
    "architecture": ("architecture",),
    "curriculum": ("batch_size", "data_seed"),
    "task": ("task",),
    "model_seed": ("model_seed",),
}


def _cells(factor: str) -> Callable[[Material], Sequence[Cell]]:
    def cells(given: Material) -> Sequence[Cell]:
        levels = _levels(given.examples, factor)
        if len(levels) < 2:
            raise IdentificationError(
                f"experiment 'held_out_{factor}' must have at least 2 levels of {factor} to hold "
                f"one out, got {len(levels)} ({', '.join(map(str, levels))})"
            )
        for level, split in held_out(given.examples, FACTORS[factor]).items():
            _check_rules(given.examples, split, f"{factor} {level}")
        chosen: list[Cell] = []
        for name in OBSERVABLES:
            examples = given.observables(name)
            chosen += given.cells(examples, CLASSIFIERS, observables=name, held_out=INSIDE)
            chosen += [
                Cell({"observables": name, "held_out": level}, classifier, examples, split, 0)
                for level, split in held_out(examples, FACTORS[factor]).items()
                for classifier in CLASSIFIERS
            ]
        return chosen

    return cells


def _check_rules(examples: xr.Dataset, split: Split, level: str) -> None:
    """Every rule that is tested must have been trained on, by two networks at least."""
    rules, networks = examples["rule"].values.astype(str), examples["network"].values
    for rule in np.unique(rules[split.test]):
        n = len(np.unique(networks[split.train][rules[split.train] == rule]))
        if n < 2:
            raise IdentificationError(
                f"rule {str(rule)!r} must have at least 2 networks outside of {level}, to be "
                f"trained on when that is held out, got {n}"
            )


def _levels(examples: xr.Dataset, factor: str) -> tuple[str, ...]:
    columns = [examples[name].values.astype(str) for name in FACTORS[factor]]
    return tuple(dict.fromkeys("/".join(row) for row in zip(*columns, strict=True)))


Compare = Callable[[Results, pd.DataFrame], Status]
"""What was found, from the results and the rows of held-out levels."""


def _not_much_below(close: float) -> Compare:
    """Whether the mean over levels lies at most ``close`` below that with nothing held out."""

    def compare(results: Results, outside: pd.DataFrame) -> Status:
        gap = _held_out_less(results, outside)
        return decided(replace(gap, value=gap.value + close))

    return compare


def _held_out_less(results: Results, outside: pd.DataFrame) -> Estimate:
    """The mean over held-out levels, less the accuracy with nothing held out.

    All levels together are a condition too, for what they share: their networks are tested once,
    and trained on where another level is held out.
    """
    levels = [str(level) for level in outside["held_out"]]
    drawn = _drawn(results, INSIDE, *levels, levels)
    return drawn.estimate(lambda a: np.mean([a[level] for level in levels], axis=0) - a[INSIDE])


def _simclr_is_hardest(results: Results, outside: pd.DataFrame) -> Status:
    """Whether each task is harder than none held out, and contrastive ones than supervised ones."""
    chance = {str(row["held_out"]): float(row["chance"]) for _, row in outside.iterrows()}
    contrastive = [level for level in chance if "simclr" in level]
    supervised = [level for level in chance if level not in contrastive]
    if not contrastive or not supervised:
        return "not testable here"
    beside, drawn = _drawn(results, INSIDE, *chance), _drawn(results, *chance)
    harder = [beside.difference(INSIDE, level) for level in chance]
    above = [
        drawn.estimate(lambda a, level=level: a[level] - chance[level])  # type: ignore[misc]
        for level in chance
    ]
    ordered = [drawn.difference(a, b) for a in supervised for b in contrastive]
    return decided(*harder, *above, *ordered)


def _drawn(results: Results, *levels: str | list[str]) -> Redrawn:
    """Accuracies with each of these held out, by their names."""
    return redrawn(
        results,
        {
            str(level): {
                "observables": "all", "classifier": "random_forest", "held_out": level,
            }
            for level in levels
        },
    )  # fmt: skip


def _findings(
    factor: str, paper: str, compare: Compare | None
) -> Callable[[Results], Sequence[Finding]]:
    def findings(results: Results) -> Sequence[Finding]:
        summary = results.summary()
        chosen = summary[
            (summary["observables"] == "all") & (summary["classifier"] == "random_forest")
            & (summary["metric"] == "layer_accuracy")
        ]  # fmt: skip
        inside = chosen[chosen["held_out"] == INSIDE].iloc[0]
        outside = chosen[chosen["held_out"] != INSIDE].sort_values("mean")
        mean = outside["mean"].mean()
        sem = outside["mean"].std(ddof=1) / np.sqrt(len(outside))
        worst = outside.iloc[0]
        return (
            Finding(
                f"Layers of a held-out {factor.replace('_', ' ')} named right (random forest, all "
                f"observables): {mean:.3f} ± {sem:.3f} over {len(outside)} levels, lowest "
                f"{told(worst)} for {worst['held_out']}; with nothing held out {told(inside)}; "
                f"difference {_held_out_less(results, outside).told}; chance "
                f"{inside['chance']:.2f}.",
                paper,
                "not in the paper" if compare is None else compare(results, outside),
            ),
        )

    return findings


def _experiment(factor: str, source: str, paper: str, compare: Compare | None = None) -> Experiment:
    return Experiment(
        f"held_out_{factor}",
        f"Held-out {factor.replace('_', ' ')}",
        f"Are rules recognised in networks of {_an(factor)} that no training network had?",
        source,
        _cells(factor),
        _findings(factor, paper, compare),
        (Plot("levels", "held_out", "classifier", "observables"),),
    )


def _an(factor: str) -> str:
    return f"{'an' if factor[0] in 'aeiou' else 'a'} {factor.replace('_', ' ')}"


ENTRIES = (
    _experiment(
        "architecture", "Figures 2b, S3 and S4",
        "The forest's accuracy on held-out architectures was not much below that with nothing held "
        "out (Figure 2b; here at most 0.05).", _not_much_below(0.05),
    ),
    _experiment(
        "curriculum", "Figures 2b, S3 and S4",
        "The forest's accuracy on held-out curricula was not much below that with nothing held out "
        "(Figure 2b; here at most 0.03).", _not_much_below(0.03),
    ),
    _experiment(
        "task", "Figures 2b, S3 and S4",
        "Held-out tasks were harder: supervised ones (ImageNet, words) best, SimCLR and CIFAR-10 "
        "worst, all above chance (Figure 2b).", _simclr_is_hardest,
    ),
    _experiment("model_seed", "ours", ""),
)  # fmt: skip
