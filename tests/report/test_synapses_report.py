"""The page of synaptic dynamics, its figures, and the command that writes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from goaldriven import synapses as syn
from goaldriven.report import synapses as report
from goaldriven.report.figures import synapses, synapses_kesten, synapses_markov
from goaldriven.synapses import analysis as module
from goaldriven.synapses import networks
from report.html_pages import PageReader


@pytest.fixture(scope="module")
def analysis():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIMULATIONS", 5)
        patch.setattr(module, "TEST_RESAMPLES", 2)
        return syn.analyse(syn.load_demo(), bootstraps=20)


@pytest.fixture(scope="module")
def folder(analysis, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    report.write_synapses(analysis, folder, source="published data")
    return folder


def test_the_page_has_all_sections_and_every_number_to_download(folder, analysis):
    reader = PageReader()
    reader.feed((folder / "report.html").read_text(encoding="utf-8"))
    assert reader.sections == ["data", "description", "markov", "kesten", "rule", "methods"]
    assert len(reader.ids) == len(set(reader.ids))
    assert [f.key for f in reader.figures] == [
        "synapses", "intervals", "transitions", "predictions", "convergence", "kesten-moments",
        "comparison",
    ]  # fmt: skip
    for figure in reader.figures:
        assert figure.links
        assert figure.image["alt"]
        assert figure.svg().startswith(b"<?xml")
    assert "0.46 ± 0.03 ln units (58%, n = 174)" in reader.text
    assert "0.24 ± 0.02 ln units (27%, n = 190)" in reader.text


def test_tables_figures_and_chains_lie_beside_the_page(folder, analysis):
    written = {p.stem for p in (folder / "tables").glob("*.csv")}
    assert written == set(module.ANALYSES)
    back = pd.read_csv(folder / "tables" / "survival.csv")
    pd.testing.assert_frame_equal(back, analysis.tables["survival"])
    assert {p.suffix for p in (folder / "figures").iterdir()} == {".pdf", ".png"}
    assert (folder / "markov.nc").stat().st_size > 1000
    again = syn.read_table(folder / "sizes.csv")
    np.testing.assert_array_equal(again["size"], syn.load_demo()["size"])
    assert not list(folder.rglob("*.partial"))


def test_the_same_analysis_writes_the_same_page(folder, analysis, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_FORMATS", ())  # figures are drawn anew for the page all the same
    report.write_synapses(analysis, tmp_path, source="published data")
    assert (tmp_path / "report.html").read_bytes() == (folder / "report.html").read_bytes()


def lines_of(axes):
    return [(np.asarray(x.get_xdata(), float), np.asarray(x.get_ydata(), float))
            for x in axes.get_lines()]  # fmt: skip


def test_figures_draw_what_the_tables_hold(analysis):
    tables = analysis.tables
    figure = synapses.description(analysis.table, tables)
    titles = [a.get_title(loc="left")[0] for a in figure.axes]
    assert titles == list("abcdef")
    survival = tables["survival"]
    for group, (x, y) in zip(("pyr", "pv"), lines_of(figure.axes[3]), strict=True):
        mine = survival[survival["group"] == group]
        np.testing.assert_array_equal(x, mine["day"])
        np.testing.assert_array_equal(y, mine["survival"])
    # The histogram's area over ln size is 1.
    steps = figure.axes[0].patches
    for step in steps:
        values, edges, _ = step.get_data()
        assert (values * np.diff(np.log(edges))).sum() == pytest.approx(1)
    figure = synapses_markov.transitions(tables["markov_transitions"], tables["markov_states"])
    drawn = figure.axes[1].images[0].get_array()
    p = analysis.fits["pv"].transition
    np.testing.assert_array_equal(drawn.filled(0), np.where(p < 0.003, 0, p))


def test_lines_of_moments_are_those_of_the_parameters(analysis):
    line = {"mu_a": -0.5, "mu_b": 0.25, "var_a": 0.1, "var_b": 0.05}
    rows = analysis.tables["kesten_moments"]
    figure = synapses_kesten.moments(rows, {"pyr": line}, {})
    x, y = lines_of(figure.axes[0])[-1]
    np.testing.assert_allclose(y, 0.25 - 0.5 * x)
    x, y = lines_of(figure.axes[1])[-1]
    np.testing.assert_allclose(y, 0.05 + 0.1 * x)


def test_a_table_of_two_days_still_has_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_FORMATS", ())
    rng = np.random.default_rng(1)
    w = rng.lognormal(size=(60, 2))
    table = syn.make_table(w, [0, 4], np.arange(60) // 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIMULATIONS", 5)
        patch.setattr(module, "TEST_RESAMPLES", 2)
        found = syn.analyse(table, bootstraps=10)
    reader = PageReader()
    reader.feed(report.write_synapses(found, tmp_path).read_text(encoding="utf-8"))
    assert "must be observed on 3 successive days" in reader.text
    assert reader.marked["notice"]


def run(*arguments, cwd):
    code = "from goaldriven.cli import main; main()"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", code, "synapses", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env=environment, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_command_reads_a_group_and_tells_the_numbers(tmp_path):
    syn.write_csv(syn.load_demo(), tmp_path / "t.csv")
    done = run("fit", "t.csv", "--group", "pv", "--out", "out", "--bootstraps", 5, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0.240 ± 0.016 (n = 190)" in done.stdout
    assert "pyr" not in done.stdout
    assert (tmp_path / "out" / "report.html").exists()


BAD = {
    "group": (
        ["t.csv", "--group", "sst"],
        "t.csv: --group must be one of pv, pyr; got 'sst'",
    ),
    "no file": (["none.csv"], "none.csv: file must exist, got none"),
    "ending": (
        ["t.mat"],
        "t.mat: file's ending must be one of .csv, .nc, .npz, .nwb; got '.mat'",
    ),
    "negative": (
        ["negative.csv"],
        "negative.csv: size must be zero (absent) or above, or NaN (not observed), got -1 for "
        "synapse 0 on day 4",
    ),
    "absent": (
        ["absent.csv"],
        "absent.csv: size must be above 0 in at least one session of every synapse, got 1 of 1 "
        "synapses without one, the first 's'",
    ),
    "one day": (["day.csv"], "day.csv: day must hold at least two days, got 1"),
}
HEAD = "synapse,dendrite,day,size\n"


@pytest.mark.parametrize("case", BAD, ids=str)
def test_mistakes_are_one_message_and_exit_code_2(case, tmp_path, monkeypatch, capsys):
    from goaldriven import cli

    table = syn.load_demo().isel(synapse=[0, -1])
    syn.write_csv(table, tmp_path / "t.csv")
    for name, rows in (
        ("negative", "s,a,0,1\ns,a,4,-1\n"),
        ("absent", "s,a,0,0\ns,a,4,0\n"),
        ("day", "s,a,0,1\nr,a,0,1\n"),
    ):
        Path(tmp_path / f"{name}.csv").write_text(HEAD + rows, encoding="utf-8")
    arguments, message = BAD[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["goaldriven", "synapses", "fit", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"goaldriven: {message}\n"
    assert not (tmp_path / "results").exists()


def test_networks_have_a_page_of_their_own(tmp_path):
    rng = np.random.default_rng(2)
    parts = {"network": ["a", "b", "c"], "rule": ["fa", "ia", "fa"]}
    size = rng.lognormal(size=(90, 6)).cumprod(axis=1) ** 0.2
    labels = {k: ("synapse", np.repeat(v, 30)) for k, v in parts.items()}
    weights = xr.Dataset({"weight": (("synapse", "epoch"), size)}, {"epoch": range(6), **labels})
    moments = networks.weight_moments(weights, bins=5)
    compared = pd.DataFrame(
        {
            "rule": ["fa", "fa", "ia", "ia"], "kind": "comparison", "estimator": "held out",
            "name": ["log-OU", "kesten"] * 2, "value": [0, -0.1, -0.2, 0],
            "low": [0, -0.2, -0.3, 0], "high": [0, -0.05, -0.1, 0],
        }
    )  # fmt: skip
    reader = PageReader()
    page = report.write_networks(moments, compared, tmp_path)
    reader.feed(page.read_text(encoding="utf-8"))
    assert "Rule that predicts held-out networks best: fa: log-OU; ia: kesten." in reader.text
    assert [f.key for f in reader.figures] == ["weight-dynamics"]
    back = pd.read_csv(tmp_path / "tables" / "network_moments.csv")
    pd.testing.assert_frame_equal(back, moments)


@pytest.mark.parametrize("n_synapses", [1, 2, 3])
def test_a_tiny_table_has_a_page(n_synapses, tmp_path, monkeypatch):
    """What so few synapses do not allow is left out or blank."""
    monkeypatch.setattr(module, "SIMULATIONS", 5)
    sizes = np.random.default_rng(0).lognormal(size=(n_synapses, 3))
    table = syn.make_table(sizes, [0.0, 4.0, 8.0], np.zeros(n_synapses, dtype=int))
    found = syn.analyse(table, bootstraps=5)
    assert ("all", "kesten") in found.skipped
    tested = found.tables["lognormality"]
    assert tested["n"].tolist() == [n_synapses] * 3
    assert tested[["mu", "sigma", "anderson_darling", "p"]].isna().all(axis=None)
    page = report.write_synapses(found, tmp_path).read_text(encoding="utf-8")
    assert "Is log size normal?" in page


def test_no_synapse_of_a_middling_size(tmp_path):
    sizes = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    found = syn.analyse(syn.make_table(sizes, [0.0, 4.0, 8.0], [0, 0]), bootstraps=5)
    assert found.skipped["all", "weight_changes"] == (
        "synapses must number at least 1 to be resampled, got none that qualify"
    )
