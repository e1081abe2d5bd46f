"""Rules under torch.compile: the same gradients as without, also when switches are thrown between.

Backends: ``eager`` and ``aot_eager`` trace as ``inductor`` does, the former the forward pass alone,
the latter the backward pass too, and run PyTorch's own kernels.
"""

import copy

import pytest
import torch
import torch._dynamo
from torch import nn
from torch._functorch import config as functorch_config
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from goaldriven.errors import SpecError
from goaldriven.rules.direct_feedback import DirectFeedbackAlignment
from goaldriven.rules.feedback_alignment import FeedbackAlignment
from goaldriven.rules.layerwise_alignment import AlignmentLoss, LayerwiseAlignment
from goaldriven.rules.sign_symmetry import (
    BatchwiseRandomSignSymmetry,
    FixedRandomSignSymmetry,
    UniformSignSymmetry,
)
from goaldriven.specs import credit as specs
from goaldriven.specs.optimizers import Adam

from .numpy_network import batch, network


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def alignment(model, **settings):
    weights = {"amp": 1.0, "decay": 0.1, "null": 0.5}
    loss = AlignmentLoss("mine", weights, Adam(learning_rate=0.01), **settings)
    return LayerwiseAlignment(model, None, generator(), generator(2), loss, None)


FEEDBACK = {
    "fa": lambda model: FeedbackAlignment(model, None, generator()),
    "usf": lambda model: UniformSignSymmetry(
        model, None, generator(), specs.UniformSignSymmetry()
    ),
    "frsf": lambda model: FixedRandomSignSymmetry(
        model, None, generator(), specs.FixedRandomSignSymmetry()
    ),
    "brsf": lambda model: BatchwiseRandomSignSymmetry(
        model, None, generator(), specs.BatchwiseRandomSignSymmetry()
    ),
}
RULES = FEEDBACK | {
    "dfa": lambda model: DirectFeedbackAlignment(
        model, None, generator(), specs.DirectFeedbackAlignment()
    ),
    "alignment": alignment,
    "alignment, noise": lambda model: alignment(model, input_noise=0.5),
    "alignment, alternating": lambda model: alignment(model, alternating=True),
}
BACKENDS = ["eager", "aot_eager"]


@pytest.fixture(autouse=True)
def _afresh():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with functorch_config.patch(donated_buffer=False):  # for graphs that are walked twice
        yield
    torch._dynamo.reset()


def parametrize(rules):
    return pytest.mark.parametrize("attach", rules.values(), ids=rules)


def loss_of(run, seed=4):
    x, labels = batch(seed)
    return functional.cross_entropy(run(x), labels)


def gradients(model, run, seed=4):
    model.zero_grad()
    loss_of(run, seed).backward()
    return [p.grad.clone() for p in model.parameters()]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def train(attach, compiled, around=None):
    """Parameters and backward weights after steps of a user's own loop, and gradients both ways."""
    model = network(around)
    credit = attach(model)
    run = compiled(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(4):
        credit.set_progress(step / 4)
        optimizer.zero_grad()
        credit.backward(lambda seed=step: loss_of(run, seed))
        optimizer.step()
        credit.step()
    optimizer.zero_grad()
    weights = [*model.parameters(), *credit.backward_weights.values()]
    found = [w.detach().clone() for w in weights]
    loss = loss_of(run)
    loss.backward(retain_graph=True)
    with credit.true_gradients():  # of a graph that is built already
        loss.backward()
    return found + [p.grad for p in model.parameters()]


def plainly(model):
    return model


@pytest.mark.parametrize("backend", BACKENDS)
@parametrize(RULES)
def test_training_is_the_same(attach, backend):
    found = train(attach, lambda model: torch.compile(model, backend=backend))
    assert_equal(found, train(attach, plainly))


@parametrize(FEEDBACK)
def test_there_are_no_graph_breaks_and_no_second_compilations(attach):
    model = network()
    credit = attach(model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for seed in range(3):
        gradients(model, compiled, seed)
    with credit.true_gradients():
        gradients(model, compiled)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("backend", BACKENDS)
@parametrize(FEEDBACK | {"dfa": RULES["dfa"]})
def test_true_gradients_around_either_pass(attach, backend):
    model = network()
    credit = attach(model)
    plain = gradients(network(), plain_run := network())
    compiled = torch.compile(model, backend=backend)
    expected = gradients(plain_run, plain_run)
    assert_equal(expected, gradients(plain_run, plain_run))
    gradients(model, compiled)
    loss = loss_of(compiled)
    model.zero_grad()
    with credit.true_gradients():
        loss.backward()
    assert_equal([p.grad for p in model.parameters()], expected)
    with credit.true_gradients():
        loss = loss_of(compiled)
    model.zero_grad()
    loss.backward()
    assert (model.stem.weight.grad - expected[0]).abs().max() > 1e-3


@parametrize(RULES)
def test_attaching_and_removing_show_in_code_that_is_compiled_already(attach):
    """Also where another model of the same classes was compiled before."""
    exact = gradients(twin := network(), torch.compile(twin, backend="eager"))
    model = network()
    compiled = torch.compile(model, backend="eager")
    assert_equal(gradients(model, compiled), exact)
    credit = attach(model)
    model.load_state_dict(network().state_dict())
    expected = gradients(other := network(), attached(other, attach))
    assert_equal(gradients(model, compiled), expected)
    assert (expected[0] - exact[0]).abs().max() > 1e-3
    credit.remove()
    assert_equal(gradients(model, compiled), exact)
    assert_equal(gradients(twin, torch.compile(twin, backend="eager")), exact)


def attached(model, attach):
    attach(model)
    return model


def test_an_observer_is_heeded_by_code_that_is_compiled_already():
    model = network()
    credit = FeedbackAlignment(model, None, generator())
    compiled = torch.compile(model, backend="aot_eager")
    gradients(model, compiled)
    seen = []
    for name in ("first", "second"):  # each its own function, as alignment rules make them
        credit._switch.observer = lambda feedback, module, x, y, name=name: seen.append(
            (name, feedback.name, torch.equal(y, module.before_feedback(x)))
        )
        for module in model.modules():
            if "forward" in vars(module):
                module.before_feedback = module.forward.plain
        gradients(model, compiled)
        credit._switch.observer = None
        gradients(model, compiled)
    layers = ["stem", "one.conv1", "one.conv2", "two.shortcut", "two.conv1", "two.conv2", "fc"]
    assert seen == [(name, layer, True) for name in ("first", "second") for layer in layers]


def test_magnitudes_are_drawn_as_often_and_kept_as_long_as_without():
    def run(compiled):
        model = nn.Linear(4, 3).double()
        with torch.no_grad():
            model.weight.fill_(1.0)
        credit = FEEDBACK["brsf"](model)
        call = compiled(model)
        x = torch.randn(2, 5, 4, dtype=torch.float64, generator=generator(), requires_grad=True)
        first, b1 = call(x[0]), credit.backward_weights[""].clone()
        second, b2 = call(x[1]), credit.backward_weights[""].clone()
        (first.sum() + second.sum()).backward()
        model.eval()
        call(x[0])
        assert torch.equal(credit.backward_weights[""], b2)
        return b1, b2, x.grad

    plain = run(plainly)
    found = run(lambda model: torch.compile(model, backend="aot_eager"))
    assert_equal(found, plain)
    assert (plain[0] - plain[1]).abs().max() > 0.01
    torch.testing.assert_close(plain[2][0], plain[0].sum(0).expand(5, 4))


@pytest.mark.parametrize("reentrant", [True, False])
@parametrize(RULES)
def test_checkpointing_is_the_same(attach, reentrant):
    def around(block, x):
        return checkpoint(block, x, use_reentrant=reentrant)

    if "reentrant" and attach is not None:
        found = steps(attach, plainly, around)
    assert_equal(found, steps(attach, plainly))
    assert_equal(
        steps(attach, lambda m: torch.compile(m, backend="aot_eager"), around),
        steps(attach, plainly),
    )


def steps(attach, compiled, around=None):
    model = network(around)
    credit = attach(model)
    run = compiled(model)
    for step in range(2):
        credit.set_progress(step / 2)
        credit.backward(lambda seed=step: loss_of(run, seed))
        credit.step()
    weights = credit.backward_weights.values()
    return [p.grad for p in model.parameters()] + [w.detach() for w in weights]


@pytest.mark.parametrize("backend", BACKENDS)
@parametrize(RULES)
def test_autocast_is_the_same(attach, backend):
    def run(compiled):
        model = network().float()
        credit = attach(model)
        call = compiled(model)
        x, labels = batch()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            credit.backward(lambda: functional.cross_entropy(call(x.float()).float(), labels))
        return [p.grad for p in model.parameters()]

    expected = run(plainly)
    found = run(lambda model: torch.compile(model, backend=backend))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.02)


@parametrize(RULES)
def test_copies_compile_for_themselves(attach):
    model = network()
    attach(model)
    expected = gradients(model, torch.compile(model, backend="eager"))
    model.load_state_dict(network().state_dict())
    twin = copy.deepcopy(model)
    if "magnitudes" not in attach(network()).state_dict():  # those go on to other draws
        assert_equal(gradients(twin, torch.compile(twin, backend="eager")), expected)
    assert_equal(
        gradients(twin, torch.compile(twin, backend="eager"), 5), gradients(model, model, 5)
    )


def test_direct_feedback_refuses_a_model_that_is_compiled_in_part():
    model = network()
    RULES["dfa"](model)
    model.two = torch.compile(model.two, backend="aot_eager")
    with pytest.raises(SpecError, match="model must be compiled as a whole, or not at all"):
        gradients(model, model)
