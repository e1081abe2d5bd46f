"""Reaching a Ray cluster, with one clear message where there is none."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from goaldriven.errors import StudyError

ANSWER_WITHIN = 5.0
"""Seconds that a cluster has to answer."""
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_SETTINGS_FRAME = b"\x04"
"""Ray speaks gRPC, over HTTP/2: both sides begin with a frame of settings (RFC 9113, 3.4)."""
_HELP = (
    "start one ('ray start --head', or the Slurm recipe in examples/slurm_ray.sh), give its "
    "--address, or leave out --executor for the local pool"
)


@dataclass(frozen=True)
class RayOptions:
    """Where the cluster is, and what every network takes of it.

    Attributes
    ----------
    address : ``auto`` (the cluster this machine belongs to, or ``RAY_ADDRESS``), ``HOST:PORT``,
        ``ray://HOST:PORT``, or ``local`` for one of this machine alone, made now.
    gpus_per_network : a fraction below 1 shares a GPU; above, a whole number.
    cpus_per_network : cores reserved for a network.
    """

    address: str = "auto"
    gpus_per_network: float = 0.0
    cpus_per_network: float = 1.0

    def __post_init__(self) -> None:
        for name in ("gpus_per_network", "cpus_per_network"):
            value = getattr(self, name)
            if value < 0 or (value > 1 and value != int(value)):
                raise StudyError(
                    f"{name} must be between 0 and 1, or a whole number above, got {value:g}"
                )


@contextlib.contextmanager
def connected(options: RayOptions) -> Iterator[tuple[ModuleType, bool]]:
    """The ``ray`` module, connected, and whether it was before; such a connection stays.

    Raises
    ------
    StudyError : Ray is not installed, no cluster answers, or none of its nodes is large enough.
    """
    ray = _import_ray()
    if ray.is_initialized():
        _check_size(ray, options)
        yield ray, True
        return
    _check_address(options.address)
    try:
        ray.init(**_arguments(options.address))
    except (Exception, SystemExit) as error:  # Ray exits where it cannot connect
        reason = str(error).strip().split("\n")[0]
        raise StudyError(f"{_unreachable(options.address)}: {reason}; {_HELP}") from None
    try:
        _check_size(ray, options)
        yield ray, False
    finally:
        ray.shutdown()


def _import_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise StudyError(
            "executor 'ray' needs the package 'ray', which is not installed: "
            "pip install 'goaldriven[cluster]'"
        ) from None
    module: ModuleType = ray
    return module


def _arguments(address: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "address": address,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "namespace": "goaldriven",
    }
    if address == "local":
        arguments["include_dashboard"] = False
    return arguments


def _check_address(address: str) -> None:
    """Ask whoever listens there to speak; Ray itself waits for long, and then ends the process."""
    if address == "auto":
        address = _address_of_this_machine() or "auto"
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise StudyError(
            f"address must be auto, local, HOST:PORT or ray://HOST:PORT, got {address!r}"
        )
    try:
        greet(host, int(port))
    except TimeoutError:
        reason = f"no answer within {ANSWER_WITHIN:g} s"
    except OSError as error:
        reason = error.strerror or str(error)
    else:
        return
    raise StudyError(f"{_unreachable(address)}: {reason}; {_HELP}")


def greet(host: str, port: int) -> None:
    """Have whoever listens there say the first word of Ray's protocol.

    Raises
    ------
    TimeoutError : not within `ANSWER_WITHIN`.
    OSError : nobody listens, or somebody else.
    """
    with socket.create_connection((host.strip("[]"), port), timeout=ANSWER_WITHIN) as line:
        line.sendall(_GREETING)
        answered = line.recv(4)
    if answered[3:] != _SETTINGS_FRAME:
        raise OSError("what listens there is not Ray")


def _address_of_this_machine() -> str | None:
    """Which cluster ``auto`` means, where this version of Ray says so."""
    if os.environ.get("RAY_ADDRESS"):
        return os.environ["RAY_ADDRESS"]
    with contextlib.suppress(Exception):
        from ray._private import services

        found = services.canonicalize_bootstrap_address("auto")
        return str(found) if found else None
    return None


def _unreachable(address: str) -> str:
    return f"address must be that of a Ray cluster that can be reached, got {address!r}"


def _check_size(ray: ModuleType, options: RayOptions) -> None:
    """Otherwise every network would wait for ever."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = options.cpus_per_network, options.gpus_per_network
    if not any(n.get("CPU", 0) >= cpus and n.get("GPU", 0) >= gpus for n in alive):
        largest = ", ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in alive)
        raise StudyError(
            f"cpus_per_network and gpus_per_network must fit on a node of the cluster, got "
            f"{cpus:g} and {gpus:g}; its nodes have {largest or 'nothing'}"
        )


def slots(ray: ModuleType, options: RayOptions) -> tuple[int, int]:
    """How many tasks the cluster runs at once, and how many of them share the memory of a device.

    A device is a GPU where tasks take of one, else the largest node.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    on_nodes = [_slots(node, options) for node in nodes]
    if options.gpus_per_network:
        sharing = max(1, int(1 / options.gpus_per_network))
    else:
        sharing = max(on_nodes, default=1)
    return max(1, sum(on_nodes)), max(1, sharing)


def _slots(resources: dict[str, float], options: RayOptions) -> int:
    asked = {"CPU": options.cpus_per_network, "GPU": options.gpus_per_network}
    shares = [resources.get(kind, 0.0) / share for kind, share in asked.items() if share]
    return int(min(shares, default=resources.get("CPU", 1.0)) + 1e-9)
