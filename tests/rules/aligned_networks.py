"""A small convolutional network under information alignment, and its training, for tests."""

import torch
from torch import nn
from torch.nn import functional

from goaldriven import rules

SGD = {"name": "sgdm", "learning_rate": 0.1, "momentum": 0.0, "reference_batch_size": None}
ADAM = {"name": "adam", "learning_rate": 0.01}


def ia(amp=1.0, decay=0.1, null=0.5, align=None, forward=None, **settings):
    credit = {"name": "information_alignment", "amp": amp, "decay": decay, "null": null}
    credit |= {"optimizer": align or SGD, **settings}
    return rules.make("mine", credit=credit, optimizer=forward or SGD)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def net():
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(6 * 9, 3),
    ).double()


def batch(seed=0, n=8):
    x = torch.randn(n, 2, 8, 8, generator=generator(seed), dtype=torch.float64)
    return x, torch.randint(3, (n,), generator=generator(seed))


def loss_of(model, data):
    return lambda: functional.cross_entropy(model(data[0]), data[1])


def inputs_of(model, x):
    """The input of every layer in one forward pass, recorded by hooks of the test's own."""
    seen = {}
    handles = [
        module.register_forward_pre_hook(
            lambda module, args, name=name: seen.update({name: args[0].detach().clone()})
        )
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return seen


def snapshot(credit):
    return {name: b.clone() for name, b in credit.backward_weights.items()}


def run(rule, model, steps, per_epoch=4, attached=None):
    """A training loop; yields after every step."""
    credit = attached or rule.attach(model)
    optimizer = rule.optimizer(model, batch_size=8)
    for step in range(steps):
        credit.set_progress(step / per_epoch)
        optimizer.zero_grad(set_to_none=True)
        credit.backward(loss_of(model, batch(step)))
        optimizer.step()
        credit.step()
        yield credit, optimizer
