"""Two processes over gloo give the weights of one on the joined batch, under every rule."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from goaldriven import rules
from goaldriven.specs import RULES

from . import two_ranks

DESCENT = {"name": "sgdm", "learning_rate": 0.1, "momentum": 0.0, "nesterov": False}
NOISY = {"name": "adam", "learning_rate": 0.01, "update_noise": 0.1}
_CENTRED = {
    "forward_feature_normalisation": True, "forward_batch_centring": True,
    "input_batch_centring": True, "backward_relu": True,
}  # fmt: skip
_CREDIT = {"name": "layerwise_alignment", "optimizer": DESCENT}
_PRIMITIVES = {"amp": 1.0, "sparse": 0.3, "null": 0.5, "decay": 0.1}
GIVEN: dict[str, tuple[dict, bool]] = {
    **{name: ({"name": name}, False) for name in RULES},
    "noisy sa": ({"name": "sa", "credit": {"optimizer": DESCENT | {"update_noise": 0.01}}}, False),
    "noisy npf": ({"name": "npf", "credit": {"optimizer": NOISY}}, False),
    "np of a scalar loss": ({"name": "np"}, True),
    "npf of a scalar loss, antithetic": ({"name": "npf", "credit": {"antithetic": True}}, True),
    "np, two samples": ({"name": "np", "credit": {"samples": 2}}, False),
    "batch centring after normalisation": (
        {
            "name": "mine",
            "credit": {**_CREDIT, "primitives": _PRIMITIVES, "operations": _CENTRED},
            "optimizer": DESCENT,
        },
        False,
    ),
    "linear batch centring": (
        {
            "name": "mine",
            "credit": {
                **_CREDIT,
                "primitives": _PRIMITIVES,
                "operations": {**_CENTRED, "backward_relu": False},
            },
            "optimizer": DESCENT,
        },
        False,
    ),
}


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory) -> tuple[dict[str, torch.Tensor], ...]:
    """What either rank has in the end: "rule|weights" → tensor."""
    out, script = tmp_path_factory.mktemp("ranks"), str(Path(two_ranks.__file__))
    arguments = [str(out / "store"), json.dumps(GIVEN), str(out)]
    processes = [
        subprocess.Popen([sys.executable, script, str(rank), *arguments], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()
    first, second = (torch.load(out / f"{rank}.pt") for rank in range(2))
    return first, second


@pytest.mark.slow
@pytest.mark.parametrize("name", GIVEN)
def test_two_processes_train_as_one_on_the_joined_batch(name, on_two_ranks):
    """Weights, forward and backward: equal on both ranks, and those of one process to rounding."""
    first, second = on_two_ranks
    given, scalar = GIVEN[name]
    model = two_ranks.make_model()
    started = {key: p.detach().clone() for key, p in model.named_parameters()}
    alone = two_ranks.train(model, model, rules.make(**given), *two_ranks.stimuli(), scalar)
    moved = False
    for key, tensor in alone.items():
        ours = first[f"{name}|{key}"]
        assert torch.equal(ours, second[f"{name}|{key}"]), key
        torch.testing.assert_close(ours, tensor.detach(), rtol=1e-7, atol=1e-10, msg=key)
        moved |= key in started and not torch.equal(started[key], ours)
    assert moved, "training moved the forward weights"
