"""Counts without data against steps that are run, and against plans made another way."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from goaldriven import architectures, rules, tasks
from goaldriven.planning import plan_study
from goaldriven.planning.counting import count_network, objective
from goaldriven.planning.facts import task_facts
from goaldriven.planning.shapes import without_data
from goaldriven.specs import RULES, NetworkSpec
from goaldriven.studies.files import load_study

SMALL = {"name": "resnet10", "width": 0.1}
CASES = [
    *((rule, "digits", {"name": "knet4_lrn", "width": 0.2}) for rule in RULES),
    *((rule, "digits", SMALL) for rule in ("sgdm", "dfa", "ia", "npf", "weight_mirror/tpe")),
    ("ia", "digits", {"name": "resnet10_v2", "width": 0.1}),
    ("fa", "digits", {"name": "alexnet_lrn", "width": 0.02}),
    ("ia", "digits_simclr", {"name": "knet5", "width": 0.2}),
    ("wm", "digits_autoencoder", "mlp"),
]
_NO_OPERATIONS = ("prim", "profiler")


class _Started(TorchDispatchMode):
    """Counts operations, views left out."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.namespace not in _NO_OPERATIONS and not func.is_view
        return func(*args, **(kwargs or {}))


def counted(network):
    facts = task_facts(network.task)
    return count_network(network.architecture, network.rule, facts, network.batch_size)


def run(network, seed=0):
    """(FLOPs, operations, task rate) of steps with data, as many as make a period, aligned before.

    FLOPs are those of PyTorch's own counter.
    """
    task = tasks.load(network.task)
    generator = torch.Generator().manual_seed(seed)
    model = architectures.build(network.architecture, task.input_shape, task.head, generator)
    rule = rules.LearningRule(network.rule)
    credit = rule.attach(model, batch_size=network.batch_size)
    optimizer = rule.optimizer(model, batch_size=network.batch_size)
    batch = next(iter(task.train_batches(network.batch_size, generator)))
    loss = objective(credit, model, task.head, batch.stimuli, batch.labels)
    delay = getattr(network.rule.credit, "delay_epochs", 0)
    found = []
    for _ in range(credit.passes_per_epoch):
        credit.set_progress(float(delay + 1))
        optimizer.zero_grad(set_to_none=True)
        with FlopCounterMode(display=False) as flops, _Started() as started:
            credit.backward(loss)
            optimizer.step()
            credit.step()
        found.append((flops.get_total_flops(), started.count, credit.task_rate))
    return found


@pytest.mark.parametrize(("rule", "task", "architecture"), CASES)
def test_a_step_costs_what_one_with_data_does(rule, task, architecture):
    """Products exactly; operations to 10%: copies into other layouts are not all foreseen."""
    network = NetworkSpec(task=task, architecture=architecture, rule=rule, batch_size=12)
    steps, cost = run(network), counted(network)
    assert cost.passes_per_epoch == len(steps)
    assert cost.step.flops == sum(flops for flops, *_ in steps) / len(steps)
    operations = sum(started for _, started, _ in steps) / len(steps)
    assert cost.step.operations == pytest.approx(operations, rel=0.1)
    aligning = [flops for flops, _, rate in steps if rate == 0]
    if getattr(network.rule.credit, "delay_epochs", 0) and aligning:
        assert cost.aligning.flops == aligning[0]


def test_counting_leaves_the_shared_model_as_it_was():
    """Rules of one architecture are counted on one model, in whatever order."""
    networks = [
        NetworkSpec(task="digits", architecture="knet5", rule=rule, batch_size=30)
        for rule in ("sgdm", "ia", "sgdm", "npf", "fa", "ia")
    ]
    first, ia, again, *_, last = map(counted, networks)
    assert first == again
    assert ia == last
    assert ia.buffers == first.buffers == 0


@pytest.mark.parametrize("rule", ["sgdm", "fa", "ia", "dfa"])
def test_work_grows_with_the_batch_by_what_a_stimulus_adds(rule):
    """FLOPs and activations of a readout's network are affine in the batch size."""
    at = {
        n: counted(NetworkSpec(task="cifar10", architecture="knet4", rule=rule, batch_size=n)).step
        for n in (16, 32, 96)
    }
    for name in ("flops", "kept"):
        low, middle, high = (getattr(at[n], name) for n in (16, 32, 96))
        assert high == low + (middle - low) * (96 - 16) / (32 - 16)


def test_tensors_without_data_say_that_they_are_on_the_cpu():
    with without_data() as operations:
        x = torch.ones(10**6, 10**6)  # 4 TB
        assert x.device.type == "cpu"
        y = x.to(x.device) @ x
        assert bool(torch.isfinite(y).all())
        assert torch.randint(5, (2,), generator=torch.Generator()).tolist() == [1, 1]
    assert y.shape == (10**6, 10**6)
    assert operations.flops == 2 * 10**18
    assert torch.ones(2).sum() == 2


@pytest.mark.parametrize(
    ("kind", "flops", "recording"),
    [
        (("imagenet", "resnet18", "sgdm"), 1.3928948627963904e18, 1.89348139008e16),
        (("imagenet_simclr", "alexnet", "fa"), 2.206688798317056e18, 3.85734281856e16),
        (("imagenet_simclr", "resnet18", "ia"), 8.427208668093481e18, 4.8878548992e16),
        (("word_speaker_noise", "alexnet_lrn", "ia"), 2.4359411931322954e19, 2.5431432228763546e17),
        (("cifar10", "knet5", "ia"), 1431529787719680.0, 43711180800000.0),
    ],
)
def test_the_published_study_costs_what_fake_tensors_counted(kind, flops, recording):
    """Counted once by PyTorch's fake tensors and its FLOP counter, at batch size 256."""
    networks = [
        n
        for n in load_study("nayebi2020").networks()
        if (n.task.name, n.architecture.name, n.rule.name, n.batch_size) == (*kind, 256)
    ]
    (cost,) = plan_study("one", networks).costs
    assert (cost.flops, cost.recording.flops) == (flops, recording)
