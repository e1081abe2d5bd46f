"""A cluster's pulse: who answers, who refuses, who is silent."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from goaldriven.studies.executors import ray_cluster, ray_pulse
from goaldriven.studies.executors.ray_pulse import Pulse, in_time


@contextlib.contextmanager
def head(answers: bool = True) -> Iterator[tuple[str, socket.socket]]:
    """Something that says the first word of HTTP/2, as a head does, or keeps silent."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = server.accept()
                with line:
                    line.sendall(b"\0\0\0\4")

    if answers:
        threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{server.getsockname()[1]}", server
    server.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(ray_pulse, "EVERY", 0.02)
    monkeypatch.setattr(ray_pulse, "REFUSED_FOR", 0.3)
    monkeypatch.setattr(ray_pulse, "SILENT_FOR", 0.9)
    monkeypatch.setattr(ray_cluster, "ANSWER_WITHIN", 0.1)


def seconds_to_trouble(pulse: Pulse) -> tuple[float, str]:
    started = time.monotonic()
    while (trouble := pulse.trouble()) is None:
        assert time.monotonic() - started < 10
        time.sleep(0.01)
    return time.monotonic() - started, trouble


def test_a_head_that_refuses_is_gone_after_a_while():
    with head() as (address, server), Pulse(address) as pulse:
        time.sleep(0.5)
        assert pulse.trouble() is None
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        seconds, trouble = seconds_to_trouble(pulse)
    assert seconds >= 0.2
    assert trouble.startswith(f"Connection refused from {address} for")


def test_a_head_that_is_silent_is_given_more_time(monkeypatch):
    with head() as (address, server), Pulse(address) as pulse:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        host, port = address.split(":")
        with socket.create_server((host, int(port))):
            seconds, trouble = seconds_to_trouble(pulse)
    assert seconds >= 0.8
    assert trouble.startswith(f"no answer from {address} for")


def test_what_cannot_be_asked_is_not_in_trouble():
    with head(answers=False) as (address, _), Pulse(address) as pulse:
        time.sleep(0.5)
        assert pulse.trouble() is None
    with Pulse(None) as pulse:
        assert pulse.trouble() is None


def test_a_call_that_hangs_is_left_hanging():
    assert in_time(lambda: 7, 1.0) == 7
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 // 0, 1.0)
    with pytest.raises(TimeoutError):
        in_time(lambda: time.sleep(0.5), 0.05)
