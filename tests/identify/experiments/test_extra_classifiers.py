"""Extra classifiers against the forest: differences by hand, and on planted truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from goaldriven.identify import CLASSIFIERS, DEFAULT_CLASSIFIERS
from goaldriven.identify.experiments import Results, experiment, extra_classifiers, run
from goaldriven.identify.experiments.extra_classifiers import FOREST, differences
from goaldriven.identify.experiments.separability import SEPARABILITY

from ..made_up import make_examples
from ..test_extra_classifiers import up_and_down


def made_up(right: dict[str, list[list[int]]], layers: int = 4) -> Results:
    """Results of splits that all test the same networks: layers right by classifier and split."""
    verdicts = pd.DataFrame(
        [
            {"observables": "all", "classifier": name, "split_kind": "network", "split": split,
             "network": f"net{i}", "rule": "ab"[i % 2], "layers": layers, "layers_correct": count,
             "correct": int(count > layers / 2)}
            for name, splits in right.items()
            for split, counts in enumerate(splits)
            for i, count in enumerate(counts)
        ]
    )  # fmt: skip
    keys = ["observables", "classifier", "split_kind", "split"]
    rows = []
    for key, of in verdicts.groupby(keys, sort=False):
        values = {"layer_accuracy": of["layers_correct"].sum() / of["layers"].sum(),
                  "network_accuracy": of["correct"].mean(), "chance": 0.5,
                  "network_chance": 0.5,
                  "train_layers": 30, "test_layers": 10}  # fmt: skip
        rows += [
            dict(zip(keys, key, strict=True))
            | {"experiment": "classifiers", "seed": 0, "metric": m, "value": v}
            for m, v in values.items()
        ]
    return Results("classifiers", pd.DataFrame(rows), verdicts, {})


def test_differences_by_hand():
    results = made_up(
        {FOREST: [[4, 3, 2, 4], [2, 4, 4, 4]], "rocket": [[4, 4, 4, 4], [1, 4, 4, 4]]}
    )
    table = differences(results).set_index("metric")
    layers = table.loc["layer_accuracy"]
    # (16 − 13)/16 and (13 − 14)/16.
    assert layers["mean"] == pytest.approx((3 - 1) / 32)
    assert layers["sem"] == pytest.approx((3 + 1) / 16 / 2)
    # Networks differ by −½, ½, 1, 0 of 4 layers; drawn in pairs of one rule, (0, 2) and (1, 3).
    assert layers["low"] == pytest.approx((2 * -0.5 + 2 * 0) / 16)
    assert layers["high"] == pytest.approx((2 * 1 + 2 * 0.5) / 16)
    networks = table.loc["network_accuracy"]
    assert networks["mean"] == pytest.approx((1 / 4 + 0) / 2)  # net 2 in the first split
    assert table["classifier"].eq("rocket").all()


@pytest.mark.parametrize(
    ("better", "said"),
    [(4, "which it beats"), (0, "which it falls short of"), (2, "cannot be told from")],
)
def test_the_finding_says_who_wins(better, said):
    rng = np.random.default_rng(0)
    forest = [[2] * 40 for _ in range(3)]
    noisy = rng.integers(1, 4, size=(3, 40)) if better == 2 else np.full((3, 40), better)
    finding, _ = experiment("classifiers").findings(
        made_up({FOREST: forest, "svm": forest, "rocket": noisy.tolist()})
    )
    assert said in finding.statement
    assert "best extra classifier rocket" in finding.statement
    assert finding.status == "not in the paper"
    if better == 4:
        assert "rocket +0.500 ± 0.000 (+0.500 to +0.500)" in finding.statement


def test_one_split_has_no_error_over_splits():
    finding, _ = experiment("classifiers").findings(
        made_up({FOREST: [[2, 2, 2, 2]], "rocket": [[4, 4, 4, 4]]})
    )
    assert "rocket +0.500 (+0.500 to +0.500)" in finding.statement
    assert "beats" in finding.statement


def test_the_order_of_events_is_where_an_extra_classifier_wins(material_of, monkeypatch):
    few = {name: CLASSIFIERS[name] for name in (FOREST, "rocket")}
    monkeypatch.setattr(extra_classifiers, "CLASSIFIERS", few)
    results = run(experiment("classifiers"), material_of(up_and_down(), n_splits=1))
    table = differences(results).set_index("metric")
    assert table.loc["layer_accuracy", "mean"] > 0.1
    finding, _ = experiment("classifiers").findings(results)
    assert "best extra classifier rocket" in finding.statement
    assert "which it beats" in finding.statement


def test_all_are_compared_here_and_the_default_ones_elsewhere(material_of):
    given = material_of(make_examples(32), n_splits=2)
    cells = experiment("classifiers").cells(given)
    assert [(c.classifier, c.number) for c in cells] == [
        (name, split) for name in CLASSIFIERS for split in range(2)
    ]
    assert {c.split.kind for c in cells} == {"network"}
    assert {c.classifier for c in SEPARABILITY.cells(given)} == set(DEFAULT_CLASSIFIERS)
