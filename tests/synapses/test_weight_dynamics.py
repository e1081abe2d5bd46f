"""Weights of networks through learning as synapses through days; their figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from goaldriven.errors import DataError
from goaldriven.report.figures import weight_dynamics
from goaldriven.specs import NetworkSpec
from goaldriven.synapses import networks
from goaldriven.training import train
from goaldriven.training.checkpoints import checkpoint_path, save_checkpoint
from goaldriven.trajectories import write
from trajectories.made_up import make_network

EPOCHS = (0, 5, 10, 15, 20)
N = 400


def _layer(rule: str, rng: np.random.Generator) -> np.ndarray:
    """(epoch, synapse): ``fa`` follows a log-OU process, ``sgdm`` an additive random walk."""
    x = 0.3 * rng.standard_normal(N)
    rows = [np.exp(x) if rule == "fa" else 8 + x]
    for _ in EPOCHS[1:]:
        if rule == "fa":
            x = 0.5 * x + 0.3 * rng.standard_normal(N)
            rows.append(np.exp(x))
        else:
            rows.append(rows[-1] + 0.3 * rng.standard_normal(N))
    return np.array(rows) * rng.choice([-0.02, 0.02], N)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    for i, rule in enumerate(["fa", "sgdm"] * 5):
        network = make_network(f"{i:012x}", rule=rule, n_layers=3, epochs=EPOCHS)
        write(network, folder / "networks" / f"{i:012x}.nc")
        home = folder / "checkpoints" / f"{i:012x}"
        home.mkdir(parents=True)
        layers = {f"layer{k}": _layer(rule, rng) for k in range(3)}
        for t, epoch in enumerate(EPOCHS):
            tensors = {
                f"forward/{name}.weight": values[t].reshape(20, 20).astype(np.float32)
                for name, values in layers.items()
            }
            save_file(tensors, home / f"{epoch}.safetensors")
    return folder


def test_weights_are_sizes_in_units_of_the_layers_first_middling_synapse(study):
    weights = networks.network_weights(study, rng=np.random.default_rng(0), synapses=N)
    assert dict(weights.sizes) == {"synapse": 10 * 3 * N, "epoch": 5}
    mine = weights.isel(synapse=(weights["network"] == "0" * 11 + "3").values)
    mine = mine.isel(synapse=(mine["layer"] == "layer2").values)
    with safe_open(study / "checkpoints" / f"{3:012x}" / "0.safetensors", "numpy") as file:
        first = np.abs(file.get_tensor("forward/layer2.weight").ravel().astype(float))
    low, high = np.percentile(first, [40, 60])
    unit = first[(first >= low) & (first <= high)].mean()
    np.testing.assert_allclose(np.sort(mine["weight"][:, 0]), np.sort(first) / unit)
    assert set(mine["rule"].values) == {"sgdm"}
    assert set(mine["position"].values) == {"deep"}
    some = networks.network_weights(study, rng=np.random.default_rng(0), synapses=7)
    assert some.sizes["synapse"] == 10 * 3 * 7
    # the same synapse at every epoch: rows of a walk stay near their first value
    walk = some["weight"].values[some["rule"].values == "sgdm"]
    assert np.corrcoef(walk[:, 0], walk[:, 1])[0, 1] > 0.5


def test_each_group_gets_the_rule_that_made_its_weights(study):
    table = networks.fit_networks(study, rng=np.random.default_rng(1), synapses=60, bootstraps=20)
    best = table[(table["kind"] == "comparison") & (table["value"] == 0)].set_index("rule")["name"]
    assert best["fa"] == "log-OU"
    assert best["sgdm"] in {"random walk", "kesten additive", "kesten"}
    found = table[(table["kind"] == "kesten") & (table["estimator"] == "likelihood")]
    found = found.set_index(["rule", "name"])["value"]
    assert found["sgdm", "var_b"] == pytest.approx((0.3 / 8) ** 2, rel=0.15)
    assert abs(found["sgdm", "mu_a"]) < 0.05
    assert found["fa", "mu_a"] < -0.3


def test_groups_epochs_and_decayed_synapses(study, tmp_path):
    weights = networks.network_weights(
        study, rng=np.random.default_rng(0), synapses=30, epochs=(5, 15)
    )
    assert weights["epoch"].values.tolist() == [5, 10, 15]
    moments = networks.weight_moments(weights, by=("rule", "position"), bins=5)
    assert len(moments) == 2 * 3 * 5
    network = make_network("f" * 12, n_layers=3, epochs=(0, 5))
    write(network, tmp_path / "networks" / "one.nc")
    home = tmp_path / "checkpoints" / ("f" * 12)
    home.mkdir(parents=True)
    for epoch, factor in ((0, 1.0), (5, 1e-5)):
        value = {f"forward/layer{k}.weight": np.full((3, 4), factor) for k in range(3)}
        save_file(value, home / f"{epoch}.safetensors")
    decayed = networks.network_weights(tmp_path, rng=np.random.default_rng(0))["weight"].values
    assert (decayed[:, 0] == 1).all()
    assert (decayed[:, 1] == 0).all()


def test_mistakes_are_named(study, tmp_path):
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="by must be one of"):
        networks.fit_networks(study, rng=rng, by=("seed",))
    with pytest.raises(DataError, match="by must name one or more"):
        networks.fit_networks(study, rng=rng, by=())
    with pytest.raises(DataError, match="synapses must be 1 or more"):
        networks.network_weights(study, rng=rng, synapses=0)
    with pytest.raises(DataError, match="two or more checkpoints"):
        networks.network_weights(study, rng=rng, epochs=(5, 5))
    write(make_network(), tmp_path / "networks" / "one.nc")
    with pytest.raises(DataError, match="must hold checkpoints"):
        networks.network_weights(tmp_path, rng=rng)
    home = tmp_path / "checkpoints" / "0123456789ab"
    home.mkdir(parents=True)
    for epoch in (0, 5):
        (home / f"{epoch}.safetensors").write_bytes(b"cut short")
    with pytest.raises(DataError, match="cannot be read"):
        networks.network_weights(tmp_path, rng=rng)


def test_checkpoints_of_training_are_read(tmp_path):
    spec = NetworkSpec(
        task={"name": "digits", "train_limit": 64, "validation_limit": 32},
        architecture={"name": "knet4", "width": 0.1},
        rule="sgdm", batch_size=32, epochs=2, record_every=1,
    )  # fmt: skip
    home = tmp_path / "checkpoints" / spec.network_id
    trajectory = train(
        spec, on_record=lambda e, network: save_checkpoint(network, checkpoint_path(home, e))
    )
    write(trajectory, tmp_path / "networks" / f"{spec.network_id}.nc")
    weights = networks.network_weights(tmp_path, rng=np.random.default_rng(0), synapses=10)
    assert weights["epoch"].values.tolist() == [0, 1, 2]
    assert set(weights["layer"].values) == {"conv1", "conv2", "conv3", "fc4"}
    assert (weights["weight"].std("epoch") > 0).mean() > 0.5  # they have learnt


def test_the_figure_shows_every_group_and_model(study):
    rng = np.random.default_rng(0)
    weights = networks.network_weights(study, rng=rng, synapses=30)
    table = networks.fit_weights(weights, rng=rng, bootstraps=5)
    compared = table[table["kind"] == "comparison"]
    moments = networks.weight_moments(weights)
    figure = weight_dynamics(moments, compared)
    drift, spread, models = figure.axes
    mine = moments[moments["rule"] == "fa"]
    curve = drift.lines[0].get_xydata()
    np.testing.assert_allclose(
        curve, np.stack([mine["w_mean"], mine["dw_mean"] / mine["w_mean"]], axis=1)
    )
    np.testing.assert_allclose(
        spread.lines[0].get_ydata(), np.sqrt(mine["dw_var"]) / mine["w_mean"]
    )
    shown = [label.get_text() for label in models.get_yticklabels()]
    assert set(shown) == set(compared["name"])
    assert shown[-1] == compared.groupby("name")["value"].mean().idxmax()
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"fa", "sgdm"}
    extra = pd.concat([moments, moments.assign(rule="PV")])
    assert len(weight_dynamics(extra, compared).legends[0].get_texts()) == 3
