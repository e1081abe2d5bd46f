"""All analyses at once: what they share, what is passed over, what does not depend on what."""

from __future__ import annotations

import numpy as np
import pytest

from goaldriven import synapses as syn
from goaldriven.errors import DataError
from goaldriven.synapses import analysis as module
from synapses.made_up import simulated_sizes


@pytest.fixture(autouse=True)
def _few_simulations(monkeypatch):
    monkeypatch.setattr(module, "SIMULATIONS", 10)
    monkeypatch.setattr(module, "TEST_RESAMPLES", 2)


def made_up(rng, n_days=5):
    w = simulated_sizes(rng, n_synapses=160, n_days=n_days)
    dendrites = np.arange(160) // 10
    groups = np.where(dendrites < 8, "one", "two")
    return syn.make_table(w, 4.0 * np.arange(n_days), dendrites, group=groups, drop_absent=True)


def test_every_analysis_is_made_of_every_group(rng):
    steps = []
    found = syn.analyse(made_up(rng), bootstraps=20, progress=lambda *step: steps.append(step))
    assert not found.skipped
    assert set(found.tables) == set(module.ANALYSES)
    for name, table in found.tables.items():
        assert table.columns[0] == "group", name
        assert set(table["group"]) == {"one", "two"}, name
    total = 2 * len(module.ANALYSES)
    assert [s[:2] for s in steps] == [(k, total) for k in range(total + 1)]
    chains = module.markov_dataset(found)
    np.testing.assert_array_equal(chains["transition"][1], found.fits["two"].transition)
    np.testing.assert_allclose(chains["transition"].sum("to_state"), 1)
    low, high = chains["transition_low"], chains["transition_high"]
    assert bool((low <= high).all())


def test_results_depend_on_the_seed_alone(rng):
    table = made_up(rng)
    a = syn.analyse(table, bootstraps=20, seed=3).tables
    b = syn.analyse(table, bootstraps=20, seed=3).tables
    other = syn.analyse(table, bootstraps=20, seed=4).tables
    alone = syn.analyse(syn.select_group(table, "two"), bootstraps=20, seed=3).tables
    for name in a:
        assert a[name].equals(b[name]), name
        mine = a[name][a[name]["group"] == "two"].reset_index(drop=True)
        assert mine.equals(alone[name]), name
    assert not a["survival"]["survival_low"].equals(other["survival"]["survival_low"])
    assert a["survival"]["survival"].equals(other["survival"]["survival"])


def test_what_two_days_do_not_allow_is_passed_over_and_said(rng):
    found = syn.analyse(made_up(rng, n_days=2), bootstraps=20)
    why = found.skipped["one", "markov_order"]
    assert why == "size must be observed on 3 successive days for some synapse, got none"
    assert ("one", "markov_memory") in found.skipped
    assert "survival" in found.tables
    assert set(found.fits) == {"one", "two"}


def test_settings_out_of_range(rng):
    table = made_up(rng)
    with pytest.raises(DataError) as caught:
        syn.analyse(table, bootstraps=1)
    assert str(caught.value) == "bootstraps must be at least 2, got 1"
    with pytest.raises(DataError, match="seed must be at least 0, got -1"):
        syn.analyse(table, seed=-1)


def test_every_public_name_is_there():
    for name in syn.__all__:
        assert getattr(syn, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'fit_kestn'"):
        syn.fit_kestn  # noqa: B018
