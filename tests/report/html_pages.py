"""Reading pages back: a strict enough HTML reader for tests."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd

VOID = {"meta", "link", "img", "br", "hr"}


@dataclass
class FigureOnPage:
    """One figure: its picture's attributes, its caption and its links."""

    key: str
    image: dict[str, str] = field(default_factory=dict)
    caption: str = ""
    links: list[dict[str, str]] = field(default_factory=list)

    def svg(self) -> bytes:
        head, _, body = self.image["src"].partition(",")
        assert head == "data:image/svg+xml;base64"
        return base64.b64decode(body, validate=True)


class PageReader(HTMLParser):
    """Collects what tests ask for; fails on tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str]]] = []
        self.ids: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self.sections: list[str] = []
        self.links: list[dict[str, str]] = []
        self.figures: list[FigureOnPage] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.marked: dict[str, list[str]] = {"answer": [], "notice": []}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = {name: value or "" for name, value in attrs}
        self.attributes += [(tag, name, value) for name, value in own.items()]
        if "id" in own:
            self.ids.append(own["id"])
        if tag == "section":
            self.sections.append(own["id"])
        if tag == "figure":
            self.figures.append(FigureOnPage(own["id"]))
        if tag == "img" and self._inside("figure"):
            self.figures[-1].image = own
        if tag == "a":
            self.links.append(own)
            if self._inside("figure"):
                self.figures[-1].links.append(own)
        if tag in {"h1", "h2", "h3", "h4"}:
            self.headings.append((int(tag[1]), ""))
        if own.get("class") in self.marked:
            self.marked[own["class"]].append("")
        if tag not in VOID:
            self.open.append((tag, own))

    def handle_endtag(self, tag: str) -> None:
        last, _ = self.open.pop()
        assert last == tag, f"</{tag}> closes <{last}>"

    def handle_data(self, data: str) -> None:
        if self._inside("style"):
            return
        self.text += data
        if self.open and self.open[-1][0] in {"h1", "h2", "h3", "h4"}:
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)
        if self._inside("figcaption"):
            self.figures[-1].caption += data
        for _, attributes in self.open:
            if attributes.get("class") in self.marked:
                self.marked[attributes["class"]][-1] += data

    def _inside(self, tag: str) -> bool:
        return any(name == tag for name, _ in self.open)


def read_page(path: Path) -> PageReader:
    reader = PageReader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert not reader.open, f"never closed: {[tag for tag, _ in reader.open]}"
    return reader


def csv_of(link: dict[str, str]) -> pd.DataFrame:
    """The table behind a download link."""
    head, _, body = link["href"].partition(",")
    assert head == "data:text/csv;charset=utf-8;base64"
    return pd.read_csv(
        io.BytesIO(base64.b64decode(body, validate=True)),
        dtype={"network_id": str},
    )
