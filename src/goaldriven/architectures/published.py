"""Weights of published PyTorch residual networks, put into ours where they agree."""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from goaldriven.architectures.network import BATCH_NORM_EPSILON, Network
from goaldriven.errors import DataError

_STAGE = re.compile(r"^layer([1-4])\.(\d+)\.(.+)$")
_STEM = {"conv1": "conv0", "bn1": "bn0", "fc": "dense"}
_SHORTCUT = {"downsample.0": "shortcut", "downsample.1": "shortcut_bn"}
_BOOKKEEPING = "num_batches_tracked"


@dataclass(frozen=True)
class Loaded:
    """What became of a checkpoint.

    Attributes
    ----------
    loaded : our tensors that were filled from the checkpoint.
    identities : our projection shortcuts where the checkpoint's network has the identity, and which
        were made the identity.
    missing : our tensors that the checkpoint has no tensor of that shape for; left as they were.
    unused : the checkpoint's tensors that have no place here.
    """

    loaded: tuple[str, ...]
    identities: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]


def load_published(model: Network, path: str | Path) -> Loaded:
    """Fill a network with a checkpoint in torchvision's naming, where the shapes agree.

    That is the naming of the ResNets of torchvision and timm (``layer1.0.conv1.weight``,
    ``fc.weight``), version 1: ``conv1`` → ``conv0``, ``layer2.0.downsample.0`` →
    ``stage2.block1.shortcut``, ``fc`` → ``dense``. Our resnet18 and resnet34 project at the first
    block of stage 1, as Nayebi et al.'s do, where torchvision's have the identity: the projection
    and its batch norm are then made the identity, so that in eval mode both compute the same.
    A readout of another number of classes stays as it is.

    Parameters
    ----------
    path : ``.safetensors``, or a file of ``torch.save`` (read without executing what it holds).

    Raises
    ------
    DataError : the file is missing or cannot be read, or nothing in it fits the network.
    """
    given = {_ours(name): (name, tensor) for name, tensor in _read(Path(path)).items()}
    state = {
        n: t for n, t in model.state_dict().items() if t.dim() and not n.endswith(_BOOKKEEPING)
    }
    fitting = {
        n: given[n][1] for n, t in state.items() if n in given and given[n][1].shape == t.shape
    }
    if not any(n.endswith(".weight") and t.dim() > 1 for n, t in fitting.items()):
        raise DataError(
            f"checkpoint {str(path)!r} must hold kernels of this network's shapes under "
            f"torchvision's names (conv1.weight, layer1.0.conv1.weight, …), got {len(given)} "
            "tensors of which none fits"
        )
    identities = _identities(model, given.keys(), fitting.keys())
    with torch.no_grad():
        for name, tensor in fitting.items():
            state[name].copy_(tensor)
        for name in identities:
            _make_identity(model, name)
    done = {n for n in state for i in identities if n.startswith((f"{i}.", f"{i}_bn."))}
    return Loaded(
        tuple(fitting),
        tuple(identities),
        tuple(n for n in state if n not in fitting and n not in done),
        tuple(
            theirs
            for ours, (theirs, _) in given.items()
            if ours not in fitting and not theirs.endswith(_BOOKKEEPING)
        ),
    )


def _read(path: Path) -> dict[str, Tensor]:
    tensors: Any
    try:
        if path.suffix == ".safetensors":
            tensors = safetensors.torch.load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"checkpoint must be a file, got {str(path)!r}") from None
    except (OSError, SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"checkpoint {str(path)!r} cannot be read: {reason}") from None
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):
        tensors = tensors["state_dict"]
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise DataError(f"checkpoint {str(path)!r} must hold tensors by name, got something else")
    return {str(name).removeprefix("module."): tensor for name, tensor in tensors.items()}


def _ours(name: str) -> str:
    """Our name of a tensor in torchvision's naming.

    >>> _ours("layer2.0.downsample.0.weight"), _ours("conv1.weight"), _ours("fc.bias")
    ('stage2.block1.shortcut.weight', 'conv0.weight', 'dense.bias')
    """
    staged = _STAGE.match(name)
    if staged is None:
        module, _, tensor = name.rpartition(".")
        return f"{_STEM.get(module, module)}.{tensor}"
    stage, block, rest = staged.groups()
    module, _, tensor = rest.rpartition(".")
    return f"stage{stage}.block{int(block) + 1}.{_SHORTCUT.get(module, module)}.{tensor}"


def _identities(model: nn.Module, names: Collection[str], filled: Collection[str]) -> list[str]:
    """Our projections that keep the shape and that the checkpoint's network does without."""
    found = []
    for path, module in model.named_modules():
        if not path.endswith(".shortcut") or not isinstance(module, nn.Conv2d):
            continue
        block = path.removesuffix(".shortcut")
        keeps = module.in_channels == module.out_channels and module.stride == (1, 1)
        if keeps and f"{path}.weight" not in names and f"{block}.conv1.weight" in filled:
            found.append(path)
    return found


def _make_identity(model: nn.Module, path: str) -> None:
    kernel = model.get_submodule(path)
    assert isinstance(kernel, nn.Conv2d)  # narrows the type
    nn.init.dirac_(kernel.weight)
    if f"{path}_bn" in dict(model.named_modules()):
        norm = model.get_submodule(f"{path}_bn")
        assert isinstance(norm, nn.BatchNorm2d)  # narrows the type
        norm.reset_parameters()
        assert norm.running_var is not None  # narrows the type
        norm.running_var.fill_(1 - BATCH_NORM_EPSILON)
