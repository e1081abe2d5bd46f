"""The figures of theory draw what their datasets hold."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from goaldriven.report.figures import theory as figures
from goaldriven.rules import theory

BLUE, VERMILION, ORANGE = "#0072b2", "#d55e00", "#e69f00"
GRID = np.linspace(-2, 2, 21)


def lines(axes, colour, thicker_than=0.0):
    """(x, y) arrays of lines of one colour that are not single points."""
    return [
        (np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float))
        for line in axes.get_lines()
        if to_hex(line.get_color()) == colour
        and line.get_linestyle() not in ("None", "")
        and line.get_linewidth() > thicker_than
    ]


def markers(axes, shape):
    """Where single points of one shape lie, with their colours."""
    return sorted(
        (float(np.ravel(line.get_xdata())[0]), float(np.ravel(line.get_ydata())[0]),
         to_hex(line.get_color()))
        for line in axes.get_lines()
        if line.get_marker() == shape and np.size(line.get_xdata()) == 1
    )  # fmt: skip


@pytest.fixture(scope="module")
def flows():
    mirrors = [
        theory.alignment_flow("weight_mirror", GRID, GRID, x=1, decay=λ) for λ in (0.5, 1, 2)
    ]
    return [
        *mirrors,
        theory.alignment_flow("symmetric_alignment", GRID, GRID),
        theory.alignment_flow("information_alignment", GRID, GRID, x=1, decay=0.25),
    ]


@pytest.fixture(scope="module")
def flow_figure(flows):
    return figures.alignment_flows(flows)


def test_each_flow_has_a_panel_with_its_rule_verdict_and_eigenvalues(flow_figure):
    titles = [axes.get_title(loc="left") for axes in flow_figure.axes]
    assert titles == [
        "weight mirror\nλ < x²: exploding\neigenvalues −0.5, 1.5",
        "weight mirror\nλ = x²: neutral\neigenvalues 0, 2",
        "weight mirror\nλ > x²: over-regularised\neigenvalues 1, 3",
        "symmetric alignment\nneutral\neigenvalues 0, 2",
        "information alignment\nλ < x²: bounded\neigenvalues −0.75, 1.25",
    ]


def test_fixed_points_are_marked_and_neutral_lines_drawn(flows, flow_figure):
    panels = flow_figure.axes
    assert markers(panels[0], "X") == [(0, 0, VERMILION)]
    assert markers(panels[2], "o") == [(0, 0, BLUE)]
    size = np.sqrt(0.75)
    np.testing.assert_allclose(
        [p[:2] for p in markers(panels[4], "o")], [[-size, -size], [size, size]]
    )
    for panel, flow in zip(panels, flows, strict=True):
        drawn = lines(panel, BLUE)
        assert len(drawn) == (flow.attrs["verdict"] == "neutral")
        for x, y in drawn:
            np.testing.assert_array_equal(x, y)
            assert (x[0], x[-1]) == (-2, 2)


@pytest.mark.parametrize("rule", [{"amp": 0.5, "null": 1.0}, {"null": 1.0}])
def test_hyperbolas_of_fixed_points_are_drawn(rule):
    (axes,) = figures.alignment_flows([theory.alignment_flow(rule, GRID, GRID)]).axes
    drawn = lines(axes, BLUE)
    x, y = (np.concatenate(part) for part in zip(*drawn, strict=True))
    np.testing.assert_allclose(x * y, rule.get("amp", 0.0), atol=1e-12)
    assert (x.min(), x.max(), y.min(), y.max()) == (-2, 2, -2, 2)


def test_streamlines_follow_the_velocity(flows, flow_figure):
    """Every segment of a streamline points along the flow that the rule has there."""
    for axes, flow in zip(flow_figure.axes, flows, strict=True):
        (streams,) = (c for c in axes.collections if hasattr(c, "get_segments"))
        segments = np.concatenate(
            [np.stack([s[:-1], s[1:]], axis=1) for s in streams.get_segments()]
        )
        middle, along = segments.mean(axis=1), np.diff(segments, axis=1)[:, 0]
        rule = flow.attrs["rule"]
        decay = None if rule == "symmetric_alignment" else flow.attrs["decay"]
        velocity = theory.alignment_velocity(rule, middle, x=flow.attrs["x"], decay=decay)
        moving = (np.hypot(*velocity.T) > 0.3) & (np.hypot(*along.T) > 1e-3)
        cosine = np.sum(along * velocity, axis=1) / (
            np.hypot(*along.T) * np.hypot(*velocity.T) + 1e-300
        )
        assert moving.sum() > 100
        assert np.quantile(cosine[moving], 0.02) > 0.98


@pytest.fixture(scope="module")
def portraits():
    choices = [("backprop", None), ("symmetric_alignment", 1.0), ("feedback_alignment", 1.0),
               ("feedback_alignment", 0.0)]  # fmt: skip
    return [theory.network_portrait(rule, b) for rule, b in choices]


@pytest.fixture(scope="module")
def portrait_figure(portraits):
    return figures.network_portraits(portraits)


def test_minima_are_drawn_by_their_stability(portraits, portrait_figure):
    panels = portrait_figure.axes
    for panel, portrait in zip(panels, portraits, strict=True):
        for colour, kind in ((BLUE, "sink"), (VERMILION, "source")):
            drawn = lines(panel, colour, thicker_than=2)
            x = np.concatenate([part[0] for part in drawn]) if drawn else np.empty(0)
            y = np.concatenate([part[1] for part in drawn]) if drawn else np.empty(0)
            np.testing.assert_allclose(x * y, 1.0)
            assert x.size == int(
                ((portrait["stability"] == kind) & (portrait["family"] == "minimum")).sum()
            )
    unstable = lines(panels[2], VERMILION, thicker_than=2)
    assert len(unstable) == 1
    assert -1 < unstable[0][0].min() < unstable[0][0].max() < 0  # where w1³ > −b y/x
    assert not lines(panels[0], VERMILION, thicker_than=2)


def test_origins_lines_paths_and_titles(portraits, portrait_figure):
    panels = portrait_figure.axes
    assert markers(panels[0], "X") == markers(panels[1], "X") == [(0, 0, VERMILION)]
    assert markers(panels[3], "s") == [(0, 0, "#000000")]
    ((x, y),) = lines(panels[3], "#000000", thicker_than=2)
    assert not x.any()
    assert (y.min(), y.max()) == pytest.approx((-3, 3))
    for panel, portrait in zip(panels, portraits, strict=True):
        paths = lines(panel, "#767676")
        assert len(paths) == portrait.sizes["path"]
        np.testing.assert_array_equal(paths[5][0], portrait["path_w1"][5])
        np.testing.assert_array_equal(paths[5][1], portrait["path_w2"][5])
    assert [axes.get_title(loc="left") for axes in panels] == [
        "backprop, b = w2", "symmetric alignment, b(0) = 1", "feedback alignment, b = 1",
        "feedback alignment, b = 0",
    ]  # fmt: skip
    (legend,) = portrait_figure.legends
    assert len(legend.get_texts()) == 4


def test_perturbation_errors_are_drawn_with_the_law():
    shape = (2, 3, 2, 4)
    rng = np.random.default_rng(0)
    axes = ("rule", "inputs", "outputs", "samples")
    made_up = xr.Dataset(
        {name: (axes, rng.uniform(0.5, 5, shape))
         for name in ("relative_error", "standard_error", "predicted")},
        coords={"rule": ["weight_perturbation", "node_perturbation"], "inputs": [4, 8, 16],
                "outputs": [3, 9], "samples": [1, 10, 100, 1000]},
    )  # fmt: skip
    panels = figures.perturbation_errors(made_up).axes
    held = {"samples": (..., -1, -1, slice(None)), "outputs": (..., -1, slice(None), -1),
            "inputs": (..., slice(None), -1, -1)}  # fmt: skip
    for panel, (varied, index) in zip(panels, held.items(), strict=True):
        for i, colour in enumerate((BLUE, ORANGE)):
            drawn = [line for line in panel.get_lines() if to_hex(line.get_color()) == colour]
            law, points = drawn[0], drawn[1]
            np.testing.assert_array_equal(law.get_xdata(), made_up[varied])
            np.testing.assert_array_equal(law.get_ydata(), made_up["predicted"].values[i][index])
            measured = made_up["relative_error"].values[i][index]
            np.testing.assert_array_equal(points.get_ydata(), measured)
            bars = panel.containers[i].lines[2][0].get_segments()
            half = made_up["standard_error"].values[i][index]
            np.testing.assert_allclose([s[1, 1] - s[0, 1] for s in bars], 2 * half)
        assert panel.get_xscale() == panel.get_yscale() == "log"
    assert panels[0].get_title(loc="left") == "9 nodes, 16 inputs"


def test_figures_leave_matplotlibs_settings_alone(flows, tmp_path):
    before = dict(mpl.rcParams)
    figures.alignment_flows(flows[:1]).savefig(tmp_path / "flows.png")
    assert dict(mpl.rcParams) == before
    assert (tmp_path / "flows.png").stat().st_size > 20_000
