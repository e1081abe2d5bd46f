"""The model and the handle of direct feedback alignment: states, copies, removal, refusals."""

import copy
import inspect
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from goaldriven import training
from goaldriven.errors import SpecError
from goaldriven.rules.feedback import detach
from goaldriven.rules.feedback_alignment import FeedbackAlignment
from goaldriven.specs import NetworkSpec
from goaldriven.training.record import measure

from .direct_networks import (
    Skips,
    assert_same,
    attach,
    copied_plain,
    gradients,
    message,
    square,
)
from .numpy_network import (
    assert_gradients,
    batch,
    network,
    numpy_gradients,
    torch_gradients,
)


def test_feedback_weights_move_with_the_model():
    model = network()
    credit = attach(model)
    before = torch_gradients(model)
    model.float().zero_grad()
    x, labels = batch()
    functional.cross_entropy(model(x.float()), labels).backward()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.grad, before[name], rtol=1e-3, atol=1e-4)
    assert {d.dtype for d in credit.feedback_weights.values()} == {torch.float32}


def test_a_loaded_state_goes_on_as_if_never_interrupted():
    fresh, used = network(), network()
    states = [attach(fresh).state_dict()]
    credit = attach(used)
    expected = torch_gradients(used)
    states.append(credit.state_dict())
    for state in states:  # before and after the first pass, into before and after the first pass
        for passes in range(2):
            model = network()
            twin = attach(model, seed=7)
            for _ in range(passes):
                torch_gradients(model)
            model.load_state_dict(network().state_dict())
            twin.load_state_dict(pickle.loads(pickle.dumps(state)))
            assert_gradients(torch_gradients(model), expected)


def test_states_of_other_networks_are_refused():
    credit = attach(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    small = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    other = attach(small)
    with pytest.raises(SpecError, match="of direct_feedback_alignment, got one without"):
        credit.load_state_dict({"backward_weights": {}})
    for model in (credit.model, small):
        model(torch.ones(1, 2)).sum().backward()
    with pytest.raises(SpecError, match=r"of shape \(2, 2\) for layer '1', got \(2, 3\)"):
        credit.load_state_dict(other.state_dict())


def test_copies_are_independent_and_detach():
    model = network()
    attach(model)
    expected = torch_gradients(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_gradients(torch_gradients(twin), expected)
        detach(twin)
        assert_gradients(torch_gradients(twin), numpy_gradients(network()))
        names = [name for name, _ in network().named_buffers()]
        assert [name for name, _ in twin.named_buffers()] == names
        assert "forward" not in vars(twin)
    assert_gradients(torch_gradients(model), expected)


def test_removal_leaves_no_trace():
    model = network()
    credit = attach(model)
    torch_gradients(model)
    credit.remove()
    assert credit.feedback_weights == {}
    for ours, theirs in zip(model.modules(), network().modules(), strict=True):
        assert vars(ours).keys() == vars(theirs).keys()
        assert vars(ours)["_buffers"].keys() == vars(theirs)["_buffers"].keys()
        assert vars(ours)["_non_persistent_buffers_set"] == set()
    assert_gradients(torch_gradients(model), numpy_gradients(model))
    attach(model)


def test_the_models_signature_stays():
    model = network()
    expected = inspect.signature(model.forward)
    attach(model)
    assert inspect.signature(model.forward) == expected


def test_a_model_that_is_one_layer():
    model = nn.Linear(3, 2).double()
    credit = attach(model)
    x = torch.randn(4, 3, dtype=torch.float64)
    plain = copied_plain(model)
    assert_same(gradients(model, square, x), gradients(plain, square, x), rtol=0, atol=0)
    with pytest.raises(SpecError, match="got one that has"):
        attach(model)
    credit.remove()
    assert "forward" not in vars(model)


@pytest.mark.parametrize("first", [attach, lambda m: FeedbackAlignment(m, None, torch.Generator())])
def test_a_model_is_attached_to_once(first):
    model = nn.Sequential(nn.Linear(2, 2))
    first(model)
    with pytest.raises(SpecError, match=r"got a layer '0' that has; remove\(\)"):
        attach(model)


def test_diagnostics_are_undefined():
    credit = attach(network())
    assert credit.backward_weights == {}
    diagnostics = credit.alignment_diagnostics()
    assert list(diagnostics) == [
        "stem", "one.conv1", "one.conv2", "two.shortcut", "two.conv1", "two.conv2", "fc"
    ]  # fmt: skip
    assert all(math.isnan(value) for pair in diagnostics.values() for value in pair)


def test_a_record_has_the_angle_of_pseudogradient_and_gradient():
    """Defined before D is drawn too, and drawing it for a record changes nothing of training."""
    spec = NetworkSpec(
        task={"name": "digits", "train_limit": 64, "validation_limit": 40},
        architecture={"name": "knet4", "width": 0.25},
        rule="dfa",
        batch_size=32,
        epochs=5,
    )
    network = training.build(spec)
    found = measure(network, 0.0)
    assert np.isnan(found.weight_angle).all()
    assert np.isnan(found.weight_norm_ratio).all()
    (stimuli,) = network.task.validation_objective_batches(1000)
    model = network.model.eval()
    weights = [model.get_submodule(layer.name).weight for layer in model.layers]
    pseudo = torch.autograd.grad(network.task.loss(model, stimuli), weights)
    network.credit.remove()
    true = torch.autograd.grad(network.task.loss(model, stimuli), weights)
    expected = []
    for p, t in zip(pseudo, true, strict=True):
        cosine = functional.cosine_similarity(p.flatten().double(), t.flatten().double(), 0)
        expected.append(math.degrees(math.acos(min(float(cosine), 1.0))))
    np.testing.assert_allclose(found.gradient_angle, expected, atol=0.02)
    assert found.gradient_angle[-1] == pytest.approx(0, abs=0.1)
    assert (found.gradient_angle[:-1] > 10).all()


def test_an_input_of_another_size_is_refused():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d(1))
    attach(model)
    model(torch.ones(2, 1, 8, 8)).sum().backward()
    assert message(lambda: model(torch.ones(2, 1, 9, 8))) == (
        "input of layer '1' must have the shape (2, 6, 6) per sample, for which its direct "
        "feedback weights were drawn, got (2, 7, 6)"
    )
    with torch.no_grad():
        model(torch.ones(2, 1, 9, 8))
    model(torch.ones(5, 1, 8, 8)).sum().backward()


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)
        self.heads = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 5)])

    def forward(self, x, head):
        return self.heads[head](self.b(self.a(x)))


def test_an_output_of_another_size_is_refused():
    model = TwoHeads()
    attach(model)
    model(torch.ones(2, 3), 0).sum().backward()
    assert message(lambda: model(torch.ones(2, 3), 1).sum().backward()) == (
        "model must have 2 outputs per sample, for which the direct feedback weights of layer 'b' "
        "were drawn, got 5"
    )


class Merging(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        h = self.b(self.a(x).flatten(0, 1))
        return self.c(h.view(*x.shape[:2], -1).mean(1))


def test_rows_that_do_not_correspond_are_refused():
    model = Merging()
    attach(model)
    assert message(lambda: model(torch.ones(2, 3, 4)).sum().backward()) == (
        "model must have as many rows of output as of input to every layer under direct feedback "
        "alignment, got 2 at the output and 6 at the input of layer 'b'"
    )


def test_layers_called_by_themselves_are_refused_where_gradients_flow():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    credit = attach(model)
    assert message(lambda: model[1](torch.ones(2, 2))) == (
        "model must be called as a whole under direct feedback alignment, got a call of its layer "
        "'1' by itself"
    )
    with torch.no_grad():
        assert model[1](torch.ones(2, 2)).shape == (2, 2)
    credit.remove()
    model[1](torch.ones(2, 2)).sum().backward()


def test_a_loss_that_does_not_depend_on_the_last_layer_is_refused():
    class Probed(Skips):
        def forward(self, x):
            h = self.b(torch.tanh(self.a(x)))
            return h, self.out(h.detach())

    model = Probed()
    attach(model)
    expected = "loss must depend on the output of the layer that is called last"
    hidden, out = model(torch.ones(2, 5))
    assert message(lambda: hidden.sum().backward(retain_graph=True)).startswith(expected)
    out.sum().backward(retain_graph=True)  # the error then known is no error of another loss
    assert message(hidden.sum().backward).startswith(expected)


class Heads(Skips):
    def __init__(self):
        super().__init__()
        self.second = nn.Linear(self.out.in_features, 3)

    def forward(self, x):
        h = torch.tanh(self.b(torch.tanh(self.a(x))))
        return self.second(h).relu_(), self.out(h)


HEARD = {
    "both": (lambda second, out: out.sum() + second.sum(), "second"),
    "the other": (lambda second, out: second.sum(), "second"),
    "the last": (lambda second, out: out.sum(), None),
}


@pytest.mark.parametrize(("loss", "other"), HEARD.values(), ids=HEARD)
def test_a_loss_that_hears_another_layer_otherwise_than_through_the_last_is_refused(loss, other):
    model = Heads()
    credit = attach(model)
    x = torch.ones(2, 5)
    if other is None:
        credit.backward(lambda: loss(*model(x)))
        assert model.a.weight.grad.abs().sum() > 0
        return
    assert message(lambda: credit.backward(lambda: loss(*model(x)))) == (
        "loss must depend on the model through the layer alone that is called last in its forward "
        "pass, 'out', whose error direct feedback alignment feeds back, got one that depends on "
        f"layer {other!r} otherwise"
    )
    assert model.a.weight.grad is None


def test_a_penalty_on_hidden_activity_is_refused():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(0), nn.Linear(8, 2))
    seen = []
    model[1].register_forward_hook(lambda module, args, y: seen.append(y))
    credit, x = attach(model), torch.ones(1, 4, 4)
    credit.backward(lambda: model(x).sum())
    text = message(lambda: credit.backward(lambda: model(x).sum() + seen[-1].square().sum()))
    assert text.endswith("got one that depends on layer '0' otherwise")


def test_errors_in_a_forward_pass_leave_the_model_usable():
    model = network()
    attach(model)
    expected = torch_gradients(model)
    with pytest.raises(RuntimeError):
        model(torch.ones(2, 7, 10, 10))
    model.load_state_dict(network().state_dict())
    assert_gradients(torch_gradients(model), expected)
