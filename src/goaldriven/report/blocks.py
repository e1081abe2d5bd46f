"""What a page is made of: sections of text, notices, tables, plates (figures)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Paragraph:
    """Running text. Plain strings are escaped; `markupsafe.Markup` is taken as HTML."""

    text: str
    kind: Literal["plain", "answer", "notice"] = "plain"


@dataclass(frozen=True)
class Download:
    """A CSV file to be had from the page."""

    filename: str
    data: pd.DataFrame


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first ``text_columns`` are words, the others numbers.

    ``words``: whole sentences stand in the columns of text. ``folded``: shown when it is opened.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    downloads: tuple[Download, ...] = ()
    text_columns: int = 1
    words: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Items:
    """A bulleted list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Heading:
    """Begins a part of a section; ``key`` is its name in links."""

    key: str
    title: str


@dataclass(frozen=True)
class Comparison:
    """What was found here beside what the paper found (empty where it did not ask)."""

    found: str
    paper: str
    status: str


@dataclass(frozen=True)
class Plate:
    """A figure with what a reader needs beside it.

    Attributes
    ----------
    key : name of the figure in links and file names.
    title : what it shows, in a few words.
    caption : what to see in it, with the numbers.
    alt : what a reader who cannot see it is told.
    downloads : the numbers that are drawn.
    """

    key: str
    title: str
    caption: str
    alt: str
    figure: Figure
    downloads: tuple[Download, ...]


Block = Paragraph | Table | Items | Plate | Heading | Comparison


@dataclass(frozen=True)
class Section:
    """A part of the page under one heading."""

    key: str
    title: str
    blocks: tuple[Block, ...] = field(default=())
