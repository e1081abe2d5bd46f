"""Which code this is: the version, and a fingerprint of the sources that tells edits apart."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import goaldriven


@lru_cache(maxsize=1)
def code_version() -> str:
    """``0.1.0 (sources 1f0c…)``: equal where and only where the package's Python files are equal.

    >>> code_version() == code_version()
    True
    """
    root = Path(goaldriven.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{goaldriven.__version__} (sources {digest.hexdigest()[:8]})"
