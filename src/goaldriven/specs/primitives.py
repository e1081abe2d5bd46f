"""The primitives of which layer-wise alignment losses are made, and what is local about them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class PrimitiveInfo(NamedTuple):
    """One primitive P of a layer with input x, output y = Wx and pseudogradient ∇.

    Local in computation: synaptic weights act only on their own inputs. Local in plasticity: a
    weight's change depends on its pre- and postsynaptic activity only.
    Source: thesis section 5.4.1, by the criteria of Whittington and Bogacz.
    """

    value: str
    local_computation: bool
    local_plasticity: bool

    @property
    def local(self) -> bool:
        return self.local_computation and self.local_plasticity


PRIMITIVE_INFOS: dict[str, PrimitiveInfo] = {
    "decay": PrimitiveInfo("½‖B‖²", True, True),
    "amp": PrimitiveInfo("−xᵀBy", True, True),
    "null": PrimitiveInfo("½‖By‖²", True, True),
    # B leads from the output to the input: it does not act on x.
    "sparse": PrimitiveInfo("½‖xᵀB‖²", False, True),
    # The change of B is W itself, which B would have to measure.
    "self": PrimitiveInfo("−tr(BW)", True, False),
    "angle": PrimitiveInfo("xᵀB∇", True, True),
}


class Locality(NamedTuple):
    """Whether all primitives of a rule are local."""

    computation: bool
    plasticity: bool

    @property
    def local(self) -> bool:
        return self.computation and self.plasticity


def locality(primitives: Iterable[str]) -> Locality:
    """The locality of a rule made of these primitives: local where every one of them is.

    >>> locality(["amp", "decay", "null"]).local, locality(["decay", "self"])
    (True, Locality(computation=True, plasticity=False))
    """
    infos = [PRIMITIVE_INFOS[name] for name in primitives]
    return Locality(
        all(info.local_computation for info in infos), all(info.local_plasticity for info in infos)
    )
