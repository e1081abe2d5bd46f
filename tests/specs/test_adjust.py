"""Settings that depend on what they are combined with."""

from __future__ import annotations

import pytest

from goaldriven.errors import SpecError
from goaldriven.specs import RULES, Study

SMALL = {
    "name": "small",
    "tasks": ["digits", "spoken_digits"],
    "architectures": ["knet4", "resnet10"],
    "rules": ["sgdm", "ia"],
}


def of(study: Study, **names: str):
    (found,) = [
        n for n in study.networks() if all(getattr(n, k).name == v for k, v in names.items())
    ]
    return found


def test_settings_go_to_the_networks_named_and_to_no_others():
    study = Study(
        **SMALL,
        adjust=[
            {"architectures": ["resnet10"], "rule": {"optimizer": {"learning_rate": 0.5}}},
            {"tasks": ["digits"], "rules": ["ia"], "rule": {"credit": {"delay_epochs": 3}}},
            {"tasks": ["spoken_digits"], "task": {"snr_db": 3.0}},
        ],
    )
    assert len(study.networks()) == 8
    assert of(study, task="digits", architecture="knet4", rule="sgdm").rule == RULES["sgdm"]
    both = of(study, task="digits", architecture="resnet10", rule="ia").rule
    assert (both.optimizer.learning_rate, both.credit.delay_epochs, both.name) == (0.5, 3, "ia")
    assert both.credit.amp == RULES["ia"].credit.amp
    assert of(study, task="digits", architecture="knet4", rule="ia").rule.optimizer == (
        RULES["ia"].optimizer
    )
    assert {n.task.snr_db for n in study.networks() if n.task.name == "spoken_digits"} == {3.0}
    assert Study.model_validate_json(study.model_dump_json()) == study


def test_later_adjustments_are_laid_over_earlier_ones():
    rates = [{"rule": {"optimizer": {"learning_rate": rate}}} for rate in (0.1, 0.2)]
    study = Study(**SMALL, adjust=rates)
    assert {n.rule.optimizer.learning_rate for n in study.networks()} == {0.2}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"tasks": ["digits"]}, "must give settings of task or rule, got neither"),
        ({"rules": ["fa"], "rule": {"optimizer": {}}}, "adjust: rules: every name must be one of"),
        ({"rule": {"name": "mine"}}, "adjust: rule must keep its name, got 'mine'"),
        ({"rule": {"optimizer": {"lerning_rate": 1}}}, "adjust: sgdm: optimizer: every key"),
        ({"rule": {"optimizer": {"learning_rate": -1}}}, "optimizer.learning_rate must be greater"),
        ({"tasks": ["digits"], "task": {"snr_db": 1.0}}, "adjust: digits: every key must be one"),
    ],
)
def test_adjustments_that_cannot_be_are_named(entry, message):
    with pytest.raises(SpecError, match=message):
        Study(**SMALL, adjust=[entry])


def test_a_study_without_adjustments_has_the_networks_it_had():
    """So that folders begun before go on."""
    assert Study(**SMALL).networks() == Study(**SMALL, adjust=[]).networks()
