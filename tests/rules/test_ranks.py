"""Rules on a wrapped model: two processes over gloo give the weights of one on the joined batch."""

from __future__ import annotations

import pytest
import torch

from goaldriven.specs import RULES
from two_ranks import assert_equal_networks, train_on_two_ranks

from .wrapped_networks import make_model, trained

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
    folder = tmp_path_factory.mktemp("ranks")
    return train_on_two_ranks(folder, "rules.wrapped_networks", GIVEN)


@pytest.mark.slow
@pytest.mark.parametrize("name", GIVEN)
def test_two_processes_train_as_one_on_the_joined_batch(name, on_two_ranks):
    """Weights, forward and backward: equal on both ranks, and those of one process to rounding."""
    assert_equal_networks(name, on_two_ranks, trained(GIVEN[name]), rtol=1e-7, atol=1e-10)
    moved = (
        not torch.equal(parameter, on_two_ranks[0][f"{name}|{key}"])
        for key, parameter in make_model().named_parameters()
    )
    assert any(moved), "training moved the forward weights"
