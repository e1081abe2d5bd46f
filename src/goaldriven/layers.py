"""What is known of an observed layer; shared by rules, observables and architectures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Position = Literal["early", "middle", "deep"]


@dataclass(frozen=True)
class LayerInfo:
    """One layer with weights.

    Attributes
    ----------
    name : the weighted module's path in ``model.named_modules()``, e.g. ``"conv2"``.
    output : the module path whose output is the layer's activity: the non-linearity that belongs
        to the layer, or the weighted module itself where it has none.
    position : the third of the hierarchy the layer lies in.
    rectified : whether a ReLU follows the layer (for the alignment losses' ReLU operation); the
        ReLU may come after pooling or batch norm, so this is not ``output != name``.
    """

    name: str
    output: str
    position: Position
    rectified: bool


def layer_position(index: int, n_layers: int) -> Position:
    """Third of the hierarchy that layer ``index`` of ``n_layers`` lies in.

    With g = ⌊n/3⌋, the first g layers are early, the next g middle, the rest (with the remainder)
    deep. Source: lr-identify ``group_layers``; thesis section 6.3.9.

    >>> [layer_position(i, 5) for i in range(5)]
    ['early', 'middle', 'deep', 'deep', 'deep']
    """
    if not 0 <= index < n_layers:
        raise ValueError(f"index must be in 0…{n_layers - 1}, got {index}")
    third = n_layers // 3
    if index < third:
        return "early"
    return "middle" if index < 2 * third else "deep"
