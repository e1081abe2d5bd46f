"""Measurement conditions against NumPy, element by element, and what noise must do."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from goaldriven.observables import draws, record, record_measured
from goaldriven.specs.measurement import MeasurementSpec
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
