"""Measurements as they are written down: units, ids, grids, the published design, bad input."""

from __future__ import annotations

import pytest

from goaldriven.errors import SpecError
from goaldriven.specs.measurement import (
    PUBLISHED_FRACTIONS,
    MeasurementSet,
    MeasurementSpec,
    published_design,
)


def test_units_are_rounded_up_and_bounded_by_the_tensor():
    for fraction, n, want in ((0.1, 95, 10), (3e-5, 1000, 1), (0.07, 100, 7), (1.0, 9, 9),
                              (0.75, 10, 8), (0.29, 100, 29)):  # fmt: skip
        assert MeasurementSpec(unit_fraction=fraction).units_of(n) == want
    assert MeasurementSpec(unit_count=300).units_of(64) == 64
    assert MeasurementSpec(unit_count=300).units_of(301) == 300
    assert MeasurementSpec().units_of(17) == 17


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"unit_fraction": 1.0, "seed": 4}),
        ({}, {"own_units": True, "noise_kind": "constant"}),
        ({"unit_count": 5}, {"unit_count": 5, "noise_kind": "constant"}),
        ({"noise": 1, "noise_kind": "shared"},
         {"noise": 1, "noise_kind": "shared", "correlation": 0.5}),
    ],
)  # fmt: skip
def test_settings_without_effect_make_no_other_measurement(one, other):
    assert MeasurementSpec(**one).measurement_id == MeasurementSpec(**other).measurement_id


def test_settings_with_effect_do():
    fields = [
        {}, {"unit_fraction": 0.5}, {"unit_count": 5}, {"unit_count": 5, "seed": 1},
        {"unit_count": 5, "own_units": True}, {"noise": 0.1}, {"relative_noise": 0.1},
        {"noise": 0.1, "seed": 1}, {"noise": 0.1, "noise_kind": "constant"},
        {"noise": 0.1, "noise_kind": "shared"},
        {"noise": 0.1, "noise_kind": "shared", "correlation": 0.1}, {"stimulus_count": 3},
        {"stimulus_count": 3, "seed": 1}, {"through_feedback": True},
    ]  # fmt: skip
    specs = [MeasurementSpec(**f) for f in fields]
    assert len({s.measurement_id for s in specs}) == len(specs)
    assert len({s.label for s in specs}) == len(specs)


def test_an_id_does_not_change_with_the_version():
    """Files on disk are found by it."""
    spec = MeasurementSpec(unit_count=30, relative_noise=0.3, seed=2)
    assert spec.canonical_json() == (
        '{"noise_kind":"independent","relative_noise":0.3,"seed":2,"unit_count":30}'
    )
    assert MeasurementSpec().canonical_json() == "{}"
    assert MeasurementSpec().measurement_id == "44136fa355b3"  # of the SHA-256 of {}


def test_a_grid_is_every_combination_once():
    grids = MeasurementSet(
        name="g",
        measurements=[
            {"unit_fraction": [0.1, 1], "noise": [0, 0.1], "seed": [0, 1]},
            {"noise_kind": ["independent", "shared"], "noise": 1, "correlation": [0.2, 0.8]},
            {},
        ],
    )
    specs = grids.specs()
    # 8 less one seed of all units without noise; independent once and shared twice; {} is there
    assert len(specs) == 7 + 3
    assert specs[0] == MeasurementSpec(unit_fraction=0.1)
    assert [s.rho for s in specs[-3:]] == [0.0, 0.2, 0.8]


def test_the_published_design_has_its_numbers():
    assert list(PUBLISHED_FRACTIONS.values()) == [6, 4, 4, 3, 2, 2, 2, 2, 2]
    assert list(PUBLISHED_FRACTIONS)[3:] == [0.01, 0.1, 0.25, 0.5, 0.75, 1.0]
    specs = published_design()
    assert len(specs) == 5 * 27 - 1
    assert {s.noise for s in specs} >= {0.0}
    for fraction, seeds in PUBLISHED_FRACTIONS.items():
        mine = {s.seed for s in specs if s.unit_fraction == fraction and s.noise > 0}
        assert mine == set(range(seeds))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"unit_fraction": 0}, "unit_fraction must be greater than 0, got 0"),
        ({"unit_fraction": 1.5}, "unit_fraction must be less than or equal to 1, got 1.5"),
        ({"unit_count": 0}, "unit_count must be greater than 0, got 0"),
        ({"unit_count": 2.5}, "unit_count must be a whole number"),
        ({"unit_count": 2, "unit_fraction": 0.5}, "must not both be given"),
        ({"noise": -1}, "noise must be greater than or equal to 0, got -1"),
        ({"noise": float("nan")}, "noise must be"),
        ({"noise": 1, "relative_noise": 1}, "must not both be above 0, got 1 and 1"),
        ({"noise": 1, "correlation": 0.5}, "correlation must be given with noise_kind 'shared'"),
        ({"noise_kind": "pink"}, "noise_kind must be 'independent', 'shared' or 'constant'"),
        ({"stimulus_count": 0}, "stimulus_count must be greater than 0"),
        ({"seed": -1}, "seed must be greater than or equal to 0"),
        ({"seed": 2**32}, "seed must be less than or equal to"),
        ({"units": 3}, "every key must be one of correlation, .*got 'units'"),
    ],
)
def test_what_is_no_measurement_is_refused_by_name(fields, complaint):
    with pytest.raises(SpecError, match=complaint):
        MeasurementSpec(**fields)


@pytest.mark.parametrize(
    ("grids", "complaint"),
    [
        ([], "measurements must have at least 1 entry"),
        ([{"noise": []}], r"measurements\[0\].noise must have at least 1 entry"),
        ([{}, {"noise": [0, -1]}], r"measurements\[1\].noise\[1\] must be greater than or equal"),
        ([{"unit_count": 1, "unit_fraction": 1}], r"measurements\[0\]: unit_fraction and"),
        ([{"noise": 1, "relative_noise": 1}], "not both be above 0 in one grid"),
        ([{"correlation": 0.1}], "correlation must be given with noise_kind 'shared' only"),
        ([{"sigma": 1}], r"measurements\[0\]: every key must be one of .*got 'sigma'"),
    ],
)
def test_what_is_no_grid_is_refused_by_place(grids, complaint):
    with pytest.raises(SpecError, match=complaint):
        MeasurementSet(name="mine", measurements=grids)
