"""Measurement conditions against NumPy, element by element, and what noise must do."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from goaldriven import rules
from goaldriven.errors import DataError
from goaldriven.layers import LayerInfo
from goaldriven.observables import draws, record, record_measured
from goaldriven.specs import RULES
from goaldriven.specs.measurement import MeasurementGrid, MeasurementSpec
from goaldriven.specs.statistics import STATISTICS

from .test_recording import LAYERS, OUTPUTS, make_model, stimuli

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

NETWORK, EPOCH, N = "abc", 3, 70
INDEX = {name: i for i, name in enumerate(STATISTICS)}

CONDITIONS = {
    "all": {},
    "fraction": {"unit_fraction": 0.3, "seed": 2},
    "count": {"unit_count": 20, "seed": 1},
    "one unit": {"unit_count": 1},
    "own": {"unit_fraction": 0.2, "own_units": True},
    "noise": {"noise": 0.2},
    "noise and units": {"noise": 0.2, "unit_fraction": 0.5},
    "more noise, more units": {"noise": 3.0, "unit_fraction": 0.75},
    "relative": {"relative_noise": 0.5, "unit_count": 30},
    "shared": {"noise": 0.3, "noise_kind": "shared", "correlation": 0.3, "unit_fraction": 0.6},
    "constant": {"noise": 0.3, "noise_kind": "constant", "unit_fraction": 0.6},
    "constant, relative": {"relative_noise": 0.3, "noise_kind": "constant"},
    "stimuli": {"stimulus_count": 9, "seed": 4},
    "everything": {"stimulus_count": 40, "unit_count": 15, "relative_noise": 1.0, "seed": 5},
}
SPECS = {name: MeasurementSpec(**fields) for name, fields in CONDITIONS.items()}


def measure(
    model: nn.Module, specs: list[MeasurementSpec], batches: object = None, **changes: object
) -> np.ndarray:
    fields = {"network_id": NETWORK, "epoch": EPOCH, "n_stimuli": N} | changes
    return record_measured(model, LAYERS, batches or stimuli(N).split(33), specs, **fields)


def kept(spec: MeasurementSpec, n: int, plus: int = 0) -> np.ndarray:
    """The units read of n; all in their order."""
    m = min(spec.unit_count, n) if spec.unit_count else ceil((spec.unit_fraction or 1) * n)
    seed = draws.own_seed(spec.seed, NETWORK) if spec.own_units else spec.seed
    return np.arange(n) if m == n else np.random.RandomState(seed + plus).permutation(n)[:m]


def noise_of(spec: MeasurementSpec, what: str, rows: int | None, m: int) -> np.ndarray:
    """Unit noise for tensors of m units: [rows, m], or [1, m] for a tensor without stimuli."""
    when = "always" if spec.noise_kind == "constant" else EPOCH
    purpose = (NETWORK, spec.seed, what, when)
    if rows is None or spec.noise_kind == "constant":
        return draws.vector(purpose, m)[None].astype(float)
    return draws.normals(purpose, 0, rows, m).astype(float)


def noisy(
    spec: MeasurementSpec, tensor: np.ndarray, keep: np.ndarray, what: str, reference_sd: float
) -> np.ndarray:
    """Kept units with their noise."""
    rows = len(tensor) if len(tensor) > 1 else None
    sigma, rho = spec.noise or spec.relative_noise * reference_sd, spec.rho
    e = noise_of(spec, what, rows, len(keep))
    values = tensor[:, keep] + sigma * np.sqrt(1 - rho) * e
    if rho:
        values = values + sigma * np.sqrt(rho) * noise_of(spec, f"{what}, shared", rows, 1)
    return values


def statistics(values: np.ndarray) -> np.ndarray:
    """The 21 statistics of each row, by their definitions."""
    columns = []
    for z in (values, np.abs(values), values**2):
        mean, var = z.mean(axis=1), z.var(axis=1)
        median, third = np.percentile(z, [50, 75], method="nearest", axis=1)
        fourth = ((z - mean[:, None]) ** 4).mean(axis=1)
        norm = np.sqrt((z**2).sum(axis=1))
        with np.errstate(all="ignore"):
            columns += [norm, mean, median, third, var, 3 * (mean - median) / np.sqrt(var),
                        fourth / var**2]  # fmt: skip
    return np.stack(columns, axis=1)


def shown(spec: MeasurementSpec) -> np.ndarray:
    if spec.stimulus_count is None:
        return np.arange(N)
    return np.random.RandomState(spec.seed + 2).permutation(N)[: spec.stimulus_count]


def changes(spec: MeasurementSpec, jacobians: np.ndarray, name: str) -> np.ndarray:
    """g of each stimulus from Jacobians [stimuli, outputs, inputs]."""
    _, n_out, n_in = jacobians.shape
    outputs, inputs = kept(spec, n_out, plus=1), kept(spec, n_in)
    if (len(outputs), len(inputs)) == (n_out, n_in):
        outputs, inputs = np.arange(n_out), np.arange(n_in)
    row_sums = jacobians[:, outputs].sum(axis=1)
    sigma = spec.noise or spec.relative_noise * row_sums[:64].std()
    rows = None if spec.noise_kind == "constant" else N
    e = noise_of(spec, f"{name}, change", rows, 2)
    m, rho = len(inputs), spec.rho
    total = np.sqrt((1 - rho) * m) * e[:, 0] + np.sqrt(rho) * m * e[:, 1]
    return (row_sums[:, inputs].sum(axis=1) + sigma * total) / len(outputs)


@pytest.fixture(scope="module")
def tensors() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Weights [1, n], activations [stimuli, n], Jacobians [stimuli, outputs, inputs] by layer."""
    model = make_model().eval()
    names = list(dict(model.named_children()))
    found = {}
    for name, output in OUTPUTS.items():
        begin, end = names.index(name), names.index(output) + 1
        a = model[:begin](stimuli(N)).detach()

        def summed(z: Tensor, b: int = begin, e: int = end) -> Tensor:
            return model[b:e](z.clone()).flatten(1).sum(dim=0)

        y = model[begin:end](a.clone()).detach().flatten(1)
        jacobian = torch.autograd.functional.jacobian(summed, a)  # outputs, stimuli, *input
        found[name] = (
            model.get_submodule(name).weight.detach().reshape(1, -1).numpy(),
            y.numpy(),
            jacobian.flatten(2).movedim(1, 0).numpy(),
        )
    return found


@pytest.fixture(scope="module")
def measured() -> dict[str, np.ndarray]:
    return dict(zip(SPECS, measure(make_model(), list(SPECS.values())), strict=True))


@pytest.mark.parametrize("condition", SPECS)
def test_every_condition_is_noise_then_units_then_function_then_statistic(
    condition: str,
    measured: dict[str, np.ndarray],
    tensors: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> None:
    spec = SPECS[condition]
    for row, (name, (weight, y, jacobians)) in zip(measured[condition], tensors.items(),
                                                   strict=True):  # fmt: skip
        w = noisy(spec, weight, kept(spec, weight.shape[1]), f"{name}, weights", weight.std())
        act = noisy(spec, y, kept(spec, y.shape[1]), name, y[:64].std())[shown(spec)]
        g = changes(spec, jacobians, name)[shown(spec)]
        want = np.concatenate(
            [
                statistics(w)[0],
                statistics(act).mean(axis=0),
                [g.mean(), np.abs(g).mean(), (g**2).mean()],
            ]
        )
        np.testing.assert_allclose(row, want, rtol=1e-8, atol=1e-11, err_msg=name)


def test_all_units_without_noise_is_the_plain_record_bit_for_bit(
    measured: dict[str, np.ndarray],
) -> None:
    plain = record(make_model(), LAYERS, stimuli(N).split(33))
    np.testing.assert_array_equal(measured["all"], plain)


def test_neither_company_nor_batches_matter(measured: dict[str, np.ndarray]) -> None:
    """Measured one by one, and over stimuli cut at odd places, conditions are what they were."""
    model = make_model()
    for name in ("more noise, more units", "everything", "shared", "stimuli"):
        np.testing.assert_allclose(
            measure(model, [SPECS[name]])[0], measured[name], rtol=1e-10, atol=1e-13
        )
    cut = measure(model, list(SPECS.values()), stimuli(N).split([5, 60, 1, 4]))
    np.testing.assert_allclose(cut, list(measured.values()), rtol=1e-8, atol=1e-11)


def test_memory_layout_does_not_matter(measured: dict[str, np.ndarray]) -> None:
    """Units of activations that lie channels last are the same units."""
    model = make_model().to(memory_format=torch.channels_last)
    batches = [x.contiguous(memory_format=torch.channels_last) for x in stimuli(N).split(33)]
    names = ["fraction", "noise and units", "stimuli"]
    got = measure(model, [SPECS[name] for name in names], batches)
    np.testing.assert_allclose(got, [measured[n] for n in names], rtol=1e-8, atol=1e-11)


def test_recording_leaves_no_trace() -> None:
    model, rng = make_model(), torch.get_rng_state()
    before = np.random.mtrand._rand.get_state()[1].copy()  # NumPy's own global one
    modes = [module.training for module in model.modules()]
    x = stimuli(N)
    copy = x.clone()
    measure(model, list(SPECS.values()), [x])
    assert torch.equal(x, copy)
    assert torch.equal(torch.get_rng_state(), rng)
    np.testing.assert_array_equal(np.random.mtrand._rand.get_state()[1], before)
    assert [module.training for module in model.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


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
