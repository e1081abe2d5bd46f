"""Rules attached to a network do what theory says of them, step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from goaldriven import rules
from goaldriven.rules import theory

DESCENT = {"name": "sgdm", "learning_rate": 0.05, "momentum": 0.0, "reference_batch_size": None}
SETTINGS = {
    "weight_mirror": {"amp": 0.7, "decay": 0.4},
    "information_alignment": {"amp": 1.1, "decay": 0.2, "null": 0.6},
    "symmetric_alignment": {"decay": 0.9, "self": 0.5},
    "activation_alignment": {"amp": 0.8, "sparse": 0.3},
    "layerwise_alignment": {
        "primitives": {"amp": 1.3, "decay": 0.2, "null": 0.6, "sparse": 0.9, "self": 0.4}
    },
}


def attached(credit, settings, n_in, n_out, seed=0):
    torch.manual_seed(seed)
    layer = nn.Linear(n_in, n_out, bias=False).double()
    with torch.no_grad():
        nn.init.normal_(layer.weight)
    rule = rules.make(
        "mine", credit={"name": credit, "optimizer": DESCENT, **settings}, optimizer=DESCENT
    )
    handle = rule.attach(
        layer,
        generator=torch.Generator().manual_seed(seed),
        noise_generator=torch.Generator().manual_seed(seed + 1000),
    )
    (b,) = handle.backward_weights.values()
    return layer, handle, rule.spec.credit.primitive_weights, b.detach().numpy().copy()


def run(layer, handle, x, steps):
    for _ in range(steps):
        handle.backward(lambda: layer(x).sum())
        handle.step()
    (b,) = handle.backward_weights.values()
    return b.detach().numpy()


@pytest.mark.parametrize(("credit", "settings"), SETTINGS.items(), ids=SETTINGS)
def test_backward_weights_follow_the_closed_form(credit, settings):
    layer, handle, weights, start = attached(credit, settings, n_in=6, n_out=4)
    x = torch.randn(40, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) / 2
    moment = (x.T @ x / 40).numpy()
    w = layer.weight.detach().numpy()
    expected = theory.backward_steps(weights, w, start, [25], 0.05, moment)[0]
    found = run(layer, handle, x, 25)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)
    assert np.linalg.norm(found - start) > 0.1 * np.linalg.norm(start)


@pytest.mark.parametrize("decay", [0.0, 1.5])
def test_a_weight_mirrors_angle_falls_as_predicted(decay):
    """Means over layers of their own seeds, at 1, 8 and 64 steps of 16 noise patterns each."""
    settings = {"amp": 1.0, "decay": decay, "input_noise": 0.8}
    angles, predicted = [], []
    for seed in range(16):
        layer, handle, _, start = attached("weight_mirror", settings, 20, 15, seed)
        w = layer.weight.detach().numpy()
        x = torch.zeros(16, 20, dtype=torch.float64)
        table = theory.weight_mirror_alignment(
            w, start, [1, 8, 64], 0.05, batch_size=16, decay=decay, second_moment=0.64
        )
        predicted.append(table["angle"].values)
        found = []
        for steps in (1, 7, 56):
            b = run(layer, handle, x, steps)
            cosine = np.sum(b * w) / (np.linalg.norm(b) * np.linalg.norm(w))
            found.append(np.degrees(np.arccos(cosine)))
        angles.append(found)
    deviation = np.array(angles) - np.array(predicted)
    error = deviation.std(axis=0, ddof=1) / np.sqrt(len(deviation))
    assert (np.abs(deviation.mean(axis=0)) < 4 * error).all()
    assert (error < 0.02 * np.mean(predicted, axis=0)).all()
    assert np.mean(angles, axis=0)[0] > 3 * np.mean(angles, axis=0)[2]
