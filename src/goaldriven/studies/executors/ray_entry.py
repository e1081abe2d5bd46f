"""The function that a Ray task is: it looks at the node's code before that is trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from goaldriven.errors import StudyError

_OTHER_CODE = "goaldriven-other-code:"


def entry(expected: str) -> Callable[[bytes, Any, str], Any]:
    """The task, for nodes with the code ``expected``. Being local, it travels whole."""
    marker = _OTHER_CODE

    def fulfil_order(order: bytes, board: Any, key: str) -> Any:
        import pickle
        import socket

        import ray

        here = f"node {socket.gethostname()} ({ray.util.get_node_ip_address()})"
        try:
            from goaldriven.studies.executors.code_version import code_version
        except ImportError as error:
            raise RuntimeError(f"{marker}{here} has none or an older one ({error})") from None
        if code_version() != expected:
            raise RuntimeError(f"{marker}{here} has {code_version()}")
        from goaldriven.studies.executors.ray_board import Line
        from goaldriven.studies.executors.ray_task import fulfil

        line = Line(ray, board, key, ray.get_runtime_context().get_node_id())
        line.tell({})
        return fulfil(pickle.loads(order), line)

    return fulfil_order


def refuse_other_code(error: Exception, expected: str) -> None:
    """End the run where a task failed for its node's code.

    Raises
    ------
    StudyError : it did; names the node.
    """
    text = str(error)
    if _OTHER_CODE in text:
        what = text.rpartition(_OTHER_CODE)[2].strip().split("\n")[0]
        raise StudyError(
            f"all nodes must have the driver's goaldriven, {expected}; {what}. Install the "
            "same one everywhere; what was finished is kept, run again to go on"
        )
