"""Whether results are of what the study has now: networks, measurements, version."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection
from dataclasses import dataclass

from goaldriven.report.names import listing, plural
from goaldriven.report.study import StudyData
from goaldriven.trajectories.measured import measurements_of


@dataclass(frozen=True)
class Basis:
    """What results depend on.

    Attributes
    ----------
    network_ids : of the networks that they are of.
    version : of goaldriven, that made them; None where they do not tell.
    measurement_ids : of the measurements that the study had; empty for results of none.
    """

    network_ids: Collection[str]
    version: str | None = None
    measurement_ids: Collection[str] = ()


def outdated(data: StudyData, basis: Basis, remedy: str) -> str | None:
    """What to say if anything that results depend on has changed since; None if not.

    Parameters
    ----------
    basis : of the results.
    remedy : what to do about it, in the imperative.
    """
    changes = [
        text
        for text in (_networks(data, basis), _measurements(data, basis), _version(basis))
        if text
    ]
    return f"These results are of {listing(changes)}: {remedy}." if changes else None


def _networks(data: StudyData, basis: Basis) -> str:
    trained, used = {str(n.attrs["network_id"]) for n in data.trained}, set(basis.network_ids)
    missing, gone = trained - used, used - trained
    if not missing | gone:
        return ""
    counts = [
        f"{len(some)} {what}" for some, what in ((missing, "not"), (gone, "no longer")) if some
    ]
    return (
        f"{plural(len(used), 'network')}, the {data.kind} has "
        f"{plural(len(trained), 'trained network')} ({' and '.join(counts)} among them)"
    )


def _measurements(data: StudyData, basis: Basis) -> str:
    used = set(basis.measurement_ids)
    if not used:
        return ""
    now = {spec.measurement_id for spec in measurements_of(data.folder)}
    if now == used:
        return ""
    return (
        f"{plural(len(used), 'measurement')}, the {data.kind} has {len(now)} "
        f"({len(now - used)} new, {len(used - now)} gone)"
    )


def _version(basis: Basis) -> str:
    now = importlib.metadata.version("goaldriven")
    return (
        "" if basis.version in (None, now) else f"goaldriven {basis.version}, this page is of {now}"
    )
