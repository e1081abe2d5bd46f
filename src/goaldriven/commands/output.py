"""Tables on standard output: nothing is cut off, whatever the width."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Column, Table

_UNLIMITED = 10_000
"""Columns of what is not a terminal: a file or a program reads whole lines."""


def output() -> Console:
    """Standard output: as wide as the terminal, and of any width where it is none."""
    return Console() if sys.stdout.isatty() else Console(width=_UNLIMITED)


def plain_table(*columns: str) -> Table:
    """A table without lines; a cell that is too long goes on in the next line, cut nowhere."""
    headers = (Column(name, overflow="fold") for name in columns)
    return Table(*headers, box=None, pad_edge=False)
