"""Tables on standard output: every name whole, piped or at 80 columns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from goaldriven import cli
from goaldriven.commands import listing, planning
from goaldriven.identify import CLASSIFIERS
from goaldriven.identify.experiments import EXPERIMENTS
from goaldriven.specs import RULES, STATISTICS
from goaldriven.studies.files import shipped_studies
from goaldriven.studies.measuring import shipped_measurements

NAMES = {
    "rules": list(RULES),
    "statistics": list(STATISTICS),
    "studies": list(shipped_studies()),
    "classifiers": list(CLASSIFIERS),
    "measurements": list(shipped_measurements()),
    "experiments": list(EXPERIMENTS),
}


@pytest.mark.parametrize("table", NAMES)
def test_names_are_whole_when_piped(table, monkeypatch, capsys):
    """One line per entry, whatever the width of the terminal beside it."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.argv", ["goaldriven", "list", table])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    shown = capsys.readouterr().out
    words = shown.split()
    assert set(NAMES[table]) <= set(words)
    assert "…" not in words
    assert [line.split()[0] for line in shown.splitlines()] == ["name", *NAMES[table]]


@pytest.mark.parametrize("table", NAMES)
def test_nothing_is_cut_at_80_columns(table, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(listing, "output", lambda: Console(file=stream, width=80))
    listing.show_table(table)
    names = "".join(line.split("  ")[0].strip() for line in stream.getvalue().splitlines())
    assert all(name in names for name in NAMES[table])
    assert "…" not in stream.getvalue()
    assert max(map(len, stream.getvalue().splitlines())) <= 80


def test_a_plan_at_80_columns(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(planning, "output", lambda: Console(file=stream, width=80))
    planning.plan("digits", "task=digits", [], "tf32", None, False, "cpu", False)
    assert "…" not in stream.getvalue()
