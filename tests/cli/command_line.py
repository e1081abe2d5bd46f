"""The command line, run in this process."""

from __future__ import annotations

import pytest

from goaldriven import cli


def goaldriven(monkeypatch, capsys, *arguments: object) -> tuple[int, str]:
    """Run the command line in this process; (exit code, standard error)."""
    monkeypatch.setattr("sys.argv", ["goaldriven", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0), capsys.readouterr().err
