"""Scorers with a known optimum, importable by worker processes (see conftest)."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from goaldriven.specs import NetworkSpec
from goaldriven.specs.search import ScoreOn

Progress = Callable[[], None]

BEST_RATE, BEST_MOMENTUM = 1e-2, 0.3


def bowl(network: NetworkSpec, score_on: ScoreOn, progress: Progress) -> float:
    """1 at a learning rate of 10⁻² and a momentum of 0.3; the seed shifts it by a hair."""
    optimizer = network.rule.optimizer
    progress()
    distance = math.log10(optimizer.learning_rate / BEST_RATE)
    height = math.exp(-(distance**2) - 4 * (optimizer.momentum - BEST_MOMENTUM) ** 2)
    return height - 1e-3 * network.model_seed


def fragile(network: NetworkSpec, score_on: ScoreOn, progress: Progress) -> float:
    """The larger the rate the better, but above 0.1 only on seed 0: the edge of stability."""
    rate = network.rule.optimizer.learning_rate
    return rate if rate <= 0.1 or network.model_seed == 0 else 0.0


def picky(network: NetworkSpec, score_on: ScoreOn, progress: Progress) -> float:
    """Refuses momenta above 0.5."""
    if network.rule.optimizer.momentum > 0.5:
        raise RuntimeError(f"no momentum of {network.rule.optimizer.momentum}")
    return bowl(network, score_on, progress)


def slow(network: NetworkSpec, score_on: ScoreOn, progress: Progress) -> float:
    time.sleep(0.05)
    return bowl(network, score_on, progress)


def deadly_once(network: NetworkSpec, score_on: ScoreOn, progress: Progress) -> float:
    """The first process to come here dies; GOALDRIVEN_TEST_MARK says where that is noted."""
    mark = Path(os.environ["GOALDRIVEN_TEST_MARK"])
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return bowl(network, score_on, progress)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def deadly_when_large(network: NetworkSpec, score_on: ScoreOn, progress: Progress) -> float:
    """Every process dies of a momentum above 0.5."""
    if network.rule.optimizer.momentum > 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
    return bowl(network, score_on, progress)
