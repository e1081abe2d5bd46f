"""A short run on this machine's device: how many FLOP/s training reaches there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from goaldriven import architectures, rules
from goaldriven.planning.counting import count_network, objective
from goaldriven.planning.estimate import NetworkCost, StudyPlan
from goaldriven.planning.facts import TaskFacts, task_facts
from goaldriven.specs import NetworkSpec

Kind = tuple[str, str, str]
"""Task, architecture and rule, by name."""

_MOST = 3e10
"""FLOPs of a calibrating step on a CPU, beyond which its batch is made smaller."""
_SECONDS = 1.0


@dataclass(frozen=True)
class Calibration:
    """FLOP/s that steps reach on a device, by task, architecture and rule."""

    device: str
    rates: dict[Kind, float]

    @property
    def slowest(self) -> float:
        return min(self.rates.values())

    @property
    def fastest(self) -> float:
        return max(self.rates.values())

    def seconds(self, planned: StudyPlan) -> float:
        """What this device would take for a study, its networks one after another."""
        return sum(c.networks * self.seconds_of(c) for c in planned.costs)

    def seconds_of(self, cost: NetworkCost) -> float:
        """What this device would take for one network of a kind, training and records."""
        return cost.flops / self.rates[_kind(cost)]


def calibrated(networks: Sequence[NetworkSpec], device: str = "cpu") -> Calibration:
    """Time a few steps of each task, architecture and rule, on random stimuli, in float32.

    About a second for each; the batch is the network's, smaller on a CPU where a step would take
    long. Loading is not in it.
    """
    first: dict[Kind, NetworkSpec] = {}
    for network in networks:
        kind = (network.task.name, network.architecture.name, network.rule.name)
        first.setdefault(kind, network)
    return Calibration(device, {kind: _rate(n, device) for kind, n in first.items()})


def _kind(cost: NetworkCost) -> Kind:
    return cost.task, cost.architecture, cost.rule


def _rate(network: NetworkSpec, device: str) -> float:
    facts = task_facts(network.task)
    batch, counted = network.batch_size, _flops(network, facts, network.batch_size)
    while device == "cpu" and counted > _MOST and batch > 4:
        batch //= 2
        counted = _flops(network, facts, batch)
    step = _step_of(network, facts, batch, device)
    step()  # allocations and choices of algorithms
    started, steps = _now(device), 0
    while (elapsed := _now(device) - started) < _SECONDS or steps < 2:
        steps += step()
    return counted * steps / elapsed


def _flops(network: NetworkSpec, facts: TaskFacts, batch: int) -> float:
    return count_network(network.architecture, network.rule, facts, batch).step.flops


def _step_of(network: NetworkSpec, facts: TaskFacts, batch: int, device: str) -> Callable[[], int]:
    """Makes the steps of a period (two where they alternate); returns how many those are."""
    generator = torch.Generator().manual_seed(0)
    model = architectures.build(network.architecture, facts.input_shape, facts.head, generator)
    model = model.to(device)
    rule = rules.LearningRule(network.rule)
    credit = rule.attach(model, batch_size=batch)
    optimizer = rule.optimizer(model, batch_size=batch)
    stimuli = torch.randn(batch * facts.views, *facts.input_shape, generator=generator)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    loss = objective(credit, model, facts.head, stimuli.to(device), labels)
    passes = float(getattr(network.rule.credit, "delay_epochs", 0) + 1)

    def steps() -> int:
        for _ in range(credit.passes_per_epoch):
            credit.set_progress(passes)
            optimizer.zero_grad(set_to_none=True)
            credit.backward(loss)
            optimizer.step()
            credit.step()
        return credit.passes_per_epoch

    return steps


def _now(device: str) -> float:
    """Seconds; of the CPU's own work there, which other processes do not stretch."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()
