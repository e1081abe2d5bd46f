"""Sign symmetry: B = s·sign(W) or |M| ∘ sign(W), and the gradients that follow from it."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from goaldriven.errors import SpecError
from goaldriven.rules.feedback import detach
from goaldriven.rules.feedback_alignment import FeedbackAlignment
from goaldriven.rules.sign_symmetry import (
    MAGNITUDE,
    BatchwiseRandomSignSymmetry,
    FixedRandomSignSymmetry,
    UniformSignSymmetry,
)
from goaldriven.specs import credit as specs

from .numpy_network import assert_gradients, network, numpy_gradients, torch_gradients


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def feedback_alignment(model, layers=None):
    return FeedbackAlignment(model, layers, generator())


def uniform(model, scale="xavier"):
    return UniformSignSymmetry(model, None, generator(), specs.UniformSignSymmetry(scale=scale))


def fixed(model, seed=1):
    return FixedRandomSignSymmetry(model, None, generator(seed), specs.FixedRandomSignSymmetry())


def batchwise(model, seed=1):
    return BatchwiseRandomSignSymmetry(
        model, None, generator(seed), specs.BatchwiseRandomSignSymmetry()
    )


RULES = {"fa": feedback_alignment, "usf": uniform, "frsf": fixed, "brsf": batchwise}
SIGNS = {name: rule for name, rule in RULES.items() if name != "fa"}
RANDOM = {"frsf": fixed, "brsf": batchwise}


def parametrize(rules):
    return pytest.mark.parametrize("attach", rules.values(), ids=rules)


def magnitudes(model):
    return {n: m.get_buffer(MAGNITUDE).clone() for n, m in model.named_modules() if has(m)}


def has(module):
    return MAGNITUDE in module._buffers


def step(model, rate=0.3):
    x = torch.randn(6, 4, generator=generator(9), dtype=torch.float64)
    model(x).square().sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= rate * parameter.grad
            parameter.grad = None


def dense():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()


def test_the_reference_itself_is_backprop():
    assert_gradients(torch_gradients(network()), numpy_gradients(network()))


@parametrize(RULES)
def test_gradients_equal_those_by_hand(attach):
    model = network()
    credit = attach(model)
    found = torch_gradients(model)
    signs = {n: np.sign(m.weight.detach().numpy()) for n, m in model.named_modules() if has(m)}
    drawn = {name: m.numpy() * signs[name] for name, m in magnitudes(model).items()}

    def carry(layer, weight, adjoint):
        if attach is feedback_alignment:
            return adjoint(credit.backward_weights[layer].numpy())
        if attach is uniform:
            rows, columns, *kernel = weight.shape
            fans = (rows + columns) * math.prod(kernel)
            return adjoint(np.sign(weight) * math.sqrt(2 / fans))
        return adjoint(drawn[layer])

    expected = numpy_gradients(model, carry)
    assert_gradients(found, expected)
    assert_gradients(torch_gradients(model.eval()), torch_gradients(model))  # repeatable
    plain = numpy_gradients(model)
    assert np.abs(plain["stem.weight"] - expected["stem.weight"]).max() > 1e-3
    np.testing.assert_array_equal(plain["fc.weight"], expected["fc.weight"])


@parametrize(RULES)
def test_true_gradients_are_backprops(attach):
    model = network()
    credit = attach(model)
    with credit.true_gradients():
        assert_gradients(torch_gradients(model), numpy_gradients(model))
    credit.remove()
    assert_gradients(torch_gradients(model), numpy_gradients(model))


@pytest.mark.parametrize("scale", ["xavier", "kaiming"])
def test_uniform_signs_are_exact_where_all_weights_are_of_that_size(scale):
    model = network()
    credit = uniform(model, scale)
    with torch.no_grad():
        for name, weight in credit.backward_weights.items():
            model.get_submodule(name).weight.copy_(weight)
    plain = network()
    plain.load_state_dict(model.state_dict())
    found, expected = torch_gradients(model), torch_gradients(plain)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


WEIGHTS = {
    "linear": lambda: nn.Linear(7, 5),
    "conv1d": lambda: nn.Conv1d(4, 6, 3),
    "conv2d": lambda: nn.Conv2d(4, 6, (3, 2)),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
}


@pytest.mark.parametrize("make", WEIGHTS.values(), ids=WEIGHTS)
def test_scales_count_fans_as_torchs_initialisers_do(make):
    layer = make()
    weight = layer.weight.detach()
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
    for scale, size in (
        ("xavier", math.sqrt(2 / (fan_in + fan_out))),
        ("kaiming", 1 / math.sqrt(3 * fan_in)),
    ):
        credit = uniform(layer, scale)
        torch.testing.assert_close(credit.backward_weights[""], weight.sign() * size)
        credit.remove()
    bound = nn.init.xavier_uniform_(torch.empty_like(weight)).abs().max()
    for attach in RANDOM.values():
        credit = attach(layer)
        largest = credit.backward_weights[""].abs().max()
        assert 0.7 * bound < largest <= math.sqrt(6 / (fan_in + fan_out))
        credit.remove()


@parametrize(RANDOM)
def test_magnitudes_are_those_of_xavier_uniform(attach):
    layer = nn.Linear(80, 60)
    attach(layer)
    found = layer.get_buffer(MAGNITUDE).flatten().numpy()
    xavier = nn.init.xavier_uniform_(torch.empty(60, 80), generator=generator(7))
    assert stats.ks_2samp(found, xavier.abs().flatten().numpy()).pvalue > 0.01
    assert stats.kstest(found, stats.uniform(0, math.sqrt(6 / 140)).cdf).pvalue > 0.01
    correlation = np.corrcoef(found, layer.weight.detach().abs().flatten().numpy())[0, 1]
    assert abs(correlation) < 4 / math.sqrt(4800)


@parametrize(SIGNS)
def test_backward_weights_follow_the_signs(attach):
    model = dense()
    credit = attach(model)
    before = {name: b.clone() for name, b in credit.backward_weights.items()}
    with torch.no_grad():
        model[0].weight[0] *= -1
        model[0].weight[1] *= 5
        model[0].weight[2] = 0
    after = credit.backward_weights
    assert torch.equal(after["0"][0], -before["0"][0])
    assert torch.equal(after["0"][1], before["0"][1])
    assert after["0"][2].abs().max() == 0
    assert torch.equal(after["2"], before["2"])
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    (dx,) = torch.autograd.grad(model.eval()[0](x), x, torch.ones(3, 6, dtype=torch.float64))
    torch.testing.assert_close(dx, credit.backward_weights["0"].sum(0).expand(3, 4))


@parametrize(SIGNS)
def test_diagnostics_are_of_the_present_weights(attach):
    model = dense()
    credit = attach(model)
    step(model)
    for name, (angle, ratio) in credit.alignment_diagnostics().items():
        w = model.get_submodule(name).weight.detach().numpy().ravel()
        b = credit.backward_weights[name].numpy().ravel()
        cosine = w @ b / np.linalg.norm(w) / np.linalg.norm(b)
        assert angle == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-6)
        assert 0 < angle < 60
        assert ratio == pytest.approx(np.linalg.norm(b) / np.linalg.norm(w))


def test_fixed_magnitudes_stay_and_batchwise_ones_are_drawn_at_every_training_pass():
    x = torch.randn(3, 4, dtype=torch.float64)
    for attach, redrawn in ((fixed, False), (batchwise, True)):
        model = dense()
        attach(model)
        seen = [magnitudes(model)["0"]]
        for _ in range(3):
            model(x)
            seen.append(magnitudes(model)["0"])
        fresh = [bool((a != b).all()) for a, b in itertools.pairwise(seen)]
        assert fresh == [redrawn] * 3
        model.eval()
        model(x)
        assert torch.equal(magnitudes(model)["0"], seen[-1])


def test_draws_of_a_stream_are_uncorrelated():
    layer = nn.Linear(50, 40)
    credit = batchwise(layer)
    draws = []
    for _ in range(40):
        layer(torch.randn(2, 50))
        draws.append(credit.backward_weights[""].abs().flatten().numpy())
    off_diagonal = np.corrcoef(draws)[np.triu_indices(40, 1)]
    assert np.abs(off_diagonal).max() < 5 / math.sqrt(2000)
    assert stats.kstest(np.concatenate(draws), stats.uniform(0, math.sqrt(6 / 90)).cdf)[1] > 0.01


def test_passes_keep_the_magnitudes_they_began_with():
    layer = nn.Linear(4, 3, bias=False).double()
    credit = batchwise(layer)
    x = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    first = layer(x[0])
    b1 = credit.backward_weights[""].clone()
    second = layer(x[1])
    b2 = credit.backward_weights[""].clone()
    (first.sum() + second.sum()).backward()
    torch.testing.assert_close(x.grad[0], b1.sum(0).expand(5, 4))
    torch.testing.assert_close(x.grad[1], b2.sum(0).expand(5, 4))
    assert (b1 - b2).abs().max() > 0.01


@parametrize(RANDOM)
def test_draws_depend_on_the_generator_alone(attach):
    models = [network() for _ in range(3)]
    state = torch.get_rng_state()
    for model, seed in zip(models, (1, 1, 2), strict=True):
        attach(model, seed)
    found = [torch_gradients(model)["stem.weight"] for model in models]
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3


@parametrize(RULES)
def test_a_loaded_state_goes_on_as_if_never_interrupted(attach):
    one, other = dense(), dense()
    credit = attach(one)
    step(one)
    state = pickle.loads(pickle.dumps(credit.state_dict()))
    twin = attach(other, 8) if attach in RANDOM.values() else attach(other)
    other.load_state_dict(one.state_dict())
    twin.load_state_dict(state)
    for _ in range(2):
        step(one)
        step(other)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    for name, weight in credit.backward_weights.items():
        assert torch.equal(weight, twin.backward_weights[name])


@parametrize(SIGNS)
def test_states_of_other_rules_are_refused(attach):
    model = dense()
    own = attach(model)
    with pytest.raises(SpecError, match="state must"):
        own.load_state_dict({"backward_weights": {}, "magnitudes": {"0": torch.ones(2, 2)}})
    own.load_state_dict(own.state_dict())


@parametrize(SIGNS)
def test_copies_are_independent_and_can_be_detached(attach):
    model = dense()
    attach(model)
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for _ in range(2):
        for each in (model, *twins):
            step(each)
        for twin in twins:  # equal, as equal streams were copied
            for a, b in zip(model.parameters(), twin.parameters(), strict=True):
                assert torch.equal(a, b)
    for twin in twins:
        detach(twin)
        assert not list(twin.buffers())
        assert vars(twin[0]).keys() == vars(dense()[0]).keys()
        attach(twin)


@parametrize(SIGNS)
def test_state_dict_is_the_models_own_and_magnitudes_move_with_it(attach):
    model = dense()
    attach(model)
    assert model.state_dict().keys() == dense().state_dict().keys()
    model.float()
    model(torch.randn(2, 4)).sum().backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
    assert all(m.dtype == torch.float32 for m in magnitudes(model).values())


@parametrize(SIGNS)
def test_second_derivatives_see_signs_as_constants(attach):
    """∂‖dy B‖²/∂W through dy alone, as B = |M| ∘ sign(W) is constant almost everywhere."""
    first, second = nn.Linear(4, 3, bias=False).double(), nn.Linear(3, 1, bias=False).double()
    credit = attach(first)
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    (dx,) = torch.autograd.grad(second(first(x).square()).sum(), x, create_graph=True)
    (found,) = torch.autograd.grad(dx.square().sum(), first.weight)
    weight = first.weight.detach().clone().requires_grad_()
    error = 2 * (x.detach() @ weight.T) * second.weight.detach()
    penalty = (error @ credit.backward_weights[""]).square().sum()
    (expected,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
