"""NT-Xent across two gloo processes against one process on the joined batch, in float64."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from goaldriven.tasks.ntxent import nt_xent

from .simclr_ranks import PER_RANK, batch_of, loss_and_gradients, make_model, make_task, views


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks")
    script = str(Path(__file__).parent / "simclr_ranks.py")
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(rank), str(out / "store"), str(out)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=600)[1] for process in processes]
    finally:  # one that failed would leave the other waiting
        for process in processes:
            process.kill()
    assert [p.returncode for p in processes] == [0, 0], errors
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(2)]


def named(results, prefix):
    return {n.removeprefix(prefix): t for n, t in results.items() if n.startswith(prefix)}


def test_two_processes_are_one_on_the_joined_batch(ranks):
    expected = loss_and_gradients(make_model(), batch_of(views()), True)
    for rank in ranks:
        found = named(rank, "joined ")
        assert found.keys() - {"loss"} == {f"module.{n}" for n in expected if n != "loss"}
        for name, value in expected.items():
            key = name if name == "loss" else f"module.{name}"
            torch.testing.assert_close(found[key], value, atol=1e-14, rtol=1e-12)


def test_apart_each_process_sees_its_own_negatives(ranks):
    """As published: the mean over ranks of what each has on its part of the batch."""
    parts = [batch_of(views()[:, i : i + PER_RANK]) for i in (0, PER_RANK)]
    alone = [loss_and_gradients(make_model(), part, False) for part in parts]
    for rank, own in zip(ranks, alone, strict=True):
        found = named(rank, "apart ")
        torch.testing.assert_close(found["loss"], own["loss"])
        for name in own.keys() - {"loss"}:
            mean = (alone[0][name] + alone[1][name]) / 2
            torch.testing.assert_close(found[f"module.{name}"], mean, atol=1e-14, rtol=1e-12)
    joined = named(ranks[0], "joined ")["loss"]
    assert not torch.isclose(joined, alone[0]["loss"]), "fewer negatives, another loss"


def test_joining_stacks_and_its_gradient_sums(ranks):
    """Rank r weighs part 0 by 1 and part 1 by 10, times r + 1: 1 + 2 and 10 + 20."""
    for rank, results in enumerate(ranks):
        expected = torch.tensor([[1.0] * 3, [2.0] * 3], dtype=torch.float64)
        assert torch.equal(results["stacked"], expected)
        assert torch.equal(results["summed"], torch.full((3,), (3.0, 30.0)[rank]).double())


def test_a_record_waits_for_nobody(ranks):
    model = make_model().eval()
    batch = batch_of(views()[:, :PER_RANK])
    with torch.no_grad():
        expected = nt_xent(model(batch.stimuli), 0.3)
    torch.testing.assert_close(ranks[0]["recorded"], expected)


def test_one_process_needs_no_others():
    batch = batch_of(views())
    with torch.no_grad():
        one, other = (make_task(a).loss(make_model(), batch) for a in (True, False))
    assert torch.equal(one, other)
