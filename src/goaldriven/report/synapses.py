"""The page of an analysis of synaptic sizes, with its tables and figures beside it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd

import goaldriven
from goaldriven.report.blocks import Items, Plate, Section
from goaldriven.report.page import render
from goaldriven.report.sections import synapses, synapses_rules
from goaldriven.report.style import drawing_settings
from goaldriven.synapses.analysis import SIMULATIONS, Analysis, markov_dataset
from goaldriven.synapses.files import write_csv
from goaldriven.trajectories.atomic import write_bytes
from goaldriven.trajectories.files import to_netcdf

_FORMATS = ("pdf", "png")


def write_synapses(
    analysis: Analysis, folder: str | Path, *, title: str = "Synaptic dynamics", source: str = ""
) -> Path:
    """Write an analysis into a folder and return the path of its page.

    ``report.html`` (one self-contained page), ``tables/*.csv`` (every table, all groups),
    ``sizes.csv`` (the sizes, tidy), ``markov.nc`` (the chains) and ``figures/*.pdf``, ``*.png``.
    Each file is written whole or not at all; a page is written last.

    Raises
    ------
    StudyError : a file cannot be written.
    """
    folder = Path(folder)
    for name, table in analysis.tables.items():
        content = table.to_csv(index=False, lineterminator="\n")
        write_bytes(folder / "tables" / f"{name}.csv", content.encode("utf-8"))
    write_csv(analysis.table, folder / "sizes.csv")
    if analysis.fits:
        write_bytes(folder / "markov.nc", to_netcdf(markov_dataset(analysis)))
    return _page(title, source, page_sections(analysis), folder)


def write_networks(moments: pd.DataFrame, fits: pd.DataFrame, folder: str | Path) -> Path:
    """Write the analysis of networks' weights as a page with its tables and figure beside it.

    Parameters
    ----------
    moments, fits : of `goaldriven.synapses.networks.weight_moments` and ``fit_weights``, by rule.

    Raises
    ------
    StudyError : a file cannot be written.
    """
    folder = Path(folder)
    for name, table in (("network_moments", moments), ("network_fits", fits)):
        content = table.to_csv(index=False, lineterminator="\n")
        write_bytes(folder / "tables" / f"{name}.csv", content.encode("utf-8"))
    section = synapses_rules.networks(moments, fits)
    return _page("Weights of trained networks as synapses", "", (section,), folder)


def _page(title: str, subtitle: str, sections: Sequence[Section], folder: Path) -> Path:
    """The figures, each in a file, and then the page.

    The page is rendered first: saving a figure in one format moves its layout in the next a little.
    """
    page = render(title, subtitle, sections, f"Written by goaldriven {goaldriven.__version__}.")
    for plate in (b for s in sections for b in s.blocks if isinstance(b, Plate)):
        for ending in _FORMATS:
            write_bytes(folder / "figures" / f"{plate.key}.{ending}", _picture(plate, ending))
    path = folder / "report.html"
    write_bytes(path, page.encode("utf-8"))
    return path


def page_sections(analysis: Analysis) -> tuple[Section, ...]:
    """All sections of the page."""
    lines = synapses_rules.kesten_lines(analysis, "binned")
    return (
        synapses.data(analysis),
        synapses.description(analysis),
        synapses.markov(analysis, lines),
        synapses_rules.kesten(analysis),
        synapses_rules.comparison(analysis),
        _methods(analysis),
    )


def _methods(analysis: Analysis) -> Section:
    items: Sequence[str] = (
        "Sizes: 0 is absent, an empty cell not observed. Births and deaths need both sessions.",
        "Markov chain: 40 bins of equal width above 0, the last 21 pooled, and absence; "
        "transition probabilities by maximum likelihood over pairs of successive sessions.",
        "Stationary distribution: left eigenvector of the eigenvalue 1; of a chain that falls "
        "apart, the mix reached from the data.",
        f"p-values of the chain's tests: {SIMULATIONS} tables simulated by the chain, the same "
        "synapses seen in the same sessions. The chain of bins is tested: a first-order process "
        "of sizes need not be a first-order chain of bins.",
        "Source of the methods: Melander, Nayebi et al. 2021, Cell Reports 37, 109972.",
    )
    return Section("methods", "Methods", (Items(tuple(items)),))


def _picture(plate: Plate, ending: str) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(drawing_settings()):
        if ending == "pdf":
            plate.figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
        else:
            plate.figure.savefig(buffer, format="png", dpi=200)
    return buffer.getvalue()
