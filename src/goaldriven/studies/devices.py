"""The torch device that networks are to train on, checked before any does."""

from __future__ import annotations

from goaldriven.errors import StudyError


def check_device(device: str, *, here: bool = True) -> None:
    """Refuse a torch device that is not there, once, instead of in every network.

    Parameters
    ----------
    device : its name, such as ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    here : whether it must be one of this machine's; else torch must know such a device.

    Raises
    ------
    StudyError : names the devices that there are.
    """
    if device == "cpu":
        return  # and torch need not be imported
    from goaldriven.training.devices import devices_here, is_device

    if not here and is_device(device):
        return
    found = devices_here()
    if device not in found:
        raise StudyError(
            f"device must be one that torch finds on this machine ({', '.join(found)}), got "
            f"{device!r}"
            if here
            else f"device must be one that torch knows, such as cpu or cuda, got {device!r}"
        )
