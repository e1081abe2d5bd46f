"""The comparison with backprop across architectures, against plain NumPy on the same networks."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import quantile_test

from goaldriven.report import robustness
from goaldriven.report.blocks import Paragraph, Plate, Table
from goaldriven.report.sections.robustness import robustness as section
from goaldriven.report.study import StudyData

from .made_up import make_network, make_study

ARCHITECTURES = ["knet4", "knet5", "resnet10"]


def make_data(metrics, rules=("sgdm", "adam", "fa", "ia"), architectures=ARCHITECTURES, **changes):
    """A study in memory; ``metrics(rule, architecture, seed)``: the final metric, None diverged."""
    study = make_study(
        architectures=architectures, rules=rules, batch_sizes=[64], model_seeds=[0, 1, 2],
        epochs=6, **changes,
    )  # fmt: skip
    networks = []
    for spec in study.networks():
        value = metrics(spec.rule.name, spec.architecture.name, spec.model_seed)
        network = make_network(spec, diverges_at=3 if value is None else None)
        if value is not None:
            network["metric"][-1] = value
        networks.append(network)
    return StudyData(Path("somewhere"), study, tuple(networks), {})


RNG = np.random.default_rng(0)
VALUES = {
    key: float(RNG.uniform(0.5, 0.99))
    for key in itertools.product(("sgdm", "adam", "fa", "ia"), ARCHITECTURES, range(3))
}


@pytest.fixture(scope="module")
def data():
    return make_data(lambda *key: VALUES[key])


def test_every_rule_is_compared_with_backprop_of_its_optimizer(data):
    assert robustness.references(data.networks) == {"fa": "adam", "ia": "sgdm"}
    without_adam = [n for n in data.networks if n.attrs["rule"] != "adam"]
    assert robustness.references(without_adam) == {"fa": "sgdm", "ia": "sgdm"}
    alone = [n for n in data.networks if n.attrs["rule"] == "fa"]
    assert robustness.references(alone) == {}


def test_gaps_are_paired_by_seed(data):
    table = robustness.gaps(data.networks)
    assert len(table) == len(data.networks)
    for row in table.to_dict("records"):
        key = (row["architecture"], row["model_seed"])
        assert row["final_metric"] == VALUES[(row["rule"], *key)]
        if row["reference"] == "":
            assert np.isnan(row["gap"])
        else:
            assert row["gap"] == pytest.approx(
                VALUES[(row["rule"], *key)] - VALUES[(row["reference"], *key)], rel=1e-12
            )


def test_by_architecture_is_the_median_over_seeds_and_its_interval(data):
    table = robustness.by_architecture(data.networks)
    assert len(table) == 4 * 3
    for row in table.to_dict("records"):
        own = [VALUES[row["rule"], row["architecture"], seed] for seed in range(3)]
        assert row["median"] == pytest.approx(np.median(own), rel=1e-12)
        assert (row["low"], row["high"]) == (min(own), max(own))
        assert (row["networks"], row["diverged"]) == (3, 0)
        if row["reference"]:
            theirs = [VALUES[row["reference"], row["architecture"], seed] for seed in range(3)]
            gap = np.subtract(own, theirs)
            assert row["gap_median"] == pytest.approx(np.median(gap), rel=1e-12)
            ends = [row["gap_low"], row["gap_high"]]
            np.testing.assert_allclose(ends, [gap.min(), gap.max()], rtol=1e-12)
            assert row["pairs"] == 3
        else:
            assert row["pairs"] == 0


def test_diverged_networks_are_counted_and_compared_with_nothing():
    lost = {("ia", "knet5", 1), ("sgdm", "resnet10", 2), *(("fa", "knet4", s) for s in range(3))}
    data = make_data(lambda *key: None if key in lost else VALUES[key])
    table = robustness.by_architecture(data.networks).set_index(["rule", "architecture"])
    assert table.loc[("ia", "knet5"), "diverged"] == 1
    assert table.loc[("ia", "knet5"), "pairs"] == 2
    # The backprop network is missing here, not the rule's own.
    assert (table.loc[("ia", "resnet10"), ["networks", "pairs"]] == [3, 2]).all()
    assert table.loc[("ia", "resnet10"), "diverged"] == 0
    assert np.isnan(table.loc[("fa", "knet4"), ["median", "gap_median"]].to_numpy(float)).all()
    (found,) = section(data)
    rows = {row[0]: row for row in found.blocks[-1].rows}
    assert rows["fa − adam"][1] == "– (3 diverged)"
    assert rows["ia − sgdm"][2].endswith("(1 diverged)")
    assert "3 diverged on knet4" in found.blocks[1].caption


@pytest.mark.parametrize("n", [6, 7, 12, 30, 101])
def test_the_interval_of_the_median_is_that_of_scipy(n):
    values = np.random.default_rng(n).gamma(2.0, size=n)
    expected = quantile_test(values, q=0.0, p=0.5).confidence_interval(0.95)
    assert robustness.median_interval(values) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("n", "covered"), [(2, 0.5), (3, 0.75), (5, 0.9375), (8, 0.95), (25, 0.95)]
)
def test_the_interval_covers_the_median_of_a_skewed_distribution(n, covered):
    """Networks that mostly learn and sometimes fail: the mean and its s.e.m. lie elsewhere."""
    rng = np.random.default_rng(0)
    ends = np.array(
        [robustness.median_interval(0.99 - rng.exponential(0.1, n)) for _ in range(4000)]
    )
    share = np.mean((ends[:, 0] <= 0.99 - 0.1 * np.log(2)) & (0.99 - 0.1 * np.log(2) <= ends[:, 1]))
    error = 3 * np.sqrt(covered * (1 - covered) / 4000)
    assert share > covered - error
    if n < 6:
        assert share < covered + error


def test_a_single_seed_has_no_interval():
    data = make_data(lambda *key: VALUES[key])
    one = [n for n in data.networks if n.attrs["model_seed"] == 1]
    table = robustness.by_architecture(one)
    assert table[["low", "high"]].isna().all(axis=None)
    assert table["median"].notna().all()
    (found,) = section(dataclasses.replace(data, networks=tuple(one)))
    assert "(" not in " ".join(cell for row in found.blocks[-1].rows for cell in row)


def test_widths_of_one_architecture_are_kept_apart():
    architectures = [{"name": "knet4", "width": w} for w in (0.5, 1.0)] + ["knet5"]
    data = make_data(lambda *_: 0.9, architectures=architectures)
    assert set(robustness.architecture_labels(data.networks).values()) == {
        "knet4 ×0.5", "knet4 ×1", "knet5",
    }  # fmt: skip
    assert (robustness.by_architecture(data.networks)["networks"] == 3).all()


def test_the_section_says_the_numbers(data):
    (found,) = section(data)
    about, plate, table = found.blocks
    assert isinstance(about, Paragraph)
    assert "fa with adam and ia with sgdm" in about.text
    assert isinstance(plate, Plate)
    assert isinstance(table, Table)
    assert table.header == ("rule", *ARCHITECTURES)
    assert [row[0] for row in table.rows] == ["sgdm", "adam", "fa − adam", "ia − sgdm"]
    for row in table.rows:
        rule, _, reference = row[0].partition(" − ")
        for architecture, cell in zip(ARCHITECTURES, row[1:], strict=True):
            values = np.array([VALUES[rule, architecture, s] for s in range(3)])
            if reference:
                values -= [VALUES[reference, architecture, s] for s in range(3)]
            between = " to " if reference else "–"
            middle, ends = cell.replace("−", "-").removesuffix(")").split(" (")
            low, high = map(float, ends.split(between))
            found = [float(middle), low, high]
            expected = 100 * np.array([np.median(values), values.min(), values.max()])
            np.testing.assert_allclose(found, expected, atol=0.051)
    assert "± s.e.m." not in plate.caption + table.caption
    assert "median's 95% interval by order statistics (of five networks" in table.caption


def test_rules_that_keep_up_are_told_from_those_that_do_not():
    level = {"sgdm": 0.95, "adam": 0.96, "fa": 0.80, "ia": 0.945}

    def metric(rule, architecture, seed):
        return level[rule] - 0.1 * (rule == "fa" and architecture == "resnet10")

    (found,) = section(make_data(metric))
    caption = found.blocks[1].caption
    assert "Within 1 percentage point of backprop on every architecture of digits: ia." in caption
    assert "in percentage points: fa (−26.0 on resnet10)." in caption


def test_a_reference_with_another_optimizer_is_owned_up_to():
    data = make_data(lambda *key: VALUES[key], rules=("sgdm", "fa", "ia"))
    (found,) = section(data)
    assert "(no backprop rule has the optimizer of fa)" in found.blocks[0].text


@pytest.mark.parametrize(
    "changes",
    [{"architectures": ["knet4"]}, {"rules": ("sgdm", "adam")}, {"rules": ("fa", "ia")}],
    ids=["one architecture", "backprop only", "no backprop"],
)
def test_there_is_no_section_without_something_to_compare(changes):
    assert section(make_data(lambda *_: 0.9, **changes)) == ()
    assert section(make_data(lambda *_: 0.9)) != ()


def test_several_tasks_have_a_table_each():
    data = make_data(lambda *_: 0.9, tasks=["digits", "spoken_digits"])
    (found,) = section(data)
    captions = [b.caption for b in found.blocks if isinstance(b, Table)]
    assert [c.split(":")[0] for c in captions] == ["digits", "spoken_digits"]
    assert len(found.blocks[1].figure.axes) == 4
