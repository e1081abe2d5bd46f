"""Search specs: what a trial's values make of the base network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from goaldriven.errors import SpecError
from goaldriven.search import load_search, shipped_searches
from goaldriven.search.files import search_from_yaml
from goaldriven.specs import RULES, NetworkSpec
from goaldriven.specs.search import SearchSpec
from goaldriven.specs.search_space import Choice, Range

IA = {"name": "ia", "credit": {"amp": 1.0, "decay": 0.12}}
BASE = {"task": "digits", "architecture": "knet4", "rule": IA, "epochs": 3}


def test_over_then_space_then_derived():
    """α = (α/β)·β of drawn values; the rate follows the batch size of each variation."""
    search = SearchSpec(
        name="s",
        base=BASE,
        space={"rule.credit.decay": {"low": 0.1, "high": 10}},
        variables={"amp_over_decay": {"low": 0.1, "high": 200}},
        derived={
            "rule.credit.amp": {"product": ["amp_over_decay", "rule.credit.decay"]},
            "rule.optimizer.learning_rate": {"product": "batch_size", "divided_by": 2048},
        },
        over={"batch_size": [32, 128], "model_seed": [7]},
    )
    values = {"rule.credit.decay": 3.0, "amp_over_decay": 12.0}
    networks = [search.network(values, variation) for variation in search.over]
    assert [n.batch_size for n in networks] == [32, 128]
    assert [n.model_seed for n in networks] == [7, 7]
    assert [n.rule.credit.amp for n in networks] == [36.0, 36.0]
    assert [n.rule.credit.decay for n in networks] == [3.0, 3.0]
    assert [n.rule.optimizer.learning_rate for n in networks] == [32 / 2048, 128 / 2048]
    untouched = RULES["ia"].credit.model_dump(exclude={"amp", "decay"})
    assert networks[0].rule.credit.model_dump(exclude={"amp", "decay"}) == untouched
    assert search.network(values).batch_size == 64


def test_nothing_drawn_is_the_base():
    """A network with every value at the base's own is the base."""
    base = NetworkSpec(**BASE, record_every=3)
    search = SearchSpec(
        name="s",
        base=BASE,
        space={"rule.credit.decay": [0.01, 0.12], "batch_size": [32, 64]},
        derived={"data_seed": {"same_as": "model_seed"}},
    )
    assert search.network({"rule.credit.decay": 0.12, "batch_size": 64}) == base


def test_copies_and_chains_of_derived_settings():
    search = SearchSpec(
        name="s",
        base=BASE,
        space={"rule.credit.operations.forward_batch_centring": [True, False]},
        derived={
            "rule.credit.operations.input_batch_centring": {
                "same_as": "rule.credit.operations.forward_batch_centring"
            },
            "rule.credit.null": {"product": ["rule.credit.amp", 3], "divided_by": [2, "1e1"]},
            "rule.credit.decay": {"product": ["rule.credit.null", 2]},
        },
    )
    for centred in (True, False):
        credit = search.network({"rule.credit.operations.forward_batch_centring": centred}).rule
        operations = credit.credit.operations
        assert operations.forward_batch_centring is operations.input_batch_centring is centred
        assert credit.credit.null == pytest.approx(0.15)
        assert credit.credit.decay == pytest.approx(0.3)


def test_choices_of_whole_parts_come_before_their_fields():
    search = SearchSpec(
        name="s",
        base=BASE,
        space={
            "architecture.width": {"low": 0.1, "high": 1},
            "architecture": ["knet5", {"name": "resnet10", "width": 3}],
            "rule.optimizer.learning_rate": {"low": 0.1, "high": 0.2},
            "rule": ["fa", "sgdm"],
        },
    )
    values = {
        "architecture.width": 0.5,
        "architecture": {"name": "resnet10", "width": 3},
        "rule.optimizer.learning_rate": 0.125,
        "rule": "fa",
    }
    network = search.network(values)
    assert network.architecture.model_dump() == {"name": "resnet10", "width": 0.5}
    assert network.rule.credit == RULES["fa"].credit
    assert network.rule.optimizer == RULES["fa"].optimizer.model_copy(
        update={"learning_rate": 0.125}
    )


def test_variations_as_a_grid_are_the_product_of_the_lists():
    lists = {"architecture": ["knet4", "knet5"], "batch_size": [32, 64], "model_seed": [2]}
    search = SearchSpec(name="s", base=BASE, space={"rule.credit.decay": [1, 2]}, over=lists)
    assert search.over == (
        {"architecture": "knet4", "batch_size": 32, "model_seed": 2},
        {"architecture": "knet4", "batch_size": 64, "model_seed": 2},
        {"architecture": "knet5", "batch_size": 32, "model_seed": 2},
        {"architecture": "knet5", "batch_size": 64, "model_seed": 2},
    )


def test_identity_survives_json_and_leaves_out_what_may_grow(search_of):
    search = search_of(confirm={"best": 2}, over={"model_seed": [1, 2]})
    again = SearchSpec(**json.loads(search.model_dump_json()))
    assert again == search
    grown = search_of(trials=99, description="more", over={"model_seed": [1, 2]})
    assert grown.identity() == search.identity()
    for change in ({"seed": 1}, {"over": {"model_seed": [1, 3]}}, {"startup_trials": 5}):
        other = search_of(**({"over": {"model_seed": [1, 2]}} | change))
        assert other.identity() != search.identity()


def test_new_values_of_what_is_searched_do_not_make_another_search(search_of, monkeypatch):
    """The outcome of a search goes into the catalogue; the search is still the same."""
    search = search_of()

    def with_new(**changes):
        rule = RULES["sgdm"]
        optimizer = rule.optimizer.model_copy(update=changes)
        monkeypatch.setitem(RULES, "sgdm", rule.model_copy(update={"optimizer": optimizer}))
        return search_of()

    assert with_new(learning_rate=0.5, momentum=0.1).identity() == search.identity()
    assert with_new(weight_decay=0.5).identity() != search.identity()


@pytest.mark.parametrize("name", shipped_searches())
def test_shipped_searches_are_valid_and_described(name):
    search = load_search(name)
    assert search.name == name
    assert search.description


PUBLISHED = {
    "wm_tpe": "weight_mirror/tpe",
    "wm_ad_tpe": "weight_mirror/tpe_adaptive",
    "wm_ad_ops_tpe": "weight_mirror/tpe_adaptive_operations",
    "ia_tpe": "information_alignment/tpe",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_optimum_lies_in_its_search_space(name):
    """Table 5.5's column, drawn, is Table 5.5's rule at its batch size of 256."""
    search, rule = load_search(name), RULES[PUBLISHED[name]]
    published = NetworkSpec(task="digits", architecture="knet4", rule=rule, batch_size=256)
    fields = published.model_dump(mode="json")
    values = {"amp_over_decay": rule.credit.amp / rule.credit.decay}
    for path in search.space:
        value = fields
        for part in path.split("."):
            value = value[part]
        values[path] = value
    assert set(values) == set(search.distributions)
    for path, value in values.items():
        assert search.distributions[path].problem(value) is None, path
    drawn = search.network(values, {} if "batch_size" in values else {"batch_size": 256})
    credit = drawn.rule.credit
    assert credit.amp == pytest.approx(rule.credit.amp, rel=1e-12)
    same = credit.model_copy(update={"amp": rule.credit.amp})
    if name == "wm_tpe":  # its rate is the batch size over 2048, of which it has 2048
        assert credit.optimizer.learning_rate == 256 / 2048
        rate = {"learning_rate": rule.credit.optimizer.learning_rate}
        same = same.model_copy(update={"optimizer": credit.optimizer.model_copy(update=rate)})
    assert same == rule.credit
    assert drawn.rule.optimizer.learning_rate == 256 / 2048
    scaled = rule.optimizer.learning_rate * 256 / rule.optimizer.reference_batch_size
    assert drawn.rule.optimizer.learning_rate == scaled
    leave = {"learning_rate", "reference_batch_size"}
    assert drawn.rule.optimizer.model_dump(exclude=leave) == rule.optimizer.model_dump(
        exclude=leave
    )


def test_the_search_in_the_docs_is_one():
    text = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    search = search_from_yaml(text.split("```yaml\n")[1].split("```")[0])
    assert len(search.over) == 2
    assert len(search.confirm_over) == 4


def test_ranges_and_choices_know_what_they_hold():
    assert Range(low=1, high=4, integer=True).problem("2") is None
    assert Range(low=1, high=4, integer=True).problem(2.5) == (
        "must be a whole number between 1 and 4, got 2.5"
    )
    assert Range(low=0, high=1).problem(True) == "must be between 0 and 1, got True"
    choice = Choice(choices=(None, 64, "64x", {"name": "adam", "learning_rate": 1}))
    assert choice.labels == ("null", "64", "64x", '{"learning_rate": 1, "name": "adam"}')
    assert choice.problem({"learning_rate": 1, "name": "adam"}) is None
    assert choice.problem(65) is not None


def test_a_network_that_is_not_valid_is_the_users_to_mend(search_of):
    with pytest.raises(SpecError, match="momentum must be less than 1, got 1"):
        search_of().network({"rule.optimizer.learning_rate": 0.1, "rule.optimizer.momentum": 1.0})
