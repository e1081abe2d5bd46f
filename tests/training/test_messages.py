"""How many messages a step of two ranks sends: most of what a small network's step waits for.

Gradients are one message. Each of the twelve batch norms of resnet10 sends one forwards and one
backwards, and where `ia` aligns, each of its layers with backward weights sends one mean over the
batch; steps that learn no task send none of its gradients, and need not go backwards.
"""

from __future__ import annotations

import pytest

from two_ranks import train_on_two_ranks

from .counted_messages import STEPS

RESNET = {"name": "resnet10", "width": 0.1}
KNET = {"name": "knet4", "width": 0.1}
N_BATCH_NORMS = 12
N_ALIGNED = {"resnet10": 13, "knet4": 4}  # convolutions and dense layers
# Of every step: (gathers, reductions, broadcasts).
TASK_RESNET, TASK_KNET = (N_BATCH_NORMS, N_BATCH_NORMS + 1, 0), (0, 1, 0)
EXPECTED = {
    **{("resnet10", rule): (TASK_RESNET, TASK_RESNET) for rule in ("sgdm", "fa")},
    **{("knet4", rule): (TASK_KNET, TASK_KNET) for rule in ("sgdm", "fa")},
    ("resnet10", "ia"): ((N_BATCH_NORMS, N_ALIGNED["resnet10"] + 1, 0), TASK_RESNET),
    ("knet4", "ia"): ((0, N_ALIGNED["knet4"] + 1, 0), TASK_KNET),
}
CASES = {
    f"{name} {rule}": {"rule": rule, "architecture": RESNET if name == "resnet10" else KNET}
    for name, rule in EXPECTED
}


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("messages")
    return train_on_two_ranks(folder, "training.counted_messages", CASES)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rule"), EXPECTED)
def test_messages_of_a_step(name, rule, sent):
    for rank in sent:
        found = [tuple(rank[f"{name} {rule}|step {i}"].tolist()) for i in range(STEPS)]
        assert found == list(EXPECTED[name, rule])
