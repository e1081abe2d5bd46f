"""Which pairs of rules cannot be told from one another, under which measurement?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.degeneracy import (
    check_enough,
    degeneracies,
    pair_rows,
    told_pairs,
)
from goaldriven.identify.experiments.material import Material
from goaldriven.identify.experiments.measured_conditions import (
    CLEAN,
    Condition,
    measured_cells,
    measured_conditions,
)
from goaldriven.identify.experiments.results import Results
from goaldriven.identify.experiments.spec import Experiment, Finding, Measure, Plot

KEYS = ("observables", "measurement")
SHOWN = ("all", "activation")
"""Groups of observables whose pairs are drawn: everything, and what an electrode records."""


def _cells(given: Material) -> Sequence[Cell]:
    """The fits of experiment ``measurement``, read from the cache where that was run."""
    conditions = measured_conditions(given, "degeneracy_measured")
    cells = [
        Cell(
            {"observables": cell.condition["observables"],
             "measurement": Condition(str(cell.condition["units"]), str(cell.condition["noise"]),
                                      ()).label},
            cell.classifier, cell.train, cell.split, cell.number,
        )
        for cell in measured_cells(given, conditions, given.rules)
    ]  # fmt: skip
    check_enough(cells[: given.n_splits])
    return cells


def measured_pairs(results: Results) -> pd.DataFrame:
    """One row per observables, measurement and pair; see `degeneracies`."""
    return degeneracies(results, KEYS)


def lost_pairs(results: Results) -> pd.DataFrame:
    """How many pairs are not told apart, by observables and measurement.

    Columns: ``observables``, ``measurement``, ``classifier``, ``pairs_lost``, ``pairs``,
    ``hardest``, the lowest balanced accuracy of a pair with ``hardest_low``, ``hardest_high``.
    """
    rows = []
    for levels, part in measured_pairs(results).groupby([*KEYS, "classifier"], sort=False):
        worst = part.sort_values("pair_accuracy").iloc[0]
        rows.append(
            dict(zip([*KEYS, "classifier"], levels, strict=True))
            | {"pairs_lost": int(part["indistinguishable"].sum()), "pairs": len(part),
               "hardest": worst["pair_accuracy"], "hardest_low": worst["pair_accuracy_low"],
               "hardest_high": worst["pair_accuracy_high"]}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _shown(results: Results) -> pd.DataFrame:
    table = measured_pairs(results)
    return table[table["observables"].isin(SHOWN)]


def _found(results: Results) -> Sequence[Finding]:
    table = measured_pairs(results)
    return tuple(
        Finding(_told(str(name), part), "", "not in the paper")
        for name, part in table.groupby("observables", sort=False)
    )


def _counted(by_pair: pd.Series) -> list[tuple[tuple[str, str], int]]:
    names = by_pair.index.to_frame(index=False)
    pairs = zip(names["rule_a"].astype(str), names["rule_b"].astype(str), strict=True)
    return [(pair, int(n)) for pair, n in zip(pairs, by_pair, strict=True)]


def _told(observables: str, table: pd.DataFrame) -> str:
    """What is lost to measuring, of one group of observables."""
    clean = table["measurement"] == CLEAN
    noisy = table[~clean]
    counts = noisy.groupby("measurement", sort=False)["indistinguishable"].sum()
    by_pair = noisy.groupby(["rule_a", "rule_b"])["indistinguishable"].sum()
    pairs = ", ".join(
        f"{a} and {b} under {int(n)}"
        for (a, b), n in sorted(_counted(by_pair), key=lambda item: -item[1])
        if n
    )
    name = "all observables" if observables == "all" else observables.replace("_", " ")
    first = f"Pairs that random forests do not tell apart by {name}: {CLEAN}, "
    text = f"{first}{told_pairs(table[clean])}; under {len(counts)} measurements, "
    if not pairs:
        return f"{text}none of {len(by_pair)} under any."
    most = counts.sort_values(ascending=False, kind="stable")
    return (
        f"{text}{pairs}; the most, {int(most.iloc[0])} of {len(by_pair)}, under {most.index[0]}; "
        f"all are told apart under {int((counts == 0).sum())}."
    )


DEGENERACY_MEASURED = Experiment(
    "degeneracy_measured",
    "Indistinguishable rules under measurement",
    "Which pairs of rules cannot be told from one another, under which measurement?",
    "ours",
    _cells,
    _found,
    (
        Plot(
            "levels",
            "measurement",
            "observables",
            table=lost_pairs,
            measures=(
                Measure("pairs_lost", "pairs not told apart"),
                Measure("hardest", "balanced accuracy of the hardest pair", 0.5, "chance"),
            ),
            title="how many pairs are lost",
        ),
        Plot(
            "pairs",
            "rule_a",
            "observables",
            "measurement",
            y="rule_b",
            table=_shown,
            measures=(Measure("pair_accuracy", "balanced accuracy on networks", 0.5, "chance"),),
            mark="indistinguishable",
            title="which pairs",
        ),
    ),
    after=pair_rows,
    measured=True,
)

ENTRIES = (DEGENERACY_MEASURED,)
