"""The published data as arrays, and tables whose law is known."""

from __future__ import annotations

import numpy as np
import pytest

from goaldriven.synapses import published, table


@pytest.fixture(scope="session")
def demo():
    return published.load_demo()


@pytest.fixture(scope="session")
def pyr(demo):
    return table.weights_of(demo, "pyr")


@pytest.fixture(scope="session")
def pv(demo):
    return table.weights_of(demo, "pv")


@pytest.fixture
def rng():
    return np.random.default_rng(20261128)
