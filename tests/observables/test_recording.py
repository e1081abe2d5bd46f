"""Recording a whole network against statistics and Jacobians taken one stimulus at a time."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from goaldriven import architectures, rules
from goaldriven.errors import DataError
from goaldriven.heads import Contrastive, Readout
from goaldriven.layers import LayerInfo
from goaldriven.observables import activation_statistics, record
from goaldriven.specs.architectures import ARCHITECTURES
from goaldriven.specs.statistics import STATISTICS

from .numpy_statistics import reference

# Forward-mode differentiation in torch scripts some of its formulas.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")


def layer(name: str, output: str | None = None) -> LayerInfo:
    return LayerInfo(name, output or name, "early", rectified=True)


class Square(nn.Module):
    """A non-linearity with a derivative of its own at every stimulus."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x**2


def make_model() -> nn.Sequential:
    """A layer with each way of getting from its weights to its activity."""
    torch.manual_seed(0)
    modules = OrderedDict(
        bare=nn.Conv2d(2, 4, 3, padding=1),
        overwriting=nn.ReLU(inplace=True),
        rectified=nn.Conv2d(4, 6, 3, padding=1, groups=2),
        relu=nn.ReLU(),
        inplace=nn.Conv2d(6, 5, 3, stride=2),
        relu_inplace=nn.ReLU(inplace=True),
        normed=nn.Conv2d(5, 4, 1, bias=False),
        bn=nn.BatchNorm2d(4),
        bn_relu=nn.ReLU(inplace=True),
        affine=nn.Conv2d(4, 3, 2),
        affine_bn=nn.BatchNorm2d(3, affine=False),
        pooled=nn.Conv2d(3, 4, 3, padding=1),
        pool=nn.MaxPool2d(2),
        pool_relu=nn.ReLU(),
        flatten=nn.Flatten(),
        smooth=nn.Linear(4, 12),
        elu=nn.ELU(inplace=True),
        square_layer=nn.Linear(12, 9),
        square=Square(),
        dropout=nn.Dropout(0.9),
        last=nn.Linear(9, 3),
    )
    model = nn.Sequential(modules).double()
    for norm in (model.bn, model.affine_bn):  # type: ignore[union-attr]
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 2)
    nn.init.uniform_(model.bn.weight, -1, 2)  # type: ignore[union-attr, arg-type]
    nn.init.normal_(model.bn.bias)  # type: ignore[union-attr, arg-type]
    return model.train()


OUTPUTS = {
    "bare": "bare",
    "rectified": "relu",
    "inplace": "relu_inplace",
    "normed": "bn_relu",
    "affine": "affine_bn",
    "pooled": "pool_relu",
    "smooth": "elu",
    "square_layer": "square",
    "last": "last",
}
LAYERS = [layer(name, output) for name, output in OUTPUTS.items()]


def stimuli(n: int = 12) -> Tensor:
    return torch.randn(n, 2, 8, 8, generator=torch.Generator().manual_seed(1)).double()


def brute_force(model: nn.Sequential, x: Tensor) -> np.ndarray:
    """[layer, 45], stimulus by stimulus, with whole Jacobians."""
    model.eval()
    names = list(dict(model.named_children()))
    rows = []
    for name, output in OUTPUTS.items():
        begin, end = names.index(name), names.index(output) + 1
        statistics, changes = [], []
        for stimulus in x:
            a = model[:begin](stimulus[None]).detach()
            y = model[begin:end](a.clone())
            matrix = torch.autograd.functional.jacobian(
                lambda z, b=begin, e=end: model[b:e](z.clone()), a
            )
            statistics.append(reference(y.detach().numpy()))
            changes.append(matrix.sum().item() / y.numel())
        g = np.array(changes)
        weight = reference(model.get_submodule(name).weight.detach().numpy())
        change = [g.mean(), np.abs(g).mean(), (g**2).mean()]
        rows.append(np.concatenate([weight, np.mean(statistics, axis=0), change]))
    return np.array(rows)


@pytest.fixture(scope="module")
def recorded_and_brute_force() -> tuple[np.ndarray, np.ndarray]:
    return record(make_model(), LAYERS, stimuli().split(5)), brute_force(make_model(), stimuli())


@pytest.mark.parametrize("name", STATISTICS)
def test_every_observable_of_every_kind_of_layer(
    name: str, recorded_and_brute_force: tuple[np.ndarray, np.ndarray]
) -> None:
    recorded, want = recorded_and_brute_force
    assert recorded.shape == (len(LAYERS), 45)
    assert recorded.dtype == np.float64
    column = list(STATISTICS).index(name)
    np.testing.assert_allclose(recorded[:, column], want[:, column], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("sizes", [[12], [1] * 12, [5, 5, 2], [1, 10, 1], [7, 0, 5]])
def test_batches_do_not_matter(
    sizes: list[int], recorded_and_brute_force: tuple[np.ndarray, np.ndarray]
) -> None:
    got = record(make_model(), LAYERS, (part for part in stimuli().split(sizes)))
    np.testing.assert_allclose(got, recorded_and_brute_force[0], rtol=1e-9, atol=1e-13)


def test_single_precision_agrees_with_double(
    recorded_and_brute_force: tuple[np.ndarray, np.ndarray],
) -> None:
    got = record(make_model().float(), LAYERS, [stimuli().float()])
    np.testing.assert_allclose(got, recorded_and_brute_force[1], rtol=1e-3, atol=1e-5)


def test_recording_leaves_no_trace() -> None:
    model = make_model()
    model.bn.eval()  # type: ignore[union-attr]
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x, rng = stimuli(), torch.get_rng_state()
    before = x.clone()
    record(model, LAYERS, [x])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), rng)
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.is_grad_enabled()


class Fails(nn.Module):
    """Fails at the second call in a row on more than one stimulus."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += len(x) > 1
        if self.calls == 2:
            raise RuntimeError("out of luck")
        return x


def test_nothing_stays_behind_when_the_model_fails() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Fails(), nn.Linear(4, 2))
    model[3].eval()
    layers = [layer("0", "1"), layer("3")]
    with pytest.raises(RuntimeError, match="out of luck"):
        record(model, layers, torch.randn(8, 3).split(4))
    assert [m.training for m in model] == [True, True, True, False]
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.is_grad_enabled()


def test_nothing_stays_behind_when_the_batches_fail() -> None:
    def batches() -> Sequence[Tensor]:
        yield torch.randn(4, 3)
        raise OSError("disk gone")

    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with pytest.raises(OSError, match="disk gone"):
        record(model, [layer("0", "1")], batches())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_divergence_is_a_result() -> None:
    model = make_model()
    want = record(model, LAYERS, [stimuli()])
    with torch.no_grad():
        model.inplace.weight[0, 0, 0, 0] = torch.nan  # type: ignore[index, operator, union-attr]
    got = record(model, LAYERS, [stimuli()])
    np.testing.assert_array_equal(got[:2], want[:2])
    assert np.isnan(got[2]).all()
    np.testing.assert_array_equal(got[3:, :21], want[3:, :21])  # weights are as they were
    assert np.isnan(got[3:, 21:]).all()


def test_overflow_is_a_result() -> None:
    model = nn.Sequential(nn.Linear(3, 40), nn.ReLU(), nn.Linear(40, 30), nn.ReLU())
    with torch.no_grad():
        model[0].weight.fill_(1e25)
        model[2].weight.fill_(1e25)
    got = record(model, [layer("0", "1"), layer("2", "3")], [torch.ones(5, 3)])
    names = list(STATISTICS)
    assert got[0, names.index("activation_raw_mean")] == pytest.approx(3e25)
    assert got[0, names.index("activation_change_raw".replace("ation", "ity"))] > 1e25
    assert np.isposinf(got[1, names.index("activation_raw_mean")])
    assert np.isnan(got[1, names.index("activation_raw_var")])


def test_one_dead_stimulus_makes_the_skew_undefined_and_no_mean() -> None:
    model = nn.Sequential(nn.Linear(3, 40, bias=False), nn.ReLU())
    x = torch.cat([torch.randn(4, 3), torch.zeros(1, 3)])
    got = dict(zip(STATISTICS, record(model, [layer("0", "1")], [x])[0], strict=True))
    assert np.isnan(got["activation_raw_skew"])
    assert got["activation_raw_mean"] == pytest.approx(model(x).mean().item())
    mask = (model(x) > 0).double()
    g = (mask @ model[0].weight.double().sum(1)) / 40
    assert g[4] == 0
    assert got["activity_change_raw"] == pytest.approx(g.mean().item())


@pytest.mark.parametrize("rule", ["sgdm", "adam", "fa", "ia"])
def test_learning_rules_leave_every_observable_as_it_is(rule: str) -> None:
    model = make_model()
    want = record(model, LAYERS, [stimuli()])
    credit = rules.make(rule).attach(model, generator=torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(record(model, LAYERS, [stimuli()]), want)
    published = record(model, LAYERS, [stimuli()], through_feedback=True)
    np.testing.assert_array_equal(published[:, :42], want[:, :42])
    if not credit.backward_weights:
        np.testing.assert_allclose(published, want, rtol=1e-9, atol=1e-13)
        return
    assert np.abs(published[:, 42:] / want[:, 42:] - 1).min() > 1e-3
    with torch.no_grad():
        for name, back in credit.backward_weights.items():
            back.copy_(model.get_submodule(name).weight)
    same = record(model, LAYERS, [stimuli()], through_feedback=True)
    np.testing.assert_allclose(same, want, rtol=1e-9, atol=1e-13)


def test_a_shared_non_linearity_counts_once_for_each_layer() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.relu = nn.Linear(5, 6), nn.Linear(6, 7), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.two(self.relu(self.one(self.relu(x)))))

    torch.manual_seed(0)
    model, x = Shared(), torch.randn(9, 5)
    got = record(model, [layer("one", "relu"), layer("two", "relu")], [x])
    first = model.one(x.relu()).relu()
    second = model.two(first).relu()
    for row, y in zip(got, (first, second), strict=True):
        want = activation_statistics(y, nonnegative=True).mean(axis=0)
        np.testing.assert_allclose(row[21:42], want, rtol=1e-12)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("head", [Readout(10), Contrastive(6)], ids=["readout", "contrastive"])
def test_every_architecture(name: str, head: Readout | Contrastive) -> None:
    torch.manual_seed(0)
    spec = ARCHITECTURES[name](name=name, width=0.25)
    model = architectures.build(spec, (1, 8, 8), head, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():  # residual branches start at zero
            parameter.add_(0.05 * torch.randn(parameter.shape))
    x = torch.randn(20, 1, 8, 8)
    got = record(model, model.layers, [x])
    assert got.shape == (len(model.layers), 45)
    finite = [s.summary not in ("skew", "kurtosis") for s in STATISTICS.values()]
    assert np.isfinite(got[:, finite]).all()
    published = record(model, model.layers, [x], through_feedback=True)  # no rule: B ≡ Wᵀ
    np.testing.assert_allclose(got[:, 42:], published[:, 42:], rtol=1e-4, atol=1e-7)


def test_memory_beyond_the_activations_is_small() -> None:
    y = torch.randn(128, 8, 32, 32)
    y_last = y.to(memory_format=torch.channels_last)
    activation_statistics(y[:2])
    for values in (y, y_last):
        tracemalloc.start()
        activation_statistics(values)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 0.5 * y.numel() * 4


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.relu, self.unused = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.inner(x) + x)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([layer("iner")], r"layer must be one of inner, relu, unused; got 'iner' \(did you mean"),
        ([layer("inner", "rule")], "layer must be one of inner, relu, unused; got 'rule'"),
        ([layer("relu")], "layer 'relu' must be a Linear, Conv1d or Conv2d, got ReLU"),
        ([layer("unused")], "layer 'unused' must be reached by the forward pass"),
        ([layer("unused", "relu")], "layer 'unused' must be reached by the forward pass"),
        (
            [layer("inner", "relu")],
            "the output of layer 'inner' must be reached from it through modules applied one after "
            "another, got 'relu', which depends on something else besides",
        ),
        ([layer("inner", "unused")], "the output of layer 'inner' must be reached from it"),
    ],
)
def test_misuse_is_explained(layers: list[LayerInfo], message: str) -> None:
    with pytest.raises(DataError, match=message):
        record(Residual(), layers, [torch.randn(3, 4)])


def test_there_must_be_stimuli() -> None:
    for batches in ([], [torch.empty(0, 4)]):
        with pytest.raises(DataError, match="'batches' must hold at least one stimulus, got none"):
            record(Residual(), [layer("inner")], batches)


def test_no_layers_give_no_rows() -> None:
    assert record(Residual(), [], [torch.randn(3, 4)]).shape == (0, 45)
