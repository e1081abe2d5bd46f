"""The choice of a stack size, with made-up clocks and memory."""

from __future__ import annotations

import pytest

from goaldriven.specs import NetworkSpec
from goaldriven.training import stack_trial
from goaldriven.training.stack_trial import best_size

SPECS = [
    NetworkSpec(
        task={"name": "digits", "train_limit": 32, "validation_limit": 16},
        architecture={"name": "knet4", "width": 0.1},
        rule="fa",
        batch_size=16,
        model_seed=seed,
    )
    for seed in range(10)
]


def with_clock(monkeypatch, per_epoch):
    """``per_epoch``: seconds of an epoch of the single network, then of each stack tried."""
    seconds = iter(per_epoch)

    def clock(epoch, device):
        epoch()
        return next(seconds)

    monkeypatch.setattr(stack_trial, "_seconds", clock)


def test_the_fastest_size_wins_and_the_search_ends_where_nothing_is_gained(monkeypatch):
    with_clock(monkeypatch, [1.0, 1.2, 1.6, 3.2, 99.0])
    found = best_size(SPECS)
    assert found.size == 4
    steps = 2
    assert found.seconds == pytest.approx(
        {1: 1.0 / steps, 2: 0.6 / steps, 4: 0.4 / steps, 8: 0.4 / steps}
    )


def test_the_whole_group_is_tried_last(monkeypatch):
    with_clock(monkeypatch, [1.0, 1.0, 1.0, 1.0, 1.0])
    assert best_size(SPECS).size == 10


def test_stacks_that_do_not_pay_are_not_made(monkeypatch):
    with_clock(monkeypatch, [1.0, 1.96])
    assert best_size(SPECS).size == 1


def test_no_stack_is_larger_than_memory(monkeypatch):
    with_clock(monkeypatch, [1.0, 1.0, 1.0, 1.0])
    room = best_size(SPECS[:1]).bytes_per_network
    assert room > 0
    with_clock(monkeypatch, [1.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr(stack_trial, "_free", lambda device: int(2 * 5.5 * room / 0.6))
    found = best_size(SPECS, jobs=2)
    assert max(found.seconds) == 5
    assert found.size == 5
