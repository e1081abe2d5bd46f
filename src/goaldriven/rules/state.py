"""What the states of credit assignments share, and what is refused before anything is copied."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from goaldriven.errors import SpecError


def check_state(state: Mapping[str, Any], name: str, keys: Collection[str]) -> None:
    """Refuse a state of another credit assignment than ``name``, or one without some of ``keys``.

    A state names its credit assignment under ``"credit"``. To be called before anything is copied.

    Raises
    ------
    SpecError : the state is of another credit assignment, or incomplete.
    """
    if "credit" in state and state["credit"] != name:
        raise SpecError(f"state must be of {name}, got one of {state['credit']}")
    missing = {"credit", *keys} - set(state)
    if missing:
        raise SpecError(f"state must be of {name}, got one without {sorted(missing)}")


def check_tensors(own: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> None:
    """Refuse a state's tensors of other names or shapes.

    Raises
    ------
    SpecError : other names or shapes.
    """
    ours = {name: tuple(tensor.shape) for name, tensor in own.items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in given.items()}
    if ours != theirs:
        raise SpecError(f"state must hold {what} of shapes {ours}, got {theirs}")


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as a state keeps them."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def copy_into(own: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> None:
    """Copy a state's tensors to those of the same names.

    Raises
    ------
    SpecError : other names or shapes; nothing is then copied.
    """
    check_tensors(own, given, what)
    for name, tensor in own.items():
        tensor.copy_(given[name])


def refuse_removed(removed: bool) -> None:
    """Refuse to go on with a credit assignment after its ``remove()``.

    Raises
    ------
    SpecError : it was removed.
    """
    if removed:
        raise SpecError(
            "credit assignment must be attached to its model, got one that was removed; attach the "
            "rule again"
        )
