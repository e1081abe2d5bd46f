"""Stacking keeps every number in its place; what is admissible follows from the data."""

from __future__ import annotations

import numpy as np
import pytest

from goaldriven.errors import DataError
from goaldriven.specs import STATISTICS
from goaldriven.trajectories import admissible, load_examples, to_examples, trained, write
from goaldriven.trajectories.finite import not_finite

from .made_up import diverge, make_network


def test_examples_are_the_layers_in_order():
    networks = [
        make_network("a", rule="fa", n_layers=3, seed=1, batch_size=32),
        make_network("b", rule="ia", n_layers=5, seed=2, model_seed=7),
    ]
    examples = to_examples(networks)
    assert dict(examples.sizes) == {"example": 8, "epoch": 3, "statistic": 45}
    assert examples["network"].values.tolist() == ["a"] * 3 + ["b"] * 5
    assert examples["layer"].values.tolist() == [
        *("layer0", "layer1", "layer2"),
        *("layer0", "layer1", "layer2", "layer3", "layer4"),
    ]
    assert examples["position"].values.tolist() == [
        *("early", "middle", "deep"),
        *("early", "middle", "deep", "deep", "deep"),
    ]
    assert examples["rule"].values.tolist() == ["fa"] * 3 + ["ia"] * 5
    assert examples["batch_size"].values.tolist() == [32] * 3 + [64] * 5
    assert examples["model_seed"].values.tolist() == [0] * 3 + [7] * 5
    for i in range(8):
        network, layer = networks[int(i >= 3)], i if i < 3 else i - 3
        for j, epoch in enumerate((0, 5, 10)):
            np.testing.assert_array_equal(
                examples["value"].values[i, j],
                network["observable"].sel(epoch=epoch).values[layer],
            )


def test_networks_with_and_without_the_newer_diagnostics_stack(tmp_path):
    networks = [make_network("a"), make_network("b", rule="fa", seed=1, diagnostics=True)]
    examples = to_examples(networks)
    plain = to_examples([networks[0], networks[1].drop_dims("pair").drop_vars("update_angle")])
    assert examples.identical(plain)
    for network in networks:
        path = tmp_path / "networks" / f"{network.attrs['network_id']}.nc"
        write(network, path)
    assert load_examples(tmp_path).identical(examples)


def test_numbers_of_one_network_by_hand():
    network = make_network(n_layers=2, epochs=(0, 5))
    network["observable"].values[:] = np.arange(2 * 2 * 45).reshape(2, 2, 45)
    value = to_examples([network])["value"]
    assert value.sel(statistic="weight_raw_norm").values.tolist() == [[0.0, 90.0], [45.0, 135.0]]


def test_stacking_does_not_change_its_input():
    network = make_network()
    before = network.copy(deep=True)
    to_examples([network])["value"].values[:] = 0
    assert network.identical(before)


def test_networks_that_do_not_fit_together():
    with pytest.raises(DataError, match="at least one trajectory, got none"):
        to_examples([])
    with pytest.raises(DataError, match="must not repeat a network, got a twice"):
        to_examples([make_network("a"), make_network("a")])
    with pytest.raises(
        DataError,
        match=r"must share their 'epoch' coordinate, got \[0, 5, 10\] in a and \[0, 5\] in b",
    ):
        to_examples([make_network("a"), make_network("b", epochs=(0, 5))])
    shuffled = make_network("b").isel(statistic=slice(None, None, -1))
    with pytest.raises(DataError, match="'statistic' coordinate, got 45 from 'weight_raw_norm'"):
        to_examples([make_network("a"), shuffled])


def test_admissible_is_what_every_trained_network_has():
    a, b = make_network("a", seed=1), make_network("b", seed=2)
    a["observable"].loc[{"statistic": "weight_raw_skew", "epoch": 5, "layer": "layer2"}] = np.nan
    b["observable"].loc[{"statistic": "activation_sq_var", "epoch": 10}] = np.inf
    lost = diverge(make_network("c", seed=3), 5)
    expected = tuple(s for s in STATISTICS if s not in ("weight_raw_skew", "activation_sq_var"))
    assert admissible(to_examples([a, b])) == expected
    assert admissible(to_examples([a, b, lost])) == expected  # a diverged one has no veto
    assert admissible(to_examples([b, lost])) == tuple(
        s for s in STATISTICS if s != "activation_sq_var"
    )
    with pytest.raises(DataError, match="at least one network that did not diverge, got none"):
        admissible(to_examples([lost]))


def test_trained_leaves_out_the_diverged():
    examples = to_examples([make_network("a"), diverge(make_network("b"), 5), make_network("c")])
    assert trained(examples)["network"].values.tolist() == ["a"] * 4 + ["c"] * 4


def test_from_files_or_from_memory_is_the_same(tmp_path):
    networks = [make_network("a", seed=1), diverge(make_network("b", seed=2), 5)]
    for network in networks:
        write(network, tmp_path / "networks" / f"{network.attrs['network_id']}.nc")
    assert load_examples(tmp_path).identical(to_examples(networks))


def test_networks_that_are_not_finite_stand_out():
    """A statistic that most networks lack is no fault of one network; all of it together is."""
    full, most = {"a", "b", "rare"}, {"a", "b"}
    assert not_finite({"1": full, "2": most, "3": most}) == ()
    assert not_finite({"1": full, "2": {"a"}, "3": most, "4": set(), "5": most}) == ("2", "4")
    assert not_finite({"1": set()}) == ("1",)
    assert not_finite({}) == ()
