"""Direct feedback, rules that repeat passes with noise, and noisy updates, stacked."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from goaldriven.architectures.dropout import Dropout
from goaldriven.errors import SpecError
from goaldriven.rules.noise import Streams
from goaldriven.rules.perturbation_tape import standard_normal_like
from goaldriven.training.loop import train_epoch
from goaldriven.training.stack import Stack

from .stacked_networks import (
    AMPLIFIED,
    CLOSE,
    assert_stack_is_the_same_networks,
    build_double,
    networks,
    spec,
)

# Before batch norm the gradients of some biases under direct feedback are sums that cancel, which
# Adam would divide by their own size: SimCLR's projection ends in one.
DFA_SGDM = {
    "name": "dfa_sgdm",
    "credit": {"name": "direct_feedback_alignment", "gain": 0.5},
    "optimizer": {"name": "sgdm", "learning_rate": 0.05, "weight_decay": 1e-3},
}
SLOW_DFA = {"name": "slow_dfa", "like": "dfa", "optimizer": {"learning_rate": 1e-4}}
WP = {"name": "wp_3", "like": "wp", "credit": {"samples": 3}}
NP = {"name": "np_2", "like": "np", "credit": {"samples": 2, "antithetic": True, "sigma": 0.01}}
NPF = {
    "name": "npf_late",
    "like": "npf",
    "credit": {"delay_epochs": 1, "samples": 2, "antithetic": True},
}
NPF_SGDM = {
    "name": "npf_sgdm",
    "like": "npf",
    "optimizer": {"name": "sgdm", "learning_rate": 0.05},
}
UPDATES = {"update_noise": 1e-3}
NOISY = {"name": "noisy", "like": "sgdm", "optimizer": UPDATES}
NOISY_AA = {
    "name": "noisy_aa",
    "like": "aa",
    "optimizer": UPDATES,
    "credit": {"optimizer": UPDATES},
}
NOISY_WP = {"name": "noisy_wp", "like": "wp", "optimizer": UPDATES}
NOISY_NPF = {
    "name": "noisy_npf",
    "like": "npf",
    "optimizer": UPDATES,
    "credit": {"optimizer": UPDATES},
}


@pytest.mark.parametrize(
    "rule",
    ["dfa", "wp", "np", "npf", WP, NP, NPF, NOISY, NOISY_AA, NOISY_WP, NOISY_NPF],
    ids=lambda rule: rule if isinstance(rule, str) else rule["name"],
)
def test_a_rule_alone_in_its_stack_is_the_same_networks_in_float64(rule):
    assert_stack_is_the_same_networks(networks("knet4", "digits", [rule]), CLOSE, epochs=3)


@pytest.mark.parametrize(
    ("architecture", "task", "rules", "tolerance"),
    [
        ("knet4", "digits", ["dfa", SLOW_DFA, "fa", "ia", "wp", "np", "npf", "sgdm", NPF], CLOSE),
        ("knet4_lrn", "digits", ["dfa", "np", "npf", NOISY, NOISY_AA, NOISY_WP], CLOSE),
        ("knet4", "digits_simclr", [DFA_SGDM, "wp", "np", NPF_SGDM, "ia"], AMPLIFIED),
        ("mlp", "digits_autoencoder", ["dfa", "wp", "np", "npf", "adam"], CLOSE),
        ("resnet10", "digits", ["dfa", "wp", "np", "npf", "fa"], AMPLIFIED),
        ("resnet10_v2", "digits", ["dfa", "np"], AMPLIFIED),
        ("alexnet", "digits", ["sgdm", "ia", "dfa", "wp", "np", "npf"], CLOSE),
    ],
)
def test_rules_mixed_in_one_stack_are_the_same_networks_in_float64(
    architecture, task, rules, tolerance
):
    assert_stack_is_the_same_networks(networks(architecture, task, rules), tolerance)


def test_networks_of_one_data_seed_share_their_stimuli():
    specs = [spec(rule=rule, model_seed=s) for rule in ("dfa", "np", "npf", "sgdm") for s in (0, 1)]
    assert_stack_is_the_same_networks(specs, CLOSE)


def test_a_loss_of_hidden_activity_is_refused_under_direct_feedback():
    class Penalised:
        """A task that wants quiet hidden units."""

        def __init__(self, task):
            self._task = task

        def __getattr__(self, name):
            return getattr(self._task, name)

        def loss(self, model, batch):
            hidden = []
            hook = model.relu2.register_forward_hook(lambda m, args, y: hidden.append(y))
            loss = self._task.loss(model, batch)
            hook.remove()
            return loss + hidden[0].square().mean()

    def build(one):
        network = build_double(one)
        return dataclasses.replace(network, task=Penalised(network.task))

    specs = [spec(rule="dfa", model_seed=seed) for seed in (0, 1)]
    with pytest.raises(SpecError, match="depends on layer 'conv2' otherwise"):
        train_epoch(build(specs[0]), 0)
    with pytest.raises(SpecError, match="depends on layer 'conv2' otherwise"):
        Stack(list(map(build, specs)), build).train_epoch(0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_streams_draw_what_each_network_would_draw_by_itself(layout):
    like = torch.empty(2, 3, 4, 5).contiguous(memory_format=layout)
    seeds = (3, 5, 8)
    streams = Streams([torch.Generator().manual_seed(s) for s in seeds], {"layer": like.stride()})
    drawn = torch.vmap(lambda one: streams.normal_like(one, "layer"))(torch.empty(3, 2, 3, 4, 5))
    other = torch.vmap(streams.normal_like)(torch.empty(3, 7))
    for row, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        assert torch.equal(drawn[row], standard_normal_like(like, generator))
        assert torch.equal(other[row], standard_normal_like(torch.empty(7), generator))
    state = streams.get_state()
    once = streams.rows(lambda row, g: row.uniform_(generator=g), (4,), torch.float64)
    streams.set_state(state)
    again = streams.rows(lambda row, g: row.uniform_(generator=g), (4,), torch.float64)
    assert torch.equal(once, again)


def test_stacked_dropout_has_each_networks_mask():
    layer = nn.Sequential(Dropout(0.3))
    layer[0].stacked = True
    x, passes = torch.randn(3, 4, 6), torch.tensor([0, 2, 2])
    masked = torch.vmap(lambda n, x: torch.func.functional_call(layer, {"0.passes": n}, (x,)))(
        passes, x
    )
    assert passes.tolist() == [1, 3, 3]
    for row, done in enumerate((0, 2, 2)):
        alone = Dropout(0.3)
        alone.passes.fill_(done)
        assert torch.equal(masked[row], alone(x[row]))
    assert not torch.equal(masked[0] == 0, masked[1] == 0)
