"""What noise and units do to what is measured of a layer: theory, element by element."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from goaldriven import rules
from goaldriven.errors import DataError
from goaldriven.layers import LayerInfo
from goaldriven.observables import draws, record, record_measured
from goaldriven.specs import RULES
from goaldriven.specs.measurement import MeasurementGrid, MeasurementSpec
from goaldriven.specs.statistics import STATISTICS

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

INDEX = {name: i for i, name in enumerate(STATISTICS)}


def perceptron(rule: str | None = None, seed: int = 0) -> nn.Sequential:
    """A layer of 400 rectified units, under a rule of its own if one is given."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(300, 400), nn.ReLU(), nn.Linear(400, 10))
    if rule is not None:
        generator = torch.Generator().manual_seed(1)
        rules.LearningRule(RULES[rule]).attach(
            model, generator=generator, noise_generator=generator, batch_size=64
        )
    return model


HIDDEN = [LayerInfo("0", "1", "early", rectified=True)]


def of_hidden(spec: MeasurementSpec, model: nn.Module, scale: float = 1.0, **where) -> np.ndarray:
    x = scale * torch.randn(100, 300, generator=torch.Generator().manual_seed(3))
    return record_measured(model, HIDDEN, [x], [spec], n_stimuli=100, **where)[0, 0]


def test_through_feedback_is_the_published_variant() -> None:
    model = perceptron("fa")
    x = torch.randn(100, 300, generator=torch.Generator().manual_seed(3))
    published = record(model, HIDDEN, [x], through_feedback=True)[0]
    true = record(model, HIDDEN, [x])[0]
    got = of_hidden(MeasurementSpec(through_feedback=True), model)
    np.testing.assert_array_equal(got, published)
    assert abs(true[42] - published[42]) > 0.1 * abs(true[42]), "B is not W"


def test_through_feedback_with_few_units_reads_b() -> None:
    """g = (1/|O|) Σ_{j∈O} [y_j > 0] Σ_{i∈I} B_ji."""
    model = perceptron("fa")
    spec = MeasurementSpec(unit_count=50, through_feedback=True, seed=7)
    x = torch.randn(100, 300, generator=torch.Generator().manual_seed(3))
    inputs = np.random.RandomState(7).permutation(300)[:50]
    outputs = np.random.RandomState(8).permutation(400)[:50]
    eye = torch.eye(300, requires_grad=True)
    (columns,) = torch.autograd.grad(model[0](eye)[:, outputs].sum(), eye)
    assert torch.allclose(columns[0], columns[1])  # Σ_j∈O B_j·, the same at every input
    opened = (model(x[:1]), model[1](model[0](x)).detach().numpy() > 0)[1]
    back = []
    for j in outputs:
        a = torch.zeros(1, 300, requires_grad=True)
        (b,) = torch.autograd.grad(model[0](a)[0, j], a)
        back.append(b[0, inputs].sum().item())
    g = opened[:, outputs] @ np.array(back) / 50
    got = of_hidden(spec, model)
    np.testing.assert_allclose(got[42], g.mean(), rtol=1e-4, atol=1e-6)


def test_the_mean_of_n_units_has_the_noises_variance_over_n() -> None:
    """Measured mean − true mean of the units ~ N(0, σ²/n), and σ² n_in/n_out² for the change."""
    model, sigma, n = perceptron(), 0.5, 100
    clean = of_hidden(MeasurementSpec(unit_count=n), model)
    noisy_spec = MeasurementSpec(unit_count=n, noise=sigma)
    got = np.array([of_hidden(noisy_spec, model, epoch=e) for e in range(300)]) - clean
    chi2 = np.sqrt(2 / 299)  # s.d. of a variance estimate, relative
    mean_weight, mean_act, g = (got[:, INDEX[k]] for k in (
        "weight_raw_mean", "activation_raw_mean", "activity_change_raw"))  # fmt: skip
    for found, want in (
        (mean_weight, sigma**2 / n),
        (mean_act, sigma**2 / n / 100),  # averaged over 100 stimuli
        (g, sigma**2 / n / 100),
    ):
        assert abs(found.var() / want - 1) < 4 * chi2
        assert abs(found.mean()) < 4 * np.sqrt(want / 300)
    assert abs(np.corrcoef(got[:-1, 0], got[1:, 0])[0, 1]) < 0.25, "epochs are independent"


def test_noise_is_independent_between_networks_layers_and_stimuli() -> None:
    a = draws.normals(("net1", 0, "conv1", 5), 0, 64, 500)
    others = [
        draws.normals(p, 0, 64, 500)
        for p in (("net2", 0, "conv1", 5), ("net1", 1, "conv1", 5), ("net1", 0, "conv2", 5),
                  ("net1", 0, "conv1", 10))
    ]  # fmt: skip
    others += [draws.normals(("net1", 0, "conv1", 5), 64, 128, 500), np.roll(a, 1, axis=0),
               np.roll(a, 1, axis=1)]  # fmt: skip
    for other in others:
        assert abs((a * other).mean()) < 4 / np.sqrt(a.size)
    assert abs(a.mean()) < 4 / np.sqrt(a.size)
    assert abs(a.var() - 1) < 4 * np.sqrt(2 / a.size)


def test_noise_of_few_is_the_beginning_of_that_of_many() -> None:
    purpose = ("net", 0, "layer", 0)
    many = draws.normals(purpose, 0, 200, 1000)
    np.testing.assert_array_equal(draws.normals(purpose, 70, 131, 37), many[70:131, :37])
    np.testing.assert_array_equal(draws.vector(purpose, 5), draws.vector(purpose, 50)[:5])


def test_relative_noise_knows_no_scale() -> None:
    """All tensors a hundred times as large: every statistic scales as without noise."""
    model, large = perceptron(), perceptron()
    with torch.no_grad():
        for parameter in large[0].parameters():
            parameter.mul_(64)
    spec = MeasurementSpec(unit_count=100, relative_noise=0.7)
    one, other = of_hidden(spec, model), of_hidden(spec, large)
    for name in ("weight_raw_norm", "activation_abs_mean", "activity_change_abs",
                 "weight_raw_third_quartile"):  # fmt: skip
        assert other[INDEX[name]] == pytest.approx(64 * one[INDEX[name]], rel=1e-5)
    absolute = MeasurementSpec(unit_count=100, noise=0.7)
    assert of_hidden(absolute, large)[0] < 40 * of_hidden(absolute, model)[0]


def test_constant_noise_cancels_in_differences_through_learning() -> None:
    """The mean of the same units moves by what the units moved, whatever the offsets."""
    before, after = perceptron(), perceptron()
    with torch.no_grad():
        after[0].weight.add_(0.01 * torch.randn(400, 300))
    names = ("weight_raw_mean", "activation_raw_mean", "activity_change_raw")
    for kind, cancels in (("constant", True), ("independent", False)):
        spec = MeasurementSpec(unit_count=50, noise=1.0, noise_kind=kind)
        moved = of_hidden(spec, after, epoch=5) - of_hidden(spec, before, epoch=0)
        clean = MeasurementSpec(unit_count=50)
        truly = of_hidden(clean, after, epoch=5) - of_hidden(clean, before, epoch=0)
        for name in names:
            same = abs(moved[INDEX[name]] - truly[INDEX[name]]) < 1e-5
            assert same == cancels, (kind, name)


def test_shared_noise_has_the_stated_correlation() -> None:
    """Var(mean of n) = σ² (ρ + (1 − ρ)/n), and the variance over units is σ²(1 − ρ)."""
    rho, sigma, n, epochs = 0.4, 2.0, 200, 300
    model = perceptron()
    with torch.no_grad():
        model[0].weight.zero_()
    spec = MeasurementSpec(unit_count=n, noise=sigma, noise_kind="shared", correlation=rho)
    got = np.array([of_hidden(spec, model, epoch=e) for e in range(epochs)])
    mean, variance = got[:, INDEX["weight_raw_mean"]], got[:, INDEX["weight_raw_var"]]
    want = sigma**2 * (rho + (1 - rho) / n)
    assert abs(mean.var() / want - 1) < 4 * np.sqrt(2 / epochs)
    assert variance.mean() == pytest.approx(sigma**2 * (1 - rho) * (1 - 1 / n), rel=0.02)


def test_units_are_the_same_at_all_epochs_and_noise_is_not() -> None:
    model = perceptron()
    for fields in ({"unit_count": 20}, {"unit_fraction": 0.1, "own_units": True},
                   {"stimulus_count": 7}):  # fmt: skip
        spec = MeasurementSpec(**fields)
        np.testing.assert_array_equal(*(of_hidden(spec, model, epoch=e) for e in (0, 40)))
        loud = MeasurementSpec(**fields, noise=0.1)
        first, second = (of_hidden(loud, model, epoch=e) for e in (0, 40))
        assert (first != second).all()


def test_networks_share_their_units_unless_told_otherwise() -> None:
    model = perceptron()

    def of_two(spec: MeasurementSpec) -> list[np.ndarray]:
        return [of_hidden(spec, model, network_id=i) for i in ("one", "other")]

    np.testing.assert_array_equal(*of_two(MeasurementSpec(unit_count=20)))
    one, other = of_two(MeasurementSpec(unit_count=20, own_units=True))
    assert not np.isclose(one[[0, 21, 42]], other[[0, 21, 42]], rtol=1e-6).any()


def test_fewer_units_scatter_more() -> None:
    """The mean over n of N units without replacement: variance S²/n (1 − n/N)."""
    model = perceptron()
    w = model[0].weight.detach().numpy().ravel().astype(float)
    column = INDEX["weight_raw_mean"]
    for n in (10, 1000):
        specs = MeasurementGrid(unit_count=n, seed=list(range(400))).expand()
        x = torch.randn(2, 300, generator=torch.Generator().manual_seed(3))
        means = record_measured(model, HIDDEN, [x], specs)[:, 0, column]
        want = w.var() / n * (1 - n / w.size)
        assert abs(means.var() / want - 1) < 4 * np.sqrt(2 / 400)


def test_what_has_diverged_is_so_in_the_result() -> None:
    model = perceptron()
    with torch.no_grad():
        model[0].weight[5, 5] = float("nan")
    specs = [MeasurementSpec(), MeasurementSpec(relative_noise=0.1, unit_count=300)]
    got = record_measured(model, HIDDEN, [torch.randn(8, 300)], specs)
    assert np.isnan(got[0]).all()
    assert np.isnan(got[1, 0, :21]).all()
    assert np.isnan(got[1, 0, 42:]).all()


def test_bad_input() -> None:
    model, x = perceptron(), torch.randn(8, 300)
    few = [MeasurementSpec(stimulus_count=4)]
    with pytest.raises(DataError, match="'measurements' must hold at least one"):
        record_measured(model, HIDDEN, [x], [])
    with pytest.raises(DataError, match="'n_stimuli' must be given"):
        record_measured(model, HIDDEN, [x], few)
    with pytest.raises(DataError, match="must be the 8 stimuli in 'batches', got 9"):
        record_measured(model, HIDDEN, [x], few, n_stimuli=9)
    with pytest.raises(DataError, match="at least one stimulus"):
        record_measured(model, HIDDEN, [], [MeasurementSpec()])
    with pytest.raises(DataError, match="layer must be one of 0, 1, 2"):
        record_measured(model, [LayerInfo("9", "9", "deep", False)], [x], [MeasurementSpec()])
