"""Which layers get backward weights, how they are drawn, and what is refused."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from goaldriven import rules
from goaldriven.errors import SpecError
from goaldriven.layers import LayerInfo
from goaldriven.rules.attachable import find_layers, kernels


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Double(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Strange(nn.Linear):
    def forward(self, x):
        return super().forward(2 * x)


class StrangeConvolution(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, 2 * weight, bias)


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(3, 4))


OTHER_WEIGHTS = {
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(2, 2, 3),
    "Conv3d": lambda: nn.Conv3d(2, 2, 3),
    "LSTM": lambda: nn.LSTM(2, 2),
    "GRUCell": lambda: nn.GRUCell(2, 2),
    "MultiheadAttention": lambda: nn.MultiheadAttention(2, 1),
    "Embedding": lambda: nn.Embedding(2, 2),
    "Bilinear": lambda: nn.Bilinear(2, 2, 2),
    "Positions": Positions,
    "LazyConv2d": lambda: nn.LazyConvTranspose2d(2, 3),
}


@pytest.mark.parametrize("make", OTHER_WEIGHTS.values(), ids=OTHER_WEIGHTS)
@pytest.mark.parametrize("rule", ["fa", "ia"])
def test_weights_of_other_kinds_are_refused_by_name(make, rule):
    other = make()
    model = nn.ModuleDict({"good": nn.Linear(2, 2), "other": other})
    with pytest.raises(SpecError) as error:
        rules.make(rule).attach(model)
    assert str(error.value) == (
        "layers with weights must be Linear, Conv1d or Conv2d to have backward weights (or be left "
        f"on backprop by 'layers' or unsupported='backprop'), got 'other' ({type(other).__name__})"
    )
    assert not list(model["good"].buffers())


def test_weights_of_other_kinds_may_be_left_to_backprop():
    model = nn.ModuleDict({"good": nn.Linear(2, 2), "other": nn.LSTM(2, 2)})
    credit = rules.make("fa").attach(model, layers=[LayerInfo("good", "good", "early", True)])
    assert list(credit.backward_weights) == ["good"]


def test_normalisation_is_no_weight():
    norms = [nn.BatchNorm1d(2), nn.LayerNorm((2, 2)), nn.GroupNorm(1, 2), nn.RMSNorm((2, 2))]
    model = nn.Sequential(nn.Linear(2, 2), *norms, nn.InstanceNorm1d(2, affine=True), nn.PReLU(2))
    assert list(rules.make("fa").attach(model).backward_weights) == ["0"]


REFUSALS = {
    "parametrized weights": (
        lambda: nn.Sequential(register_parametrization(nn.Linear(2, 2), "weight", Double())),
        None,
        "layer '0' must have weights and biases that are its own parameters, got a parametrized "
        "Linear; leave it out by 'layers' or unsupported='backprop', and it keeps exact backprop",
    ),
    "a parametrized bias": (
        lambda: register_parametrization(nn.Conv1d(2, 2, 1), "bias", Double()),
        None,
        "the model itself must have weights and biases that are its own parameters, got a "
        "parametrized Conv1d; leave it out by 'layers' or unsupported='backprop', and it keeps "
        "exact backprop",
    ),
    "weights of the model itself": (
        Positions,
        None,
        "layers with weights must be Linear, Conv1d or Conv2d to have backward weights (or be left "
        "on backprop by 'layers' or unsupported='backprop'), got the model itself (Positions)",
    ),
    "a string": (
        lambda: nn.Sequential(nn.Linear(2, 2)),
        "0",
        "layers must be a list of names of layers, got '0'",
    ),
    "a number": (
        lambda: nn.Sequential(nn.Linear(2, 2)),
        [0],
        "layers must be a list of names of layers, got 0 among them",
    ),
    "a layer twice": (
        lambda: nn.Sequential(nn.Linear(2, 2)),
        ["0", "0"],
        "layers must name a layer once, got '0' and '0'",
    ),
    "a forward pass of its own": (
        lambda: nn.Sequential(Strange(2, 2)),
        None,
        "layer '0' must compute PyTorch's own Linear forward pass, got Strange with another",
    ),
    "a convolution of its own": (
        lambda: nn.Sequential(StrangeConvolution(2, 2, 1)),
        None,
        "layer '0' must compute PyTorch's own Conv2d forward pass, got StrangeConvolution with "
        "another",
    ),
    "not initialised": (
        lambda: nn.Sequential(nn.LazyLinear(2)),
        None,
        "layer '0' must be initialised before a rule is attached (run one batch through the "
        "model), got LazyLinear",
    ),
    "no layers": (
        lambda: nn.Sequential(nn.ReLU()),
        None,
        "model must have a Linear, Conv1d or Conv2d layer, got none",
    ),
    "a name that is none": (
        lambda: nn.ModuleDict({"conv1": nn.Conv2d(1, 1, 1), "fc": nn.Linear(1, 1)}),
        [LayerInfo("conv", "conv", "early", True)],
        "layers: every name must be one of conv1, fc; got 'conv' (did you mean 'conv1'?)",
    ),
    "a name of another kind": (
        lambda: nn.ModuleDict({"lstm": nn.LSTM(1, 1)}),
        [LayerInfo("lstm", "lstm", "early", True)],
        "layers with weights must be Linear, Conv1d or Conv2d to have backward weights (or be left "
        "on backprop by 'layers' or unsupported='backprop'), got 'lstm' (LSTM)",
    ),
}


@pytest.mark.parametrize(("make", "layers", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_say_what_is_wrong(make, layers, message):
    with pytest.raises(SpecError) as error:
        rules.make("fa").attach(make(), layers=layers)
    assert str(error.value) == message


ATTACHED = {
    "fa": r"got a layer '0' that has; remove\(\)",
    "np": r"got a layer '0' that has; remove\(\)",
    "dfa": r"got a layer '0' that has; remove\(\)",
    "wp": r"got one that has; remove\(\)",
}


@pytest.mark.parametrize("first", ATTACHED)
@pytest.mark.parametrize("second", ["fa", "ia", "wp", "np", "npf", "usf", "dfa", "sgdm"])
def test_a_model_is_attached_to_once(first, second):
    model = nn.Sequential(nn.Linear(2, 2))
    credit = rules.make(first).attach(model)
    with pytest.raises(SpecError, match=ATTACHED[first]):
        rules.make(second).attach(model)
    credit.remove()
    rules.make(second).attach(model)


def test_other_layers_of_an_attached_model_are_refused_too():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    rules.make("fa").attach(model, layers=["0"])
    with pytest.raises(SpecError, match="got a layer '0' that has"):
        rules.make("np").attach(model, layers=["1"])


EVERY_RULE = ["fa", "dfa", "usf", "brsf", "frsf", "wp", "np", "npf"]


@pytest.mark.parametrize("name", EVERY_RULE)
def test_a_removed_rule_neither_goes_on_nor_removes_the_next(name):
    model = nn.Sequential(nn.Linear(2, 2))
    credit = rules.make(name).attach(model)
    credit.remove()
    for call in (lambda: credit.backward(lambda: model(torch.ones(1, 2)).sum()), credit.step):
        with pytest.raises(SpecError, match="one that was removed; attach the rule again"):
            call()
    following = rules.make("fa").attach(model)
    credit.remove()
    assert list(following.backward_weights) == ["0"]


@pytest.mark.parametrize("name", EVERY_RULE)
def test_states_of_other_credit_assignments_are_refused_before_anything_is_copied(name):
    def attached(rule):
        return rules.make(rule).attach(
            nn.Sequential(nn.Linear(2, 2)), generator=generator(EVERY_RULE.index(rule))
        )

    credit = attached(name)
    before = copy.deepcopy(credit.state_dict())
    own = before["credit"]
    for other in EVERY_RULE:
        if other != name:
            mixed = {**before, **attached(other).state_dict()}
            with pytest.raises(SpecError, match=f"state must be of {own}, got one of"):
                credit.load_state_dict(mixed)
    with pytest.raises(SpecError, match=f"state must be of {own}, got one without"):
        credit.load_state_dict({})
    assert str(credit.state_dict()) == str(before)
    credit.load_state_dict(before)


def test_rectified_is_the_models_word_or_all_but_the_last():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    assert [layer.rectified for layer in find_layers(model, None)] == [True, True, False]
    info = (LayerInfo("0", "0", "early", False), LayerInfo("2", "2", "deep", True))
    model.layers = info
    assert [layer.rectified for layer in find_layers(model, None)] == [False, True, True]
    assert [layer.name for layer in find_layers(model, info)] == ["0", "2"]


def test_a_users_own_attribute_called_layers_is_no_obstacle():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])

    assert list(rules.make("fa").attach(Model()).backward_weights) == ["layers.0", "layers.1"]


def test_tied_modules_have_one_set_of_backward_weights():
    shared = nn.Linear(2, 2)
    assert list(rules.make("fa").attach(nn.Sequential(shared, shared)).backward_weights) == ["0"]


def test_draws_use_the_layers_initialiser_and_only_the_generator():
    model = nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 5))
    model[0].initializer = lambda tensor, generator: tensor.uniform_(3, 4, generator=generator)
    global_state = torch.get_rng_state()
    backward = rules.make("fa").attach(model, generator=generator(1)).backward_weights
    assert torch.equal(torch.get_rng_state(), global_state)
    expected = generator(1)
    first = torch.empty(40, 30).uniform_(3, 4, generator=expected)
    second = torch.empty(5, 40).normal_(generator=expected) * model[2].weight.square().mean().sqrt()
    torch.testing.assert_close(backward["0"], first)
    torch.testing.assert_close(backward["2"], second.detach())


def test_draws_without_initialiser_have_the_forward_weights_deviation():
    model = nn.Linear(300, 400)
    (backward,) = rules.make("fa").attach(model).backward_weights.values()
    assert backward.std().item() == pytest.approx(model.weight.std().item(), rel=0.01)
    cosine = nn.functional.cosine_similarity(backward.flatten(), model.weight.flatten(), dim=0)
    assert abs(cosine.item()) < 0.02  # independent: s.d. 1/√120000 = 0.003


def test_parametrized_layers_may_be_left_to_backprop():
    parametrized = register_parametrization(nn.Linear(2, 2), "weight", Double())
    for chosen in ({"layers": ["0"]}, {"unsupported": "backprop"}):
        model = nn.Sequential(nn.Linear(2, 2), parametrized)
        credit = rules.make("fa").attach(model, **chosen)
        assert list(credit.backward_weights) == ["0"]
        credit.remove()


@pytest.mark.parametrize("initializer", [None, lambda tensor, generator: tensor.zero_()])
def test_layers_that_start_at_zero_get_backward_weights_by_their_fan_in(initializer):
    layer = nn.Conv2d(60, 80, 3)
    nn.init.zeros_(layer.weight)
    if initializer is not None:
        layer.initializer = initializer
    (backward,) = rules.make("fa").attach(layer).backward_weights.values()
    assert backward.std().item() == pytest.approx(1 / math.sqrt(60 * 9), rel=0.02)
    assert abs(backward.mean().item()) < 5e-4  # s.d. 2e-4


def test_draws_do_not_depend_on_the_rule_and_take_the_weights_layout():
    def draw(rule):
        model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3, 2))
        model.to(memory_format=torch.channels_last)
        for layer in (model[0], model[2]):
            layer.initializer = lambda tensor, generator: tensor.normal_(generator=generator)
        return model, rules.make(rule).attach(model).backward_weights

    model, fixed = draw("fa")
    _, learned = draw("ia")
    assert all(torch.equal(fixed[name], learned[name]) for name in fixed)
    assert fixed["0"].stride() == model[0].weight.stride()


def test_kernels_are_the_weights_of_layers_once_each():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.BatchNorm1d(2), nn.Sequential(shared, nn.Conv1d(1, 1, 1)))
    assert [id(k) for k in kernels(model)] == [id(shared.weight), id(model[2][1].weight)]
