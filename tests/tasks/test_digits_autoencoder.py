"""The digits' autoencoder: its objective, its metric, and that networks learn it."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from torch import nn

import goaldriven as gd
from goaldriven.specs.tasks import Digits, DigitsAutoencoder
from goaldriven.tasks import load


def all_stimuli(task):
    train = torch.cat([b.stimuli for b in task.train_batches(1, torch.Generator())])
    return train.flatten(1), torch.cat(list(task.validation_batches(64))).flatten(1)


class Affine(nn.Module):
    """x ↦ (x − centre) M + centre."""

    def __init__(self, centre, matrix):
        super().__init__()
        self.centre, self.matrix = (torch.as_tensor(np.float32(a)) for a in (centre, matrix))

    def forward(self, x):
        return (x.flatten(1) - self.centre) @ self.matrix + self.centre


def test_stimuli_are_those_of_the_digits_task():
    ours, digits = load(DigitsAutoencoder()), load(Digits())
    seeded = [torch.Generator().manual_seed(3) for _ in range(2)]
    pairs = zip(ours.train_batches(64, seeded[0]), digits.train_batches(64, seeded[1]), strict=True)
    for one, other in pairs:
        assert torch.equal(one.stimuli, other.stimuli)
        assert torch.equal(one.labels, other.labels)
    assert torch.equal(*(torch.cat(list(t.validation_batches(450))) for t in (ours, digits)))


@pytest.mark.parametrize("n", [2, 10])
def test_metric_of_principal_components(n):
    """The variance that PCA of the training images explains of the validation images."""
    task = load(DigitsAutoencoder())
    train, validation = all_stimuli(task)
    pca = PCA(n).fit(train.double())
    model = Affine(pca.mean_, pca.components_.T @ pca.components_)
    shown = pca.inverse_transform(pca.transform(validation.double()))
    left = np.square(shown - validation.numpy())
    evaluation = task.evaluate(model, 100)
    assert evaluation.loss == pytest.approx(left.mean(), rel=1e-5)
    around = np.square(validation.double().numpy() - train.double().numpy().mean(0))
    assert evaluation.metric == pytest.approx(1 - left.sum() / around.sum(), rel=1e-5)
    # scikit-learn centres by the validation mean, which hardly differs.
    own = r2_score(validation, shown, multioutput="variance_weighted")
    assert evaluation.metric == pytest.approx(own, abs=0.01)


def test_metric_of_a_perfect_a_blind_and_a_bad_model():
    task = load(DigitsAutoencoder())
    train, _ = all_stimuli(task)
    perfect = task.evaluate(Affine(np.zeros(64), np.eye(64)), 100)
    assert (perfect.loss, perfect.metric) == (0.0, 1.0)
    blind = task.evaluate(Affine(train.mean(0), np.zeros((64, 64))), 100)
    assert blind.metric == pytest.approx(task.chance, abs=1e-6)
    dark = task.evaluate(Affine(np.zeros(64), np.zeros((64, 64))), 100)
    assert dark.loss == pytest.approx(1.0, abs=0.03), "units of the pixels' deviation"
    assert dark.metric == 0.0, "worse than blind is 0 too"


def spec(rule, **changes):
    fixed = {"task": "digits_autoencoder", "architecture": "mlp", "rule": rule}
    return gd.NetworkSpec(**fixed | {"epochs": 10, "record_every": 5} | changes)


NP = {"name": "np", "optimizer": {"learning_rate": 0.001}}  # the stored rate is for deeper nets


@pytest.mark.parametrize("rule", ["sgdm", "adam", "fa", NP, "npf"], ids=str)
def test_networks_learn_to_reconstruct(rule):
    trajectory = gd.train(spec(rule))
    assert trajectory.attrs["outcome"] == "trained"
    assert trajectory.attrs["metric_name"] == "variance explained"
    loss = trajectory["loss"].values
    assert loss[-1] < 0.6 * loss[0]
    assert list(trajectory["layer"].values) == ["fc1", "bottleneck", "decoder", "reconstruction"]
    assert list(trajectory["position"].values) == ["early", "middle", "deep", "deep"]
    assert np.isfinite(trajectory["observable"].values).all()


def test_nonlinear_autoencoders_do_better_than_principal_components():
    trajectory = gd.train(spec("adam", epochs=50, record_every=50))
    task = load(DigitsAutoencoder())
    train, validation = all_stimuli(task)
    pca = PCA(2).fit(train)
    shown = pca.inverse_transform(pca.transform(validation))
    of_pca = r2_score(validation, shown, multioutput="variance_weighted")
    assert float(trajectory["metric"][-1]) > of_pca + 0.1


def test_a_wider_bottleneck_lets_more_through():
    narrow, wide = (
        gd.train(spec("adam", task={"name": "digits_autoencoder", "bottleneck": n}))
        for n in (1, 16)
    )
    assert float(wide["loss"][-1]) < 0.6 * float(narrow["loss"][-1])


@pytest.mark.parametrize("architecture", ["knet4", "resnet10_v2"])
def test_any_architecture_can_be_the_encoder(architecture):
    small = {"name": architecture, "width": 0.25}
    trajectory = gd.train(spec("adam", architecture=small, epochs=4, record_every=4))
    layers = list(trajectory["layer"].values)
    assert layers[-3:] == ["bottleneck", "decoder", "reconstruction"]
    assert float(trajectory["loss"][-1]) < 0.9 * float(trajectory["loss"][0])


def test_wrong_settings_are_named():
    with pytest.raises(gd.errors.SpecError, match="bottleneck must be greater than 0, got 0"):
        spec("adam", task={"name": "digits_autoencoder", "bottleneck": 0})
