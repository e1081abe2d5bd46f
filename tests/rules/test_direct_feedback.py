"""Direct feedback alignment: what is replaced, what is not, and by what."""

import copy
import inspect
import io
import math
import pickle
import weakref

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from goaldriven import training
from goaldriven.errors import SpecError
from goaldriven.rules import feedback
from goaldriven.rules.direct_feedback import DirectFeedbackAlignment
from goaldriven.rules.feedback import detach
from goaldriven.rules.feedback_alignment import FeedbackAlignment
from goaldriven.specs import NetworkSpec
from goaldriven.specs import credit as specs
from goaldriven.training.record import measure

from .numpy_network import (
    READERS,
    assert_gradients,
    batch,
    network,
    numpy_gradients,
    torch_gradients,
)


def attach(model, seed=1, gain=1.0, layers=None):
    generator = torch.Generator().manual_seed(seed)
    spec = specs.DirectFeedbackAlignment(gain=gain)
    return DirectFeedbackAlignment(model, layers, generator, spec)


def by_hand(model, credit):
    """NumPy's gradients with e·D in the place of the gradient at every tensor entering layers."""
    weights = {name: d.numpy() for name, d in credit.feedback_weights.items()}
    assert weights.keys() == set(READERS.values())

    def replace(tensor, gradient, error):
        return np.tensordot(error, weights[READERS[tensor]], 1)

    return numpy_gradients(model, replace=replace)


def gradients(model, loss, *inputs):
    """Of a loss of the output, by parameter (and of inputs that need one, by number)."""
    wanted = dict(model.named_parameters())
    wanted |= {str(i): x for i, x in enumerate(inputs) if x.requires_grad}
    found = torch.autograd.grad(loss(model(*inputs)), list(wanted.values()), allow_unused=True)
    return dict(zip(wanted, found, strict=True))


def square(y):
    return (torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y) * y.square()).sum()


def output_error(y):
    """The gradient of `square` at its argument."""
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
    return 2 * weights * y.detach()


def assert_same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance)


def test_gradients_equal_those_by_hand():
    model = network()
    credit = attach(model)
    found = torch_gradients(model)
    expected = by_hand(model, credit)
    assert_gradients(found, expected)
    plain = numpy_gradients(model)
    for name in ("stem.weight", "one.conv1.weight", "one.bn2.weight", "two.shortcut.weight"):
        assert np.abs(plain[name] - expected[name]).max() > 1e-3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_and_running_statistics_are_the_plain_models(layout):
    plain, model = (network().to(memory_format=layout) for _ in range(2))
    credit = attach(model)
    x = batch()[0].to(memory_format=layout)
    for train in (True, False):
        plain.train(train), model.train(train)
        assert torch.equal(model(x), plain(x))
        with torch.no_grad():
            assert torch.equal(model(x), plain(x))
    for ours, theirs in zip(model.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    functional.cross_entropy(model(x), batch()[1]).backward()
    assert model.state_dict().keys() == plain.state_dict().keys()
    layouts = {d.is_contiguous(memory_format=layout) for d in conv_weights(credit)}
    assert layouts == {True}


def conv_weights(credit):
    return [d for name, d in credit.feedback_weights.items() if name != "fc"]


def test_channels_last_gives_the_same_gradients():
    model, other = network(), network().to(memory_format=torch.channels_last)
    attach(model), attach(other)
    assert_gradients(torch_gradients(other), torch_gradients(model))
    twin = network()  # a D that was drawn in the one layout serves in the other
    attach(twin)
    torch_gradients(twin)
    twin.to(memory_format=torch.channels_last)
    twin.load_state_dict(network().state_dict())
    assert_gradients(torch_gradients(twin), torch_gradients(other))


def test_with_one_hidden_layer_it_is_feedback_alignment():
    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()

    direct, layerwise = model(), model()
    credit = attach(direct)
    x = torch.randn(5, 4, dtype=torch.float64)
    found = gradients(direct, square, x)
    fa = FeedbackAlignment(layerwise, None, torch.Generator().manual_seed(0))
    fa.backward_weights["2"].copy_(credit.feedback_weights["2"])
    assert_same(found, gradients(layerwise, square, x), rtol=1e-13, atol=1e-14)


def test_weights_are_xavier_uniform_times_gain_and_independent():
    model = nn.Sequential(nn.Linear(4, 300), nn.Linear(300, 300), nn.Linear(300, 20))
    credit = attach(model, gain=2.5)
    model(torch.randn(2, 4)).sum().backward()
    one, two = (credit.feedback_weights[name].flatten().numpy() for name in "12")
    bound = 2.5 * math.sqrt(6 / 320)
    for found in (one, two):
        assert stats.kstest(found, stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.01
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / math.sqrt(6000)
    assert "0" not in credit.feedback_weights


def test_draws_depend_on_the_generator_alone():
    models = [network() for _ in range(3)]
    state = torch.get_rng_state()
    for model, seed in zip(models, (1, 1, 2), strict=True):
        attach(model, seed)
    with torch.no_grad():  # nor on what is done before
        models[1].eval()(batch()[0])
        models[1].train().load_state_dict(models[0].state_dict())
    found = [torch_gradients(model)["stem.weight"] for model in models]
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_true_gradients_are_backprops_also_of_graphs_built_before():
    model = network()
    credit = attach(model)
    x, labels = batch()
    loss = functional.cross_entropy(model(x), labels)
    parameters = dict(model.named_parameters())
    direct = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
    with credit.true_gradients():
        exact = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
    again = torch.autograd.grad(loss, list(parameters.values()))
    named = [{n: g.numpy() for n, g in zip(parameters, gs, strict=True)} for gs in (direct, exact)]
    assert_gradients(named[1], numpy_gradients(model))
    assert_gradients(named[0], by_hand(model, credit))
    assert all(torch.equal(a, b) for a, b in zip(direct, again, strict=True))


def test_no_layer_computes_the_gradient_at_its_input(monkeypatch):
    masks = []
    original = feedback._convolution_backward

    def spying(*args):
        masks.append(tuple(args[-1]))
        return original(*args)

    monkeypatch.setattr(feedback, "_convolution_backward", spying)
    model = network()
    credit = attach(model)
    torch_gradients(model)
    assert len(masks) == 6
    assert not any(needs_x for needs_x, _, _ in masks)
    with credit.true_gradients():
        torch_gradients(model)
    assert sum(needs_x for needs_x, _, _ in masks) == 5


class Skips(nn.Module):
    """A tensor that is used before and after a layer reads it, and by two layers."""

    def __init__(self, width=5):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, 2)

    def forward(self, x):
        h = self.a(x).tanh_()
        early = h.exp()
        h2 = self.b(h)
        return self.out(h2 + early + h.sin() + self.c(h).relu_())


def test_the_whole_gradient_at_a_tensor_is_replaced_once():
    model = Skips().double()
    credit = attach(model)
    x = torch.randn(4, 5, dtype=torch.float64)
    found = gradients(model, square, x)
    d = credit.feedback_weights
    assert d.keys() == {"b", "out"}
    with torch.no_grad():
        e = output_error(model(x))
        h = torch.tanh(model.a(x))
        dsum = e @ d["out"]
        da = (e @ d["b"]) * (1 - h**2)  # whatever comes by exp, sin, and c
        active = model.c(h) > 0
    torch.testing.assert_close(found["a.weight"], da.T @ x)
    torch.testing.assert_close(found["b.weight"], dsum.T @ h)
    torch.testing.assert_close(found["c.weight"], (dsum * active).T @ h)


class Changing(nn.Module):
    """A tensor that is changed in place between the layers that read it: two tensors."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(5, 5) for _ in range(3))

    def forward(self, x):
        h = self.a(x) * 1.0
        read = self.b(h)
        h += 1.0
        return self.c(h) + read.detach()  # b.weight would need the old h


def test_a_change_in_place_makes_another_tensor():
    model = Changing().double()
    credit = attach(model)
    x = torch.randn(4, 5, dtype=torch.float64)
    y = model(x)
    found = torch.autograd.grad(square(y), [model.a.weight, model.c.weight])
    with torch.no_grad():
        e, h = output_error(y), model.a(x)
    torch.testing.assert_close(found[1], e.T @ (h + 1))
    assert credit.feedback_weights.keys() == {"b", "c"}
    torch.testing.assert_close(found[0], (e @ credit.feedback_weights["b"]).T @ x)


def test_layers_left_out_carry_exact_errors():
    model = nn.Sequential(*(nn.Linear(5, 5) for _ in range(4))).double()
    credit = attach(model, layers=["0", "2"])
    x = torch.randn(4, 5, dtype=torch.float64)
    found = gradients(model, square, x)
    ((name, d),) = credit.feedback_weights.items()
    assert name == "2"
    with torch.no_grad():
        h = [x]
        for layer in model:
            h.append(layer(h[-1]))
        d3 = output_error(h[-1])
        e = d3 @ model[3].weight  # at the output of layer 2, the last that is attached
        at_2 = e @ d
        at_1 = at_2 @ model[1].weight
    torch.testing.assert_close(found["3.weight"], d3.T @ h[3])
    torch.testing.assert_close(found["2.weight"], e.T @ h[2])
    torch.testing.assert_close(found["1.weight"], at_2.T @ h[1])
    torch.testing.assert_close(found["0.weight"], at_1.T @ h[0])


SHAPES = {
    "unbatched": ((5,), (2,)),
    "tokens": ((3, 4, 5), (3, 4, 2)),
}


@pytest.mark.parametrize(("shape", "out"), SHAPES.values(), ids=SHAPES)
def test_features_are_all_but_the_samples(shape, out):
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    credit = attach(model)
    x = torch.randn(shape, dtype=torch.float64)
    found = gradients(model, square, x)
    samples = 1 if len(shape) == 1 else shape[0]
    (d,) = credit.feedback_weights.values()
    assert tuple(d.shape) == (math.prod(out) // samples, *shape[1:-1], 6)
    with torch.no_grad():
        hidden = torch.tanh(model[0](x))
        e = output_error(model[2](hidden))
    at_hidden = torch.tensordot(e.reshape(samples, -1), d, 1).reshape(hidden.shape)
    expected = (at_hidden * (1 - hidden**2)).reshape(-1, 6).T @ x.reshape(-1, 5)
    torch.testing.assert_close(found["0.weight"], expected)


def test_unbatched_convolutions():
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Tanh(), nn.Conv1d(3, 2, 3)).double()
    attach(model)
    x = torch.randn(2, 9, dtype=torch.float64)
    found = gradients(model, square, x)
    assert_same(found, gradients(model, lambda y: square(y[0]), x[None]))


class Shared(nn.Module):
    """One layer called twice in a pass, by way of another."""

    def __init__(self):
        super().__init__()
        self.shared, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        h = torch.tanh(self.shared(x))
        return self.out(torch.tanh(self.shared(h)))


def test_a_layer_called_twice_has_one_d():
    model = Shared().double()
    credit = attach(model)
    x = torch.randn(3, 4, dtype=torch.float64)
    found = gradients(model, square, x)
    d = credit.feedback_weights
    with torch.no_grad():
        one = torch.tanh(model.shared(x))
        two = torch.tanh(model.shared(one))
        y = model.out(two)
        e = output_error(y)
        d2, d1 = (e @ d["out"]) * (1 - two**2), (e @ d["shared"]) * (1 - one**2)
    torch.testing.assert_close(found["shared.weight"], d2.T @ one + d1.T @ x)


def test_passes_have_their_own_errors():
    """Several forward passes before one backward pass, of other sizes and modes in between."""
    model = network()
    attach(model)
    one, other = (torch_gradients(model, seed) for seed in (4, 5))
    losses = []
    for seed in (4, 5):
        x, labels = batch(seed)
        losses.append(functional.cross_entropy(model(x), labels))
        model(x[:2])
        with torch.no_grad():
            model(x)
    parameters = dict(model.named_parameters())
    total = torch.autograd.grad(losses[0] + 3 * losses[1], list(parameters.values()))
    found = {n: g.numpy() for n, g in zip(parameters, total, strict=True)}
    assert_gradients(found, {n: one[n] + 3 * other[n] for n in one})


@pytest.mark.parametrize("leaf", [True, False])
def test_the_gradient_at_the_models_input(leaf):
    """Also of an input to two passes, and again in later steps."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    credit = attach(model)
    source = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    for scale in (1.0, 2.0):
        x = source if leaf else 1.0 * source
        y = model(x)
        losses = square(y), scale * y.sum()
        found = torch.autograd.grad(sum(losses), source)[0]
        d = credit.feedback_weights["0"]
        e = output_error(y) + scale
        torch.testing.assert_close(found, e @ d)
        x = source if leaf else 1.0 * source
        both = torch.autograd.grad(square(model(x)) + scale * model(x).sum(), source)[0]
        torch.testing.assert_close(both, e @ d)
        with credit.true_gradients():
            exact = torch.autograd.grad(model(source).sum(), source)[0]
        expected = torch.autograd.grad(copied_plain(model)(source).sum(), source)[0]
        torch.testing.assert_close(exact, expected)


def copied_plain(model):
    twin = copy.deepcopy(model)
    detach(twin)
    return twin


def test_inputs_and_hidden_tensors_stay_plain_tensors():
    model = Skips()
    attach(model)
    x = torch.randn(3, 5, requires_grad=True)
    seen = []
    model.b.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    square(model(x)).backward()
    assert not x._backward_hooks
    for tensor in (x, *seen):
        torch.save(tensor, io.BytesIO())
        assert not vars(tensor)


def test_nothing_of_a_pass_outlives_it():
    model = Skips()
    attach(model)
    kept = []
    model.b.register_forward_pre_hook(lambda m, args: kept.append(weakref.ref(args[0])))
    for _ in range(3):
        square(model(torch.randn(3, 5))).backward()
    assert [ref() for ref in kept] == [None] * 3


class Checkpointed(Skips):
    """``h`` enters a region and is used outside of it; the last layer may be in a region."""

    def __init__(self, reentrant, last):
        super().__init__()
        self.reentrant, self.last = reentrant, last

    def region(self, function, x):
        if self.reentrant is None:
            return function(x)
        return checkpoint(function, x, use_reentrant=self.reentrant)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        h = self.region(lambda h: torch.tanh(self.b(h)) + h, h) + h.exp()
        h = h + self.region(self.c, h).tanh()
        return self.region(self.out, h) if self.last else self.out(h)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_changes_nothing(reentrant, last):
    models = []
    for mode in (None, reentrant):
        torch.manual_seed(0)
        models.append(Checkpointed(mode, last).double())
        attach(models[-1])
    x = torch.randn(4, 5, dtype=torch.float64)
    for _ in range(2):
        expected, found = (accumulated(model, x) for model in models)
        assert_same(found, expected, rtol=1e-12, atol=1e-12)
    passes = [sum(accumulated_losses(model, x)) for model in models]
    if reentrant and last:
        with pytest.raises(SpecError, match="loss must depend on the output"):
            passes[1].backward()
        return
    for model, loss in zip(models, passes, strict=True):
        model.zero_grad()
        loss.backward()
    assert_same(*({n: p.grad for n, p in m.named_parameters()} for m in models))


def accumulated(model, x):
    model.zero_grad()
    square(model(x)).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters()}


def accumulated_losses(model, x):
    return square(model(x)), 2 * square(model(x.flip(0)))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_blocks_of_a_residual_network(reentrant):
    model = network(lambda block, x: checkpoint(block, x, use_reentrant=reentrant))
    credit = attach(model)
    assert_gradients(torch_gradients(model), by_hand(model, credit))


def test_autocast():
    model, x = network().float(), batch()[0].float()
    credit = attach(model)
    labels = batch()[1]

    def run(enabled):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            y = model(x)
        assert y.dtype == (torch.bfloat16 if enabled else torch.float32)
        functional.cross_entropy(y.float(), labels).backward()
        return {n: p.grad.clone() for n, p in model.named_parameters()}

    low, full = run(True), run(False)
    assert {g.dtype for g in low.values()} == {torch.float32}
    for name, gradient in full.items():
        cosine = functional.cosine_similarity(low[name].flatten(), gradient.flatten(), 0)
        assert cosine > 0.98, name
    assert {d.dtype for d in credit.feedback_weights.values()} == {torch.float32}


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
    with pytest.raises(SpecError, match="state must be of direct feedback to the layers"):
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
    with pytest.raises(SpecError, match="got a layer '' that has"):
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


def message(run):
    with pytest.raises(SpecError) as error:
        run()
    return str(error.value)


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
    text = message(lambda: model(torch.ones(2, 5))[0].sum().backward())
    assert text.startswith("loss must depend on the output of the layer that is called last")


def test_errors_in_a_forward_pass_leave_the_model_usable():
    model = network()
    attach(model)
    expected = torch_gradients(model)
    with pytest.raises(RuntimeError):
        model(torch.ones(2, 7, 10, 10))
    model.load_state_dict(network().state_dict())
    assert_gradients(torch_gradients(model), expected)
