"""Networks trained by two processes over gloo are those of one process, batch norm and all."""

from __future__ import annotations

import pytest
import torch

from goaldriven.errors import SpecError
from goaldriven.specs import RULES, NetworkSpec
from goaldriven.tasks.base import Batch
from goaldriven.training import build
from goaldriven.training.ranks import Ranks, rows
from two_ranks import assert_equal_networks, train_on_two_ranks

from . import double_networks

TUNED = [name for name in RULES if "/" not in name]
BN = {"name": "resnet10", "width": 0.1}
CASES = {
    **{f"{rule}, batch norm": {"rule": rule, "architecture": BN} for rule in TUNED},
    **{
        f"{rule}, local response norm": {
            "rule": rule, "architecture": {"name": "knet4_lrn", "width": 0.1},
        }
        for rule in ("sgdm", "fa", "ia", "np", "npf", "wp", "brsf")
    },
    "version 2": {"rule": "ia", "architecture": {"name": "resnet10_v2", "width": 0.1}},
    "micro-batches": {
        "rule": "fa", "architecture": {"name": "knet4", "width": 0.1},
        "runtime": {"micro_batch": 8},
    },
}  # fmt: skip
PER_RANK = "batch norm of each rank's own"


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory) -> tuple[dict[str, torch.Tensor], ...]:
    own = {"rule": "sgdm", "architecture": BN, "runtime": {"batch_norm": "per_rank"}}
    folder = tmp_path_factory.mktemp("ranks")
    return train_on_two_ranks(folder, "training.double_networks", {**CASES, PER_RANK: own})


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_ranks_train_the_network_of_one_process(name, on_two_ranks):
    alone = double_networks.trained(CASES[name])
    assert_equal_networks(name, on_two_ranks, alone, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_batch_norm_of_each_ranks_own_is_another_network(on_two_ranks):
    """So the test above can fail: statistics of half the batch are not those of the whole."""
    first, second = on_two_ranks
    joined = double_networks.trained(CASES["sgdm, batch norm"])
    key = next(name for name in joined if name.endswith("running_mean"))
    own = [found[f"{PER_RANK}|{key}"] for found in (first, second)]
    assert not torch.allclose(own[0], own[1], rtol=1e-3)
    assert not torch.allclose(own[0], joined[key], rtol=1e-3)
    weights = "fc.weight" if "fc.weight" in joined else next(iter(joined))
    assert torch.equal(first[f"{PER_RANK}|{weights}"], second[f"{PER_RANK}|{weights}"])


def test_batches_must_divide_among_ranks():
    spec = NetworkSpec(task="digits", architecture="knet4", rule="sgdm", batch_size=64)
    with pytest.raises(SpecError, match="batch_size must be a multiple of the 3 ranks, got 64"):
        build(spec, ranks=Ranks(None, 0, 3))


def test_rows_of_a_batch_have_all_their_views():
    labels = torch.arange(6)
    views = torch.cat([labels, labels + 10]).float()[:, None]
    part = rows(Batch(views, labels), 2, 4)
    assert part.labels.tolist() == [2, 3]
    assert part.stimuli.flatten().tolist() == [2, 3, 12, 13]
