"""Reading ahead changes the time and nothing else."""

import threading
import time

import numpy as np
import pytest
import torch

from goaldriven.errors import DataError, SpecError
from goaldriven.tasks.loader import AHEAD, WORKERS_VARIABLE, Wanted, load_batches, loader_workers
from goaldriven.tasks.streamed import epoch_parts, in_order

CPU = torch.device("cpu")
WORKERS = (0, 1, 2, 7)


class Made:
    """Stimulus i is i and, augmented, noise; it remembers what was read."""

    shape, dtype, n_draws = (2, 3), np.dtype(np.float32), 4

    def __init__(self, n=50, bad=None, pause=0.0):
        self.labels = np.arange(n)
        self.bad, self.pause = bad, pause
        self.read = []
        self.lock = threading.Lock()

    def fill(self, index, rng, out):
        time.sleep(self.pause * (index % 3))  # threads finish out of order
        if index == self.bad:
            raise DataError(f"stimulus {index} is bad")
        with self.lock:
            self.read.append(index)
        out[...] = index
        if rng is None:
            return None
        out += rng.random(self.shape, dtype=np.float32)
        return rng.random(self.n_draws)


def epoch(n=50, batch_size=8, seed=0, part=(0, 1)):
    generator = torch.Generator().manual_seed(seed)
    return epoch_parts(n, batch_size, generator, "made", part)


def loaded(samples, wanted, workers):
    return [(b.values, b.draws) for b in load_batches(samples, wanted, CPU, workers)]


@pytest.mark.parametrize("wanted", [epoch(), in_order(50, 8)], ids=["train", "validation"])
def test_the_number_of_workers_changes_nothing(wanted):
    results = [loaded(Made(pause=1e-3), wanted, workers) for workers in WORKERS]
    assert len(results[0]) == len(wanted)
    for other in results[1:]:
        for (values, draws), (values2, draws2) in zip(results[0], other, strict=True):
            assert torch.equal(values, values2)
            assert (draws is None and draws2 is None) or torch.equal(draws, draws2)


def test_what_is_asked_for_is_what_comes():
    wanted = in_order(50, 8)
    assert [len(w.indices) for w in wanted] == [8] * 6 + [2]
    values = torch.cat([v for v, _ in loaded(Made(), wanted, 3)])
    assert torch.equal(values, torch.arange(50.0)[:, None, None].expand(50, 2, 3))


def test_an_epoch_is_a_shuffled_one_without_its_remainder():
    indices = np.concatenate([w.indices for w in epoch()])
    assert len(indices) == len(set(indices.tolist())) == 48
    assert not np.array_equal(indices, np.sort(indices))
    seeds = [seed for w in epoch() for seed in w.seeds]
    assert len(set(seeds)) == 48, "every place has randomness of its own"
    assert {s for s, _ in seeds}.isdisjoint({s for w in epoch(seed=1) for s, _ in w.seeds})


def test_parts_make_the_whole():
    """Ranks that read their own halves see what one process sees."""
    whole, parts = epoch(), [epoch(part=(i, 2)) for i in range(2)]
    for step, wanted in enumerate(whole):
        both = [part[step] for part in parts]
        assert np.array_equal(np.concatenate([b.indices for b in both]), wanted.indices)
        assert both[0].seeds + both[1].seeds == wanted.seeds
    values = [torch.cat([v for v, _ in loaded(Made(), part, 2)]) for part in (whole, *parts)]
    halves = [v.view(-1, 4, 2, 3) for v in values[1:]]
    assert torch.equal(values[0], torch.stack(halves, 1).flatten(0, 2))


def test_the_generator_moves_the_same_however_much_is_read():
    """Resuming at an epoch: what comes next does not depend on reading ahead, nor on stopping."""
    states = []
    for read in (0, 1, 6):
        generator = torch.Generator().manual_seed(5)
        wanted = epoch_parts(50, 8, generator, "made", (0, 1))
        batches = load_batches(Made(), wanted, CPU, 2)
        for _ in range(read):
            next(batches)
        batches.close()
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize("workers", [1, 4])
def test_little_is_read_ahead(workers):
    samples = Made(400)
    batches = load_batches(samples, in_order(400, 10), CPU, workers)
    next(batches)
    time.sleep(0.2)
    assert len(samples.read) == 10 * (1 + AHEAD), "memory holds a few batches only"
    batches.close()


def test_it_is_read_while_the_consumer_works():
    samples = Made(100)
    batches = load_batches(samples, in_order(100, 10), CPU, 2)
    next(batches)
    deadline = time.monotonic() + 5
    while len(samples.read) < 30 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(samples.read) == 30
    batches.close()


@pytest.mark.parametrize("workers", WORKERS)
def test_an_error_is_raised_when_its_batch_is_due(workers):
    batches = load_batches(Made(bad=20), in_order(50, 8), CPU, workers)
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(DataError, match="stimulus 20 is bad"):
        next(batches)


def test_no_thread_outlives_its_epoch():
    def threads():
        return [t for t in threading.enumerate() if t.name.startswith("loader")]

    before = len(threads())
    batches = load_batches(Made(pause=1e-3), in_order(50, 8), CPU, 3)
    next(batches)
    assert len(threads()) > before
    batches.close()
    assert len(threads()) == before
    list(load_batches(Made(), in_order(50, 8), CPU, 3))
    assert len(threads()) == before


def test_workers_from_the_environment(monkeypatch):
    monkeypatch.setenv(WORKERS_VARIABLE, "3")
    assert loader_workers() == 3
    monkeypatch.delenv(WORKERS_VARIABLE)
    assert 1 <= loader_workers() <= 16
    for bad in ("-1", "two", "1.5", ""):
        monkeypatch.setenv(WORKERS_VARIABLE, bad)
        with pytest.raises(SpecError, match=f"must be a whole number from 0 on, got {bad!r}"):
            loader_workers()


def test_empty_batches_of_requests():
    assert list(load_batches(Made(), [], CPU, 2)) == []
    assert isinstance(Wanted(np.arange(2)).seeds, type(None))
