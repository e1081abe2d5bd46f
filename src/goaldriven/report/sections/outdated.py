"""Whether results are of the networks that the study has now."""

from __future__ import annotations

from collections.abc import Collection

from goaldriven.report.names import plural
from goaldriven.report.study import StudyData


def outdated(data: StudyData, network_ids: Collection[str], remedy: str) -> str | None:
    """What to say if networks were trained since, or trained again; None if not.

    Parameters
    ----------
    network_ids : of the networks that the results are of.
    remedy : what to do about it, in the imperative.
    """
    trained, used = {str(n.attrs["network_id"]) for n in data.trained}, set(network_ids)
    missing, gone = trained - used, used - trained
    if not missing | gone:
        return None
    counts = [
        f"{len(some)} {what}" for some, what in ((missing, "not"), (gone, "no longer")) if some
    ]
    return (
        f"These results are of {plural(len(used), 'network')}, the study has "
        f"{plural(len(trained), 'trained network')} ({' and '.join(counts)} among them): {remedy}."
    )
