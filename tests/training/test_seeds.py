"""What each seed sets, and nothing else; same spec, same bits."""

from __future__ import annotations

import pytest
import torch
import xarray as xr

from goaldriven.specs import RULES, TASKS, NetworkSpec
from goaldriven.training import build, train

EMBEDDED = [name for name, task in TASKS.items() if task.available_train is not None]


def spec(**changes) -> NetworkSpec:
    small = {
        "task": {"name": "digits", "train_limit": 96, "validation_limit": 32},
        "architecture": {"name": "knet4", "width": 0.1},
        "rule": "ia",
        "batch_size": 32,
        "epochs": 2,
        "record_every": 1,
    }
    return NetworkSpec(**small | changes)


def weights(network) -> dict[str, torch.Tensor]:
    forward = {n: p.detach().clone() for n, p in network.model.named_parameters()}
    backward = {f"backward {n}": b.clone() for n, b in network.credit.backward_weights.items()}
    return forward | backward


def batches(network, n_epochs: int = 2) -> list[torch.Tensor]:
    return [
        part
        for _ in range(n_epochs)
        for batch in network.task.train_batches(network.spec.batch_size, network.data_generator)
        for part in (batch.stimuli, batch.labels)
    ]


def equal(a, b) -> bool:
    a, b = (list(x.values()) if isinstance(x, dict) else x for x in (a, b))
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("task", EMBEDDED)
def test_the_data_seed_sets_the_batches_and_nothing_else(task):
    limited = {"name": task, "train_limit": 96, "validation_limit": 32}
    a, b = (build(spec(task=limited, data_seed=seed)) for seed in (0, 1))
    assert equal(weights(a), weights(b))
    assert not equal(batches(a), batches(b))


@pytest.mark.parametrize("task", EMBEDDED)
def test_the_model_seed_sets_the_weights_and_nothing_else(task):
    limited = {"name": task, "train_limit": 96, "validation_limit": 32}
    a, b = (build(spec(task=limited, model_seed=seed)) for seed in (0, 1))
    assert equal(batches(a), batches(b))
    kernels = [layer.name for layer in a.model.layers]
    for name in kernels:
        assert not torch.equal(
            a.model.get_submodule(name).weight, b.model.get_submodule(name).weight
        )
        assert not torch.equal(a.credit.backward_weights[name], b.credit.backward_weights[name])


def test_every_rule_starts_from_the_same_forward_weights_and_sees_the_same_batches():
    networks = [build(spec(rule=rule)) for rule in RULES]
    first = dict(networks[0].model.named_parameters())
    for network in networks[1:]:
        assert equal(first, dict(network.model.named_parameters()))
    seen = [batches(network) for network in networks]
    assert all(equal(seen[0], others) for others in seen[1:])


def test_backward_weights_are_not_the_forward_weights():
    network = build(spec(rule="fa"))
    for name, backward in network.credit.backward_weights.items():
        forward = network.model.get_submodule(name).weight
        cosine = torch.nn.functional.cosine_similarity(forward.flatten(), backward.flatten(), 0)
        assert abs(cosine.item()) < 0.9


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("architecture", ["knet5_lrn", "resnet10_v2"])
def test_same_spec_same_bits_whatever_the_global_generator_holds(rule, architecture):
    one = spec(rule=rule, architecture={"name": architecture, "width": 0.1})
    torch.manual_seed(1)
    a = train(one)
    torch.manual_seed(2)
    b = train(one)
    times = {"seconds": 0, "recording_seconds": 0}
    xr.testing.assert_identical(a.assign_attrs(times), b.assign_attrs(times))


def test_training_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    train(spec())
    assert torch.equal(before, torch.get_rng_state())
