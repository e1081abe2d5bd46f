"""Plans against counts made by hand."""

from __future__ import annotations

import pytest

from goaldriven.errors import SpecError
from goaldriven.planning import plan_study
from goaldriven.planning.counting import count_network
from goaldriven.planning.facts import task_facts
from goaldriven.planning.gpus import SECONDS_PER_OPERATION, gpu_named
from goaldriven.specs import NetworkSpec

CONVOLUTIONS = (2 * 3 * 25 * 32 * 32**2, 2 * 32 * 25 * 32 * 16**2, 2 * 32 * 25 * 64 * 8**2)
KNET4 = sum(CONVOLUTIONS) + 2 * (64 * 4 * 4) * 10  # one 3×32×32 stimulus forward
MLP = 2 * (64 * 50 + 50 * 10)


def cost_of(**fields):
    network = NetworkSpec(**fields)
    facts = task_facts(network.task)
    return count_network(network.architecture, network.rule, facts, network.batch_size)


@pytest.mark.parametrize("rule", ["sgdm", "fa", "kp", "sa"])
def test_knet4_by_hand(rule):
    """Backward: weight gradients of all layers, input gradients of all but the first."""
    cost = cost_of(task="cifar10", architecture="knet4", rule=rule, batch_size=64)
    assert cost.forward.flops == KNET4
    assert cost.step.flops == 64 * (3 * KNET4 - CONVOLUTIONS[0])
    weights = 3 * 25 * 32 + 32 * 25 * 32 + 32 * 25 * 64 + 1024 * 10
    assert cost.parameters == weights + 32 + 32 + 64 + 10
    assert cost.backward_weights == (0 if rule == "sgdm" else weights)
    assert (cost.layers, cost.passes_per_epoch) == (4, 1)


def test_mlp_by_hand():
    network = NetworkSpec(
        task="digits", architecture="mlp", rule="sgdm", batch_size=64, epochs=10, record_every=5
    )
    (cost,) = plan_study("one", [network]).costs
    step = 64 * (3 * MLP - 2 * 64 * 50)
    assert cost.training.flops == 10 * (1347 // 64) * step
    # Two forward passes and a gradient over 450 stimuli, at epochs 0, 5 and 10.
    assert cost.recording.flops == 3 * 450 * (2 * MLP + 3 * MLP - 2 * 64 * 50)
    assert (cost.facts_from, cost.stimuli) == ("data", 1347)


def test_alternating_rules_take_two_passes_and_align_in_one():
    """Steps of the task cost what those of backprop do; aligning steps have no backward pass."""
    cost = cost_of(task="digits", architecture="mlp", rule="ia", batch_size=64)
    assert cost.passes_per_epoch == 2
    task = 64 * (3 * MLP - 2 * 64 * 50)
    aligning = 2 * cost.step.flops - task
    assert 64 * MLP < aligning < 64 * 6 * MLP
    network = NetworkSpec(task="digits", architecture="mlp", rule="ia", epochs=4, record_every=4)
    (planned,) = plan_study("ia", [network]).costs
    assert planned.training.flops == 4 * 2 * (1347 // 64) * cost.step.flops


def test_kinds_are_counted_once_and_summed():
    networks = [
        NetworkSpec(task="cifar10", architecture="knet4", rule="sgdm", model_seed=m, epochs=10)
        for m in range(3)
    ]
    planned = plan_study("three", networks)
    (cost,) = planned.costs
    assert (cost.networks, planned.networks, planned.epochs) == (3, 3, 30)
    assert (cost.facts_from, cost.stimuli) == ("table", 50_000)
    assert planned.flops == 3 * cost.flops
    gpu = gpu_named("a100")
    seconds = max(
        cost.training.flops / (0.5 * gpu.tf32), cost.training.operations * SECONDS_PER_OPERATION
    ) + max(
        cost.recording.flops / (0.5 * gpu.tf32), cost.recording.operations * SECONDS_PER_OPERATION
    )
    assert planned.hours(gpu, "tf32", 0.5) == pytest.approx(3 * seconds / 3600)


def test_limits_hold_in_the_table_too():
    network = NetworkSpec(
        task={"name": "cifar10", "train_limit": 1000}, architecture="knet4", rule="sgdm"
    )
    assert task_facts(network.task).n_train == 1000


def test_an_unknown_gpu_is_refused():
    with pytest.raises(SpecError, match=r"gpu must be one of A10, A100.*got 'A101'"):
        gpu_named("A101")
