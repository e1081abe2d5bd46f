"""Whether a Ray cluster is still there. Ray itself ends the driver's process after a minute."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import ModuleType, TracebackType
from typing import Any

from goaldriven.studies.executors.ray_cluster import greet

EVERY = 1.0
"""Seconds between two questions."""
REFUSED_FOR = 8.0
"""Seconds after which a head that refuses connections is gone; one that is replaced may be back."""
SILENT_FOR = 30.0
"""Seconds after which one that does not answer is; it may only be busy."""


class Pulse:
    """Asks a cluster's head now and then, in a thread of its own, on a connection of its own.

    Parameters
    ----------
    address : HOST:PORT; None, or one that does not answer at first (behind TLS, say), is not asked.
    """

    def __init__(self, address: str | None) -> None:
        self._address, self._over = address, threading.Event()
        self._answered = time.monotonic()
        self._trouble: OSError | None = None
        self._thread: threading.Thread | None = None
        if address is not None and self._ask() is None:
            self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> Pulse:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()

    def trouble(self) -> str | None:
        """Why the cluster is taken to be gone; None while it is not."""
        error = self._trouble
        if error is None:
            return None
        for_seconds = time.monotonic() - self._answered
        silent = isinstance(error, TimeoutError)
        if for_seconds < (SILENT_FOR if silent else REFUSED_FOR):
            return None
        reason = "no answer" if silent else (error.strerror or str(error))
        return f"{reason} from {self._address} for {for_seconds:.0f} s"

    def _go_on(self) -> None:
        while not self._over.wait(EVERY):
            error = self._ask()
            if error is None:
                self._answered = time.monotonic()
            self._trouble = error

    def _ask(self) -> OSError | None:
        host, _, port = str(self._address).rpartition(":")
        try:
            greet(host, int(port))
        except OSError as error:
            return error
        except ValueError:
            return OSError(f"no address: {self._address!r}")
        return None


def pulse_of(ray: ModuleType, address: str) -> Pulse:
    """The pulse of the cluster that ``ray`` is connected to, by an ``address``."""
    if address.startswith("ray://"):  # the head itself may be out of reach from here
        return Pulse(address.removeprefix("ray://"))
    if importlib.import_module("ray.util.client").ray.is_connected():
        return Pulse(None)
    return Pulse(str(ray.get_runtime_context().gcs_address))


def in_time(call: Callable[[], Any], seconds: float) -> Any:
    """What a call returns that may hang; it is left to hang in a thread of its own.

    Raises
    ------
    TimeoutError : it has not returned within ``seconds``.
    """
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result(seconds)
