"""States of the networks of a stack, as each would have it had it trained by itself.

Weights, buffers and generators are the networks' own at all times; momenta, and how far alignment
has come, are their leader's: its optimizers' tensors have a leading network axis. So a network can
leave a stack, or come to one from training by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from goaldriven.errors import DataError
from goaldriven.specs import NetworkSpec
from goaldriven.training.network import Network
from goaldriven.training.record import Recorder
from goaldriven.training.resume import UNTRAINED, Checkpoints, Standing, network_state, refuse

Momenta = Mapping[int, Mapping[str, Any]]
"""Number of a parameter → what an optimizer keeps of it."""

_COUNT = "step"
"""What optimizers and alignment count; the same for all networks of a stack."""


def state_of(network: Network, leader: Network, row: int) -> dict[str, Any]:
    """`network_state` of the network in a row of its segment."""
    state = network_state(network)
    state["optimizer"]["state"] = _row(leader.optimizer.state_dict()["state"], row)
    own, led = state["credit"], leader.credit.state_dict()
    if "optimizer" in own:
        own["optimizer"]["state"] = _row(led["optimizer"]["state"], row)
    if _COUNT in own:
        own[_COUNT] = led[_COUNT]
    return state


def go_on_from(members: Sequence[Network], leader: Network) -> None:
    """Have the leader of a segment go on from where its networks stand, which forget their momenta.

    Nothing is done to a segment of networks that have not been trained.
    """
    momenta = [member.optimizer.state_dict()["state"] for member in members]
    if not any(momenta):
        return
    now = leader.optimizer.state_dict()
    leader.optimizer.load_state_dict({**now, "state": _stacked(momenta)})
    for member in members:
        member.optimizer.state.clear()
    own, led = [member.credit.state_dict() for member in members], leader.credit.state_dict()
    if "optimizer" in led:
        momenta = [state["optimizer"]["state"] for state in own]
        led["optimizer"] = {**led["optimizer"], "state": _stacked(momenta)}
        if _COUNT in led:
            led[_COUNT] = own[0][_COUNT]
        leader.credit.load_state_dict(led)


def begin(
    specs: Sequence[NetworkSpec],
    checkpoints: Mapping[NetworkSpec, Checkpoints],
    build: Callable[[NetworkSpec], Network],
) -> list[tuple[Network, Recorder, Standing]]:
    """The initial networks, or those of the latest epoch of which all have a checkpoint.

    Checkpoints that cannot be used are named in a warning.
    """
    own = [checkpoints[spec] for spec in specs if spec in checkpoints]
    if len(own) == len(specs):
        files = [dict(one.there()) for one in own]
        common = set(files[0]).intersection(*files[1:])
        for epoch in sorted(common, reverse=True):
            try:
                return [
                    _gone_on(spec, one, of_one[epoch], build)
                    for spec, one, of_one in zip(specs, own, files, strict=True)
                ]
            except DataError as error:
                refuse(error)
    networks = [build(spec) for spec in specs]
    return [(network, Recorder(network), UNTRAINED) for network in networks]


def _gone_on(
    spec: NetworkSpec, checkpoints: Checkpoints, path: Any, build: Callable[[NetworkSpec], Network]
) -> tuple[Network, Recorder, Standing]:
    state, network = checkpoints.read(path, spec), build(spec)
    recorder = Recorder(network)
    return network, recorder, checkpoints.load(path, state, network, recorder)


def _row(momenta: Momenta, row: int) -> dict[int, dict[str, Any]]:
    return {
        number: {
            name: value if name == _COUNT or value is None else value[row]
            for name, value in kept.items()
        }
        for number, kept in momenta.items()
    }


def _stacked(momenta: Sequence[Momenta]) -> dict[int, dict[str, Any]]:
    return {
        number: {name: _of_all([of_one[number][name] for of_one in momenta], name) for name in kept}
        for number, kept in momenta[0].items()
    }


def _of_all(values: Sequence[Any], name: str) -> Any:
    if name == _COUNT or not isinstance(values[0], Tensor):
        return values[0]
    return torch.stack(list(values))
