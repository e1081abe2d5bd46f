"""Which torch devices there are."""

from __future__ import annotations

import torch


def devices_here() -> list[str]:
    """The names of this machine's torch devices that networks can be trained on."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names += ["mps"]
    return names


def is_device(name: str) -> bool:
    """Whether torch knows such a device, here or elsewhere."""
    try:
        torch.device(name)
    except RuntimeError:
        return False
    return True
