"""Rules under torch.compile: the same gradients as without, also when switches are thrown between.

Backend ``aot_eager`` traces forward and backward passes as ``inductor`` does, and runs PyTorch's
own kernels; ``eager`` traces with other rules for custom functions.
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


class Small(nn.Module):
    """Convolution, batch norm, a skip connection and in-place operations."""

    def __init__(self, around=None):
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.last = nn.Linear(3, 4)
        self.around = around

    def block(self, x):
        return self.second(x).relu_() + x

    def forward(self, x):
        x = self.norm(self.first(x)).relu_()
        x = self.block(x) if self.around is None else self.around(self.block, x)
        return self.last(x.mean((2, 3)))


def network(around=None):
    torch.manual_seed(0)
    return Small(around).double()


def batch(seed=4):
    x = torch.randn(5, 2, 7, 7, dtype=torch.float64, generator=generator(seed))
    return x, torch.randint(4, (5,), generator=generator(seed))


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def alignment(model, **settings):
    weights = {"amp": 1.0, "decay": 0.1, "null": 0.5}
    loss = AlignmentLoss("mine", weights, Adam(learning_rate=0.01), **settings)
    return LayerwiseAlignment(model, None, generator(), generator(2), loss, None)


FEEDBACK = {
    "fa": lambda model: FeedbackAlignment(model, None, generator()),
    "usf": lambda model: UniformSignSymmetry(model, None, generator(), specs.UniformSignSymmetry()),
    "frsf": lambda model: FixedRandomSignSymmetry(
        model, None, generator(), specs.FixedRandomSignSymmetry()
    ),
    "brsf": lambda model: BatchwiseRandomSignSymmetry(
        model, None, generator(), specs.BatchwiseRandomSignSymmetry()
    ),
}
DIRECT = {
    "dfa": lambda model: DirectFeedbackAlignment(
        model, None, generator(), specs.DirectFeedbackAlignment()
    )
}
ALIGNMENT = {
    "noise": lambda model: alignment(model, input_noise=0.5),
    "alternating": lambda model: alignment(model, alternating=True),
}
RULES = {**FEEDBACK, **DIRECT, "alignment": alignment}
# One of each way to be compiled.
KINDS = {name: RULES[name] for name in ("fa", "brsf", "dfa", "alignment")}


@pytest.fixture(autouse=True)
def _afresh():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with functorch_config.patch(donated_buffer=False):  # for graphs that are walked twice
        yield
    torch._dynamo.reset()


def parametrize(rules):
    return pytest.mark.parametrize("attach", rules.values(), ids=rules)


def parametrize_with_backend(rules):
    cases = {f"{name}-aot_eager": (rule, "aot_eager") for name, rule in rules.items()}
    cases |= {f"{name}-eager": (rules[name], "eager") for name in KINDS if name in rules}
    return pytest.mark.parametrize(("attach", "backend"), cases.values(), ids=cases)


def plainly(model):
    return model


def by(backend):
    return lambda model: torch.compile(model, backend=backend)


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
    """Weights after steps of a user's own loop, and gradients of one graph both ways."""
    model = network(around)
    credit = attach(model)
    run = compiled(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(3):
        credit.set_progress(step / 4)
        optimizer.zero_grad()
        credit.backward(lambda seed=step: loss_of(run, seed))
        optimizer.step()
        credit.step()
    weights = [*model.parameters(), *credit.backward_weights.values()]
    found = [w.detach().clone() for w in weights]
    optimizer.zero_grad()
    loss = loss_of(run)
    loss.backward(retain_graph=True)
    with credit.true_gradients():
        (3 * loss).backward()
    return found + [p.grad for p in model.parameters()]


@parametrize_with_backend({**RULES, **ALIGNMENT})
def test_training_is_the_same(attach, backend):
    assert_equal(train(attach, by(backend)), train(attach, plainly))


@pytest.mark.slow
@parametrize(RULES)
def test_training_is_the_same_with_inductor(attach):
    for found, expected in zip(train(attach, by("inductor")), train(attach, plainly), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


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


@parametrize_with_backend({**FEEDBACK, **DIRECT})
def test_errors_are_exact_where_the_backward_pass_is_told_so(attach, backend):
    exact = gradients(plain := network(), plain)
    model = network()
    credit = attach(model)
    compiled = torch.compile(model, backend=backend)
    loss = loss_of(compiled)
    with credit.true_gradients():
        loss.backward()
    assert_equal([p.grad for p in model.parameters()], exact)
    with credit.true_gradients():
        loss = loss_of(compiled)
    model.zero_grad()
    loss.backward()
    assert (model.first.weight.grad - exact[0]).abs().max() > 1e-3


@parametrize(KINDS)
def test_attaching_and_removing_show_in_code_that_is_compiled_already(attach):
    """Also in the code of another model of the same classes."""
    twin, model, reference = network(), network(), network()
    run, compiled = torch.compile(twin, backend="eager"), torch.compile(model, backend="eager")
    exact = gradients(twin, run)
    assert_equal(gradients(model, compiled), exact)
    credit = attach(model)
    attach(reference)
    expected = gradients(reference, reference)
    assert_equal(gradients(model, compiled), expected)
    assert (expected[0] - exact[0]).abs().max() > 1e-3
    assert_equal(gradients(twin, run), exact)
    credit.remove()
    assert_equal(gradients(model, compiled), exact)


def test_an_observer_is_heeded_by_code_that_is_compiled_already():
    model = network()
    credit = FeedbackAlignment(model, None, generator())
    compiled = torch.compile(model, backend="aot_eager")
    expected = gradients(model, compiled)
    seen = []
    for name in ("one", "other"):  # each a function of its own, as alignment rules make them

        def observe(feedback, module, x, y, name=name):
            seen.append((name, feedback.name))
            assert torch.equal(y, feedback.plain(x))

        credit._switch.observer = observe
        assert_equal(gradients(model, compiled), expected)
        credit._switch.observer = None
        assert_equal(gradients(model, compiled), expected)
    assert seen == [(n, layer) for n in ("one", "other") for layer in ("first", "second", "last")]
    # The graph, and what lies between layers that run outside of it; nothing on the second round.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] < 10


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

    plain, found = run(plainly), run(by("aot_eager"))
    assert_equal(found, plain)
    assert (plain[0] - plain[1]).abs().max() > 0.01
    torch.testing.assert_close(plain[2][0], plain[0].sum(0).expand(5, 4))


@pytest.mark.parametrize("reentrant", [True, False])
@parametrize(RULES)
def test_checkpointing_is_the_same(attach, reentrant):
    assert_equal(steps(attach, plainly, reentrant), steps(attach, plainly))


@pytest.mark.parametrize("reentrant", [True, False])
@parametrize(KINDS)
def test_compiled_checkpointing_is_the_same(attach, reentrant):
    assert_equal(steps(attach, by("aot_eager"), reentrant), steps(attach, plainly))


def steps(attach, compiled, reentrant=None):
    model = network(lambda block, x: checkpoint(block, x, use_reentrant=reentrant))
    if reentrant is None:
        model.around = None
    credit = attach(model)
    run = compiled(model)
    for step in range(2):
        credit.set_progress(step / 2)
        credit.backward(lambda seed=step: loss_of(run, seed))
        credit.step()
    weights = credit.backward_weights.values()
    return [p.grad for p in model.parameters()] + [w.detach() for w in weights]


@parametrize(KINDS)
def test_autocast_is_the_same(attach):
    def run(compiled):
        model = network().float()
        credit = attach(model)
        call = compiled(model)
        x, labels = batch()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            credit.backward(lambda: functional.cross_entropy(call(x.float()).float(), labels))
        return [p.grad for p in model.parameters()]

    for found, expected in zip(run(by("aot_eager")), run(plainly), strict=True):
        assert found.dtype == expected.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.02)


@parametrize(KINDS)
def test_copies_compile_for_themselves(attach):
    model = network()
    credit = attach(model)
    gradients(model, torch.compile(model, backend="eager"))
    twin = copy.deepcopy(model)
    expected = gradients(model, model, 5)
    with credit.true_gradients():  # of the original alone
        assert_equal(gradients(twin, torch.compile(twin, backend="eager"), 5), expected)


def test_batches_of_other_sizes():
    model = network()
    FEEDBACK["fa"](model)
    compiled = torch.compile(model, backend="aot_eager")
    for size in (5, 3, 2, 4):
        found = []
        for run in (model, compiled):
            model.zero_grad()
            run(batch()[0][:size]).square().sum().backward()
            found.append([p.grad.clone() for p in model.parameters()])
        assert_equal(*found)


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        x = x.tanh()
        return x.exp() + self.layer(x)  # a hook on x does not see exp, if both are compiled


def test_direct_feedback_refuses_a_model_that_is_compiled_in_part():
    model = nn.Sequential(nn.Linear(3, 3), Part(), nn.Linear(3, 1))
    DIRECT["dfa"](model)
    model[1] = torch.compile(model[1], backend="aot_eager")
    with pytest.raises(SpecError, match="model must be compiled as a whole, or not at all"):
        model(torch.ones(2, 3)).sum().backward()
