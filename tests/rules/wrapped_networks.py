"""A network of one convolution and two dense layers, trained by steps of a rule, in float64."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from goaldriven import rules
from goaldriven.training.ranks import ALONE

STEPS, STIMULI = 4, 12


def make_model():
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5), nn.Linear(5, 4)]
    return nn.Sequential(*layers).double()


def stimuli():
    x = torch.randn(STIMULI, 1, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    return x, torch.arange(STIMULI) % 4


def trained(case, ranks=ALONE):
    """The backward weights, and the forward ones; of several ranks, by DistributedDataParallel.

    ``case``: the rule, and whether perturbation rules are given one loss for all stimuli.
    """
    given, scalar = case
    model = make_model()
    if not ranks.first:  # must not matter: the first rank's weights are everyone's
        for parameter in model.parameters():
            parameter.data.mul_(2.0)
    called = model if ranks.size == 1 else DistributedDataParallel(model)
    rule, own = rules.make(**given), STIMULI // ranks.size
    x, y = (tensor[ranks.rank * own : (ranks.rank + 1) * own] for tensor in stimuli())
    credit, optimizer = rule.attach(called, batch_size=STIMULI), rule.optimizer(called)
    reduction = "none" if credit.per_stimulus and not scalar else "mean"
    for step in range(STEPS):
        credit.set_progress(step)
        optimizer.zero_grad(set_to_none=True)
        credit.backward(lambda: functional.cross_entropy(called(x), y, reduction=reduction))
        optimizer.step()
        credit.step()
    return dict(credit.backward_weights) | dict(model.named_parameters())
