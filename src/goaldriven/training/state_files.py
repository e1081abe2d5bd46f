"""Nested states as files: tensors by safetensors, all else as JSON beside them. Nothing is pickled.

Dicts with keys of text or whole numbers, lists, tuples, tensors, NumPy arrays, numbers, text and
None come back as they were, to the bit; tensors on the CPU, in the memory layout they had.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from goaldriven.errors import DataError
from goaldriven.trajectories.atomic import write_bytes

_TREE, _FORMAT = "tree", "goaldriven state 1"


def write_state(path: Path, state: Any, about: Mapping[str, str]) -> None:
    """Write a nested state to one file, whole or not at all.

    Parameters
    ----------
    about : texts that say what it is of.

    Raises
    ------
    StudyError : the file cannot be written; names path and reason.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_taken_apart(state, tensors))
    metadata = {**about, _TREE: tree, "format": _FORMAT}
    write_bytes(path, safetensors.torch.save(tensors, metadata))


def read_state(path: Path, about: Mapping[str, str]) -> Any:
    """The state that `write_state` wrote.

    Parameters
    ----------
    about : texts that must be those it was written with.

    Raises
    ------
    DataError : it is missing, cut short, no such file, or of something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"checkpoint must be there, got none at {path}") from None
    except (OSError, SafetensorError) as error:
        raise DataError(f"checkpoint {path} cannot be read: {error}") from None
    if metadata.get("format") != _FORMAT or _TREE not in metadata:
        raise DataError(f"checkpoint {path} must be one to go on training from, got another file")
    for name, text in about.items():
        if metadata.get(name) != text:
            raise DataError(f"checkpoint {path} must be of {name} {text}, got {metadata.get(name)}")
    try:
        return _put_together(json.loads(metadata[_TREE]), tensors)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"checkpoint {path} cannot be read: {error!r}") from None


def _taken_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A JSON tree, whose tensors are numbers of those added to ``tensors``."""
    if isinstance(value, Tensor):
        return _kept(value.detach(), "tensor", tensors)
    if isinstance(value, np.ndarray):
        return _kept(torch.from_numpy(np.array(value)), "array", tensors)
    if isinstance(value, Mapping):
        pairs = [[key, _taken_apart(inner, tensors)] for key, inner in value.items()]
        return ["dict", pairs]
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_taken_apart(inner, tensors) for inner in value]]
    if value is None or isinstance(value, (bool, int, float, str)):
        return ["value", value]
    raise TypeError(f"state must hold tensors, arrays, numbers and text, got {type(value)}")


def _kept(tensor: Tensor, kind: str, tensors: dict[str, Tensor]) -> list[Any]:
    name = str(len(tensors))
    innermost = tensor.dim() == 4 and not tensor.is_contiguous()
    innermost = innermost and tensor.is_contiguous(memory_format=torch.channels_last)
    stored = tensor.cpu().contiguous()
    # A copy: files may not hold one storage twice.
    tensors[name] = stored.clone() if stored.data_ptr() == tensor.data_ptr() else stored
    return [kind, name, innermost]


def _put_together(tree: list[Any], tensors: Mapping[str, Tensor]) -> Any:
    kind, content = tree[0], tree[1]
    if kind == "value":
        return content
    if kind == "dict":
        return {key: _put_together(inner, tensors) for key, inner in content}
    if kind in ("list", "tuple"):
        inner = [_put_together(one, tensors) for one in content]
        return inner if kind == "list" else tuple(inner)
    tensor = tensors[content]
    if kind == "array":
        return tensor.numpy()
    return tensor.contiguous(memory_format=torch.channels_last) if tree[2] else tensor
