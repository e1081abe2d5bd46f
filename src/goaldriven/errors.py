"""The errors a user can meet. Each message names the field, what was given and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GoaldrivenError(Exception):
    """Base of every error that is the user's to mend; the command line prints no traceback."""


class SpecError(GoaldrivenError, ValueError):
    """A specification (network, study, rule, …) is not valid."""


class DataError(GoaldrivenError, ValueError):
    """Data that a task, a recording or a trajectory file supplies cannot be used."""


class StudyError(GoaldrivenError):
    """A study folder cannot be read, written or continued."""


class IdentificationError(GoaldrivenError, ValueError):
    """An identification experiment cannot be run on these examples."""


def unknown(field: str, given: object, allowed: Iterable[str]) -> str:
    """The message for a name that is not in a table; it lists the known ones.

    >>> unknown("rule", "ai", ["adam", "fa", "ia", "sgdm"])
    "rule must be one of adam, fa, ia, sgdm; got 'ai' (did you mean 'ia'?)"
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{field} must be one of {', '.join(names)}; got {given!r}{hint}"
