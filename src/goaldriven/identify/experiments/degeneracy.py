"""Which pairs of rules cannot be told from one another, under which observables?"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration import degeneracy_table, degenerate_groups
from goaldriven.identify.experiments.cache import Fit
from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.material import OBSERVABLES, Material
from goaldriven.identify.experiments.results import Results
from goaldriven.identify.experiments.scored import (
    Row,
    judged,
    of_all_splits,
    rows,
    said,
    together,
    wide,
    with_interval,
)
from goaldriven.identify.experiments.spec import Experiment, Finding, Measure, Plot
from goaldriven.identify.splits import TEST_SHARE

CLASSIFIERS = ("random_forest", "svm")
OR = " or "

Group = Sequence[tuple[Cell, Fit]]


def degeneracy_cells(
    given: Material, measured: Mapping[str, xr.Dataset], column: str = "observables"
) -> list[Cell]:
    """Cells that tell all rules apart from each of these examples.

    Parameters
    ----------
    measured : by name, examples of all rules: groups of observables, or measurement conditions.
    column : what the names are called in the table.

    Raises
    ------
    IdentificationError : too few networks to tell so many pairs apart, were all scores perfect.
    """
    cells = [
        cell
        for name, examples in measured.items()
        for cell in given.cells(examples, CLASSIFIERS, **{column: name})
    ]
    check_enough([cell for cell in cells if cell.train is cells[0].train][: given.n_splits])
    return cells


def check_enough(cells: Sequence[Cell]) -> None:
    """Whether perfect scores would do: said before anything is fitted, not after."""
    rules = np.unique(cells[0].train["rule"].values.astype(str))
    truths, networks = [], []
    for cell in cells:
        first = np.unique(cell.train["network"].values[cell.split.test], return_index=True)[1]
        tested = cell.split.test[first]
        truths.append(cell.train["rule"].values.astype(str)[tested])
        networks.append(cell.train["network"].values[tested])
    truth = np.concatenate(truths)
    try:
        _table(
            truth[:, None] == rules,
            truth,
            np.concatenate(networks),
            np.random.default_rng(0),
            rules.tolist(),
            len(cells),
        )
    except IdentificationError as error:
        raise IdentificationError(
            f"tested {error} under {len(cells)} splits; more splits test more of them, "
            f"{1 / TEST_SHARE:.0f} all"
        ) from None


def _table(
    scores: NDArray[Any],
    truth: NDArray[np.str_],
    networks: NDArray[Any],
    rng: np.random.Generator,
    rules: Sequence[str],
    n_splits: int,
) -> pd.DataFrame:
    # Under a single split no tested network was trained on: nothing is to be allowed for.
    share = TEST_SHARE if n_splits > 1 else None
    return degeneracy_table(scores, truth, networks, rng, rules=rules, test_share=share)


def _degeneracy(given: Material) -> Sequence[Cell]:
    return degeneracy_cells(given, {name: given.observables(name) for name in OBSERVABLES})


def pair_rows(given: Material, cells: Sequence[Cell], fits: Sequence[Fit]) -> Iterable[Row]:
    """Every pair of rules, from the classifier of all rules, over all splits of each condition.

    Metrics: balanced accuracy ``pair_accuracy`` with its interval, ``pair_p``, ``pair_p_adjusted``
    (Holm, over the pairs of a condition), ``indistinguishable`` (0 or 1), ``networks_a``,
    ``networks_b``; see `goaldriven.identify.calibration.degeneracy_table`.
    """
    for group in together(cells, fits):
        cell = group[0][0]
        name = f"{dict(cell.condition)}/{cell.classifier}"
        rng = np.random.default_rng([given.seed, zlib.crc32(name.encode())])
        yield from _pairs(group, rng)


def _pairs(group: Group, rng: np.random.Generator) -> Iterator[Row]:
    parts = [judged(*one) for one in group]
    table = _table(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.networks for part in parts]),
        rng,
        group[0][1].classes.tolist(),
        len(group),
    )
    for line in table.to_dict("records"):
        values = with_interval("pair_accuracy", line["accuracy"], line["low"], line["high"])
        values |= {"pair_p": line["p"], "pair_p_adjusted": line["p_adjusted"]}
        values |= {n: line[n] for n in ("indistinguishable", "networks_a", "networks_b")}
        keys = of_all_splits(group[0][0]) | {"pair": f"{line['rule_a']}{OR}{line['rule_b']}"}
        yield from rows(keys, values)


def degeneracies(results: Results, columns: Sequence[str] = ("observables",)) -> pd.DataFrame:
    """The table of experiment ``degeneracy``: one row per condition, classifier and pair.

    Columns: ``columns``, ``classifier``, ``rule_a``, ``rule_b``, ``pair_accuracy`` with
    ``pair_accuracy_low``, ``pair_accuracy_high``, ``pair_p``, ``pair_p_adjusted``,
    ``indistinguishable`` (bool), ``networks_a``, ``networks_b``.
    """
    table = wide(results.table, (*columns, "classifier", "pair"))
    names = table.pop("pair").str.split(OR, expand=True)
    table.insert(len(columns) + 1, "rule_a", names[0])
    table.insert(len(columns) + 2, "rule_b", names[1])
    return table.assign(indistinguishable=table["indistinguishable"] > 0.5)


def _found(results: Results) -> Sequence[Finding]:
    table = degeneracies(results)
    of = dict(list(table.groupby(["classifier", "observables"], sort=False)))
    return tuple(
        Finding(
            f"Pairs of rules that {classifier.replace('_', ' ')}s do not tell apart: "
            + "; ".join(
                f"{str(name).replace('_', ' ')}: {told_pairs(part)}"
                for (by, name), part in of.items()
                if by == classifier
            )
            + ".",
            "",
            "not in the paper",
        )
        for classifier in dict.fromkeys(table["classifier"])
    )


def told_pairs(table: pd.DataFrame) -> str:
    """The indistinguishable pairs of one condition, and the groups they link, in words."""
    same = table[table["indistinguishable"]]
    if same.empty:
        hardest = table.sort_values("pair_accuracy").iloc[0]
        return (
            f"none of {len(table)} (hardest {hardest['rule_a']} and {hardest['rule_b']}, "
            f"{said(hardest, 'pair_accuracy')})"
        )
    pairs = ", ".join(
        f"{row['rule_a']} and {row['rule_b']} {said(row, 'pair_accuracy')}"
        for _, row in same.sort_values("pair_accuracy").iterrows()
    )
    groups = [group for group in degenerate_groups(table) if len(group) > 2]
    linked = f", linking {'; '.join(' – '.join(g) for g in groups)}" if groups else ""
    return f"{len(same)} of {len(table)}, {pairs}{linked}"


DEGENERACY = Experiment(
    "degeneracy",
    "Indistinguishable rules",
    "Which pairs of rules cannot be told from one another, by which observables?",
    "ours",
    _degeneracy,
    _found,
    (
        Plot(
            "pairs",
            "rule_a",
            "classifier",
            "observables",
            y="rule_b",
            table=degeneracies,
            measures=(Measure("pair_accuracy", "balanced accuracy on networks", 0.5, "chance"),),
            mark="indistinguishable",
        ),
    ),
    after=pair_rows,
)

ENTRIES = (DEGENERACY,)
