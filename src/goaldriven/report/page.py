"""Sections → one self-contained HTML file."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
import matplotlib as mpl
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from goaldriven.report.blocks import (
    Block,
    Comparison,
    Heading,
    Items,
    Paragraph,
    Plate,
    Section,
    Table,
)
from goaldriven.report.style import drawing_settings

_PIXELS_PER_INCH = 119
"""On the screen, where a full-width figure of 7 inches fills the column of text."""


@dataclass(frozen=True)
class _PlacedPlate:
    """A plate with its number and its picture, as the template wants it."""

    plate: Plate
    number: int
    source: str
    width: int  # CSS pixels
    height: int


def render(title: str, subtitle: str, sections: Sequence[Section], made_with: str) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["csv_uri"] = csv_uri
    environment.tests["paragraph"] = lambda b: isinstance(b, Paragraph)
    environment.tests["table"] = lambda b: isinstance(b, Table)
    environment.tests["items"] = lambda b: isinstance(b, Items)
    environment.tests["heading"] = lambda b: isinstance(b, Heading)
    environment.tests["comparison"] = lambda b: isinstance(b, Comparison)
    files = resources.files("goaldriven.report")
    template = environment.from_string((files / "page.html").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        subtitle=subtitle,
        sections=_placed(sections),
        css=Markup((files / "page.css").read_text(encoding="utf-8")),
        made_with=made_with,
    )


def _placed(sections: Sequence[Section]) -> list[tuple[Section, list[Block | _PlacedPlate]]]:
    number = itertools.count(1)
    return [
        (
            section,
            [_place(b, next(number)) if isinstance(b, Plate) else b for b in section.blocks],
        )
        for section in sections
    ]


def _place(plate: Plate, number: int) -> _PlacedPlate:
    width, height = plate.figure.get_size_inches()
    return _PlacedPlate(
        plate,
        number,
        svg_uri(plate.figure),
        width=round(_PIXELS_PER_INCH * width),
        height=round(_PIXELS_PER_INCH * height),
    )


def svg_uri(figure: Figure) -> str:
    """A figure as a ``data:`` URI of its SVG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context(drawing_settings()):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def csv_uri(data: pd.DataFrame) -> str:
    """A table as a ``data:`` URI of its CSV (UTF-8, 6 significant digits, empty for NaN)."""
    text = data.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    encoded = base64.b64encode(text.encode("utf-8")).decode()
    return f"data:text/csv;charset=utf-8;base64,{encoded}"
