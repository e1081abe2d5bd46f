"""Specs: identity, expansion of names, grids, and the tables they rest on."""

from __future__ import annotations

import json

import pytest

from goaldriven.errors import SpecError
from goaldriven.layers import layer_position
from goaldriven.specs import (
    ARCHITECTURES,
    PUBLISHED_STATISTICS,
    RULES,
    STATISTICS,
    TASKS,
    NetworkSpec,
    Study,
)


def network(**changes) -> NetworkSpec:
    return NetworkSpec(**{"task": "digits", "architecture": "knet4", "rule": "ia"} | changes)


def test_network_id_is_the_hash_of_its_json_whatever_way_it_was_written():
    by_name = network()
    spelled_out = NetworkSpec(**json.loads(by_name.canonical_json()))
    assert spelled_out == by_name
    assert spelled_out.network_id == by_name.network_id
    as_integer = network(rule={"name": "ia", "optimizer": {"learning_rate": 1}})
    as_float = network(rule={"name": "ia", "optimizer": {"learning_rate": 1.0}})
    assert as_integer.network_id == as_float.network_id


@pytest.mark.parametrize(
    "change",
    [
        {"task": "digits_simclr"},
        {"architecture": {"name": "knet4", "width": 0.5}},
        {"rule": {"name": "ia", "credit": {"operations": {"forward_relu": True}}}},
        {"batch_size": 32},
        {"model_seed": 1},
        {"data_seed": 1},
        {"epochs": 50},
        {"record_every": 10},
    ],
)
def test_every_choice_changes_the_network_id(change):
    if "rule" in change:
        flag = not RULES["ia"].credit.operations.forward_relu
        change["rule"]["credit"]["operations"]["forward_relu"] = flag
    assert network(**change).network_id != network().network_id


def test_rule_changes_are_laid_over_the_named_rule():
    base = RULES["ia"]
    changed = network(rule={"name": "ia", "optimizer": {"learning_rate": 0.5}}).rule
    assert changed.optimizer.learning_rate == 0.5
    assert changed.optimizer.momentum == base.optimizer.momentum
    assert changed.credit == base.credit


def test_like_gives_a_rule_another_name():
    twin = network(rule={"name": "adam_twin", "like": "adam"}).rule
    assert twin.name == "adam_twin"
    assert (twin.credit, twin.optimizer) == (RULES["adam"].credit, RULES["adam"].optimizer)


def test_another_variant_replaces_the_whole_part():
    rule = network(rule={"name": "sgdm", "optimizer": {"name": "adam", "learning_rate": 0.1}}).rule
    assert rule.optimizer.model_dump().keys() == RULES["adam"].optimizer.model_dump().keys()


def test_specs_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        network().batch_size = 3


def test_record_epochs_of_the_paper():
    assert network().record_epochs == tuple(range(0, 101, 5))


def test_study_is_the_product_less_the_exclusions():
    study = Study(
        name="grid",
        tasks=["digits", "digits_simclr"],
        architectures=["knet4", "resnet10"],
        rules=["sgdm", "adam", "fa"],
        batch_sizes=[32, 64],
        model_seeds=[0, 1],
        exclude=[{"task": "digits_simclr", "architecture": "resnet10"}, {"rule": "fa"}],
    )
    networks = study.networks()
    assert len(networks) == (2 * 2 - 1) * 2 * 2 * 2
    assert len({n.network_id for n in networks}) == len(networks)
    assert not any(n.rule.name == "fa" for n in networks)


def test_study_round_trips_through_json():
    study = Study(name="s", tasks=["digits"], architectures=["knet5"], rules=["fa", "ia"])
    assert Study(**json.loads(study.model_dump_json())) == study


def test_the_45_statistics_and_the_24_published_ones():
    assert len(STATISTICS) == 45
    by_measure = [s.measure for s in STATISTICS.values()]
    assert [by_measure.count(m) for m in ("weight", "activation", "activity_change")] == [21, 21, 3]
    published = [STATISTICS[name] for name in PUBLISHED_STATISTICS]
    measures = [s.measure for s in published]
    assert [measures.count(m) for m in ("weight", "activation", "activity_change")] == [13, 8, 3]
    assert not any(s.summary in ("skew", "kurtosis") for s in published)
    assert STATISTICS["activation_raw_third_quartile"].published_name == "actraw_thirdquartile"
    assert STATISTICS["activity_change_sq"].published_name == "gradavgsq_id"


@pytest.mark.parametrize(
    ("n_layers", "expected"),
    [(4, "EMDD"), (5, "EMDDD"), (8, "EEMMDDDD"), (22, "E" * 7 + "M" * 7 + "D" * 8)],
)
def test_layer_positions_as_published(n_layers, expected):
    letters = {"early": "E", "middle": "M", "deep": "D"}
    assert "".join(letters[layer_position(i, n_layers)] for i in range(n_layers)) == expected


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_name_in_a_table_makes_a_spec(task, architecture):
    spec = network(task=task, architecture=architecture)
    assert (spec.task.name, spec.architecture.name) == (task, architecture)


def test_all_complaints_come_at_once_and_name_their_fields():
    with pytest.raises(SpecError) as caught:
        Study(
            name="s",
            tasks=["digit"],
            architectures=[{"name": "knet4", "width": -1}],
            rules=["sgdm"],
            epoch=3,
        )
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("got 'digit' (did you mean 'digits'?)")
    assert lines[1] == "architectures[0].width must be greater than 0, got -1"
    assert lines[2].endswith("got 'epoch' (did you mean 'epochs'?)")
