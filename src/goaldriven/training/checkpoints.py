"""A network's weights at a recorded epoch, on disk, for measurements made later."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from goaldriven.errors import DataError
from goaldriven.specs import NetworkSpec
from goaldriven.training.network import Network, build
from goaldriven.trajectories.atomic import write_bytes

SUFFIX = ".safetensors"
_FORWARD, _BACKWARD = "forward/", "backward/"
_CARRIERS = ("backward_weights", "feedback_weights", "magnitudes", "streams")
"""What rules keep of their backward weights, by its name in their states."""


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch lies in the folder of a network's checkpoints."""
    return folder / f"{epoch}{SUFFIX}"


def save_checkpoint(network: Network, path: Path) -> None:
    """Write the model's parameters and buffers, and the backward weights that a rule keeps.

    The optimizers' states are not among them: a checkpoint is there to be measured.

    Raises
    ------
    StudyError : the file cannot be written; names path and reason.
    """
    tensors = {_FORWARD + name: tensor for name, tensor in network.model.state_dict().items()}
    for kind, kept in _carriers(network).items():
        tensors |= {f"{_BACKWARD}{kind}/{layer}": tensor for layer, tensor in kept.items()}
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"spec": network.spec.canonical_json()}
    write_bytes(path, safetensors.torch.save(stored, metadata))


def load_checkpoint(path: Path, spec: NetworkSpec, device: str = "cpu") -> Network:
    """The network that ``spec`` describes, with the weights of a checkpoint.

    Raises
    ------
    DataError : the file is missing, cut short, or of another network.
    """
    network = build(spec, device)
    restore_checkpoint(path, network)
    return network


def restore_checkpoint(path: Path, network: Network) -> None:
    """Give a network of the same specification the weights of a checkpoint.

    Raises
    ------
    DataError : the file is missing, cut short, or of another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            given = (file.metadata() or {}).get("spec")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"checkpoint must be there, got none at {path}") from None
    except (OSError, SafetensorError) as error:
        raise DataError(f"checkpoint {path} cannot be read: {error}") from None
    if given != network.spec.canonical_json():
        raise DataError(f"checkpoint {path} must be of network {network.spec.network_id}, got "
                        "one of another specification")  # fmt: skip
    network.model.load_state_dict(_part(tensors, _FORWARD))
    carriers = {kind: _part(tensors, f"{_BACKWARD}{kind}/") for kind in _carriers(network)}
    if carriers:
        network.credit.load_state_dict({**network.credit.state_dict(), **carriers})


def _carriers(network: Network) -> dict[str, dict[str, torch.Tensor]]:
    """What a rule keeps of its backward weights: kind → layer → tensor."""
    state = network.credit.state_dict()
    return {kind: state[kind] for kind in _CARRIERS if kind in state}


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
