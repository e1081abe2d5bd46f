"""Perturbation rules by name: on the digits, in studies, and on two ranks."""

import numpy as np
import pytest
from torch import nn

import goaldriven as gd
from goaldriven import rules
from goaldriven.errors import SpecError
from goaldriven.rules.learned_feedback import LearnedFeedback
from goaldriven.rules.node_perturbation import NodePerturbation
from goaldriven.rules.perturbation import WeightPerturbation


def changed(name, learning_rate, **credit):
    optimizer = {"name": "adam", "learning_rate": learning_rate}
    return {"name": name, "credit": credit, "optimizer": optimizer}


FAST = {
    "wp": changed("wp", 0.01),
    "np": changed("np", 0.01),
    "npf": changed("npf", 0.01, optimizer={"name": "adam", "learning_rate": 0.01}),
}
SLOWER = FAST["npf"] | {"optimizer": {"name": "adam", "learning_rate": 0.003}}


def spec(rule, **changes):
    fixed = {"task": "digits", "architecture": "mlp", "rule": rule}
    return gd.NetworkSpec(**fixed | {"epochs": 10, "record_every": 10} | changes)


@pytest.mark.parametrize(("rule", "accuracy"), [("wp", 0.4), ("np", 0.85), ("npf", 0.93)])
def test_digits_are_learnt(rule, accuracy):
    trajectory = gd.train(spec(FAST[rule]))
    assert float(trajectory["metric"][0]) < 0.25
    assert float(trajectory["metric"][-1]) > accuracy


def test_learned_feedback_aligns_and_beats_fixed_feedback_where_that_fails():
    """The autoencoder's bottleneck of two units. Source: Lansdell et al. 2019."""
    task = {"task": "digits_autoencoder", "epochs": 30}
    networks = [gd.train(spec(rule, **task)) for rule in (FAST["npf"], "fa", FAST["np"])]
    learned, fixed, _ = networks
    losses = [float(network["loss"][-1]) for network in networks]
    assert losses[0] < 0.85 * losses[1]
    assert losses[1] < losses[2]
    angles = learned["weight_angle"].sel(layer=["bottleneck", "decoder", "reconstruction"])
    assert (angles[-1] < angles[0] - 15).all()
    assert (angles[-1] < fixed["weight_angle"].sel(layer=angles["layer"])[-1]).all()


def test_convolutions_learn_by_learned_feedback():
    small = {"name": "knet4", "width": 0.5}
    changes = {"architecture": small, "epochs": 12, "record_every": 12}
    trajectory = gd.train(spec(SLOWER, **changes))
    assert float(trajectory["metric"][-1]) > 0.75


def test_studies_use_the_losses_of_stimuli_where_they_are_independent():
    """With batch norm in training mode the loss is a scalar; training then runs all the same."""
    small = {"name": "resnet10", "width": 0.1}
    for rule in FAST.values():
        normed = gd.train(spec(rule, architecture=small, epochs=1, record_every=1))
        assert np.isfinite(normed["loss"].values).all()
        assert normed.attrs["outcome"] == "trained"


KINDS = {"wp": WeightPerturbation, "np": NodePerturbation, "npf": LearnedFeedback}


@pytest.mark.parametrize("name", FAST)
def test_rules_are_attached_by_name(name):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    credit = rules.make(**FAST[name]).attach(model)
    assert type(credit) is KINDS[name]
    assert credit.per_stimulus is False
    model.eval()
    assert credit.per_stimulus is (name != "wp")
    assert list(credit.backward_weights) == (["0", "2"] if name == "npf" else [])
    credit.remove()


def test_weight_perturbation_has_no_layers_to_choose():
    model = nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 2))
    with pytest.raises(SpecError, match="'layers' and 'unsupported' must be left out"):
        rules.make("wp").attach(model, layers=["0"])
    rules.make("wp").attach(model).remove()
    with pytest.raises(SpecError, match=r"got '1' \(LSTM\)"):
        rules.make("np").attach(model)
    rules.make("np").attach(model, layers=["0"])


@pytest.mark.parametrize("credit", ["weight_perturbation", "node_perturbation"])
def test_settings_out_of_range_are_named(credit):
    optimizer = {"name": "adam", "learning_rate": 0.01}
    for field, value, bound in (("sigma", 0, "0"), ("samples", 0, "0"), ("sigma", -1.0, "0")):
        with pytest.raises(SpecError, match=f"credit.{field} must be greater than {bound}, got"):
            rules.make("mine", credit={"name": credit, field: value}, optimizer=optimizer)
