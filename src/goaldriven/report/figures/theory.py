"""What theory says of learning rules: flows of weights, fixed points, errors of perturbation.

The datasets come from `goaldriven.rules.theory`; a figure draws them and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from goaldriven.report.style import GREY, LIGHT_GREY, WIDTH, label_panel, new_figure, styled

# Of the palette that the rules' colours are from: told apart by the colour-blind, and in grey.
_KINDS: dict[str, dict[str, Any]] = {
    "sink": {"color": "#0072B2", "ls": "-", "label": "attracts (sink)"},
    "source": {"color": "#D55E00", "ls": (0, (2.2, 1.2)), "label": "repels (source)"},
    "saddle": {"color": "#D55E00", "ls": (0, (2.2, 1.2)), "label": "saddle"},
    "neutral": {"color": "black", "ls": (0, (1, 1)), "label": "neither (eigenvalues all 0)"},
}
_MARKERS = {"sink": "o", "source": "o", "saddle": "X", "neutral": "s"}
_PERTURBED = {
    "weight_perturbation": ("#0072B2", "o", "weight perturbation"),
    "node_perturbation": ("#E69F00", "s", "node perturbation"),
}


@styled
def alignment_flows(flows: Sequence[xr.Dataset]) -> Figure:
    """Phase portraits of a scalar layer's forward weight w and backward weight b.

    Streamlines follow the flow. Blue: fixed points that attract, or a curve of them, such as w = b
    where the common size of the weights is neutral; crosses: saddles. Each panel's title tells the
    rule, λ against x², and what becomes of the weights; the eigenvalues are those of the symmetric
    (1, 1) and the skew direction (1, −1) at the origin, positive where it attracts.

    Parameters
    ----------
    flows : from `theory.alignment_flow`, a panel each.
    """
    columns = min(len(flows), 4)
    rows = -(-len(flows) // columns)
    figure = new_figure(WIDTH, 0.1 + rows * (0.85 + (WIDTH - 0.9) / max(columns, 3)))
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in panels.ravel()[len(flows) :]:
        axes.remove()
    for axes, flow in zip(panels.ravel(), flows, strict=False):
        _streamlines(axes, flow, "w", "b")
        _diagonal(axes, flow)
        if flow.attrs["continuum"] != "w = b":  # its points are drawn as the line
            _points(axes, flow["fixed_w"].values, flow["fixed_b"].values, flow["stability"].values)
        label_panel(axes, _flow_title(flow))
    for lowest in panels.ravel()[max(0, len(flows) - columns) : len(flows)]:
        lowest.set_xlabel("forward weight w")
        lowest.tick_params(labelbottom=True)  # also where the panel below it was removed
    for row in panels:
        row[0].set_ylabel("backward weight b")
    return figure


def _streamlines(axes: Axes, flow: xr.Dataset, horizontal: str, vertical: str) -> None:
    across, up = flow[horizontal].values, flow[vertical].values
    axes.streamplot(
        across,
        up,
        flow[f"d{horizontal}"].values,
        flow[f"d{vertical}"].values,
        color=LIGHT_GREY,
        density=0.6,
        linewidth=0.7,
        arrowsize=0.7,
        broken_streamlines=False,
        zorder=1,
    )
    axes.set_xlim(across[0], across[-1])
    axes.set_ylim(up[0], up[-1])
    axes.set_aspect("equal")
    for locate in (axes.xaxis, axes.yaxis):
        locate.set_major_locator(MaxNLocator(4, integer=True))


def _diagonal(axes: Axes, flow: xr.Dataset) -> None:
    """w = b, dashed, and the curve of fixed points if there is one."""
    ends = [max(flow["w"].values[0], flow["b"].values[0]),
            min(flow["w"].values[-1], flow["b"].values[-1])]  # fmt: skip
    axes.plot(ends, ends, color=GREY, lw=0.8, ls=(0, (4, 2)), zorder=2)
    fixed: dict[str, Any] = {"color": _KINDS["sink"]["color"], "lw": 2.4, "zorder": 3}
    if flow.attrs["continuum"] == "w = b":
        axes.plot(ends, ends, **fixed)
    elif flow.attrs["continuum"] == "w b = product":
        reach = max(np.abs(flow["w"]).max(), np.abs(flow["b"]).max())
        product = flow.attrs["product"]
        arm = np.geomspace(np.sqrt(product), reach, 100) if product else np.array([0.0, reach])
        far = product / arm if product else np.zeros(2)
        for side in (-1, 1):
            axes.plot(side * arm, side * far, **fixed)
            axes.plot(side * far, side * arm, **fixed)


def _points(axes: Axes, across: np.ndarray, up: np.ndarray, kinds: np.ndarray) -> None:
    for x, y, kind in zip(across, up, kinds, strict=True):
        if kind != "neutral":
            axes.plot(
                x,
                y,
                _MARKERS[kind],
                color=_KINDS[kind]["color"],
                markersize=6,
                markeredgecolor="white",
                markeredgewidth=0.8,
                zorder=5,
            )


def _flow_title(flow: xr.Dataset) -> str:
    about, verdict = flow.attrs, flow.attrs["verdict"]
    if about["rule"] in ("weight_mirror", "information_alignment"):
        square = about["x"] ** 2
        difference = about["decay"] - square
        sign = "=" if abs(difference) <= 1e-9 * square else "<>"[difference > 0]
        verdict = f"λ {sign} x²: {verdict}"
    values = ", ".join(_signed(about[f"eigenvalue_{mode}"]) for mode in ("symmetric", "skew"))
    return f"{_in_words(about['rule'])}\n{verdict}\neigenvalues {values}"


def _signed(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _in_words(name: str) -> str:
    return name.replace("_", " ")


@styled
def network_portraits(portraits: Sequence[xr.Dataset]) -> Figure:
    """Minima that rules find, and keep, in a network of two scalar layers.

    Blue: fixed points that attract; vermilion, dashed: that repel; black, dotted: that do neither.
    Thin lines with a dot at their start are trajectories. Grey streamlines are the flow at the
    panel's b, or on the plane b = w2, which attracts symmetric alignment's trajectories: these may
    cross the streamlines until b has caught up with w2.

    Parameters
    ----------
    portraits : from `theory.network_portrait`, a panel each.
    """
    columns = min(len(portraits), 2)
    rows = -(-len(portraits) // columns)
    figure = new_figure(WIDTH, 0.5 + 3.35 * rows * 2 / max(columns, 2))
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in panels.ravel()[len(portraits) :]:
        axes.remove()
    kinds: set[str] = set()
    for axes, portrait in zip(panels.ravel(), portraits, strict=False):
        _streamlines(axes, portrait, "w1", "w2")
        for across, up in zip(portrait["path_w1"].values, portrait["path_w2"].values, strict=True):
            axes.plot(across, up, color=GREY, lw=0.9, zorder=2)
            axes.plot(across[0], up[0], ".", color=GREY, markersize=4, zorder=2)
        kinds |= _families(axes, portrait)
        label_panel(axes, _portrait_title(portrait))
    for axes in panels[-1]:
        axes.set_xlabel("forward weight of layer 1, w1")
    for row in panels:
        row[0].set_ylabel("forward weight of layer 2, w2")
    _kinds_legend(figure, kinds)
    return figure


def _families(axes: Axes, portrait: xr.Dataset) -> set[str]:
    """Draw curves of fixed points, in stretches of one kind, and single points."""
    drawn: set[str] = set()
    across, up = portrait["fixed_w1"].values, portrait["fixed_w2"].values
    families, kinds = portrait["family"].values, portrait["stability"].values
    minima = families == "minimum"
    for curve in (minima & (across < 0), minima & (across > 0), families == "line"):
        drawn |= _stretches(axes, across[curve], up[curve], kinds[curve])
    for x, y, kind in zip(*(v[families == "origin"] for v in (across, up, kinds)), strict=True):
        axes.plot(x, y, _MARKERS[kind], color=_KINDS[kind]["color"], markersize=6.5,
                  markeredgecolor="white", markeredgewidth=0.8, zorder=5)  # fmt: skip
        drawn.add(str(kind))
    return drawn


def _stretches(axes: Axes, across: np.ndarray, up: np.ndarray, kinds: np.ndarray) -> set[str]:
    ends = np.flatnonzero(kinds[1:] != kinds[:-1]) + 1
    for part in np.split(np.arange(len(kinds)), ends):
        if part.size:
            style = _KINDS[kinds[part[0]]]
            axes.plot(across[part], up[part], color=style["color"], ls=style["ls"], lw=2.6,
                      zorder=4)  # fmt: skip
    return {str(kind) for kind in kinds}


def _portrait_title(portrait: xr.Dataset) -> str:
    rule, b = _in_words(portrait.attrs["rule"]), portrait.attrs["b"]
    if np.isnan(b):
        return f"{rule}, b = w2"
    return f"{rule}, {'b' if rule == 'feedback alignment' else 'b(0)'} = {_signed(b)}"


def _kinds_legend(figure: Figure, kinds: set[str]) -> None:
    marked = {"color": _KINDS["saddle"]["color"], "ls": "", "marker": _MARKERS["saddle"],
              "markersize": 6, "markeredgecolor": "white"}  # fmt: skip
    handles = [
        Line2D([], [], label=style["label"], **marked)
        if kind == "saddle"
        else Line2D([], [], color=style["color"], ls=style["ls"], lw=2.4, label=style["label"])
        for kind, style in _KINDS.items()
        if kind in kinds
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handlelength=2.6)


@styled
def perturbation_errors(measured: xr.Dataset) -> Figure:
    """Relative error of perturbation estimates against samples, nodes and inputs.

    Markers: measured, with standard errors; lines: √((N + 1)/S), with N the weights or the nodes of
    the layer. One size varies in each panel, the others are the largest measured.

    Parameters
    ----------
    measured : from `theory.measure_perturbation`.
    """
    figure = new_figure(WIDTH, 2.75)
    panels = figure.subplots(1, 3, sharey=True)
    labels = {
        "samples": "noise patterns S",
        "outputs": "nodes (outputs of the layer)",
        "inputs": "inputs of each node",
    }
    for axes, (varied, label) in zip(panels, labels.items(), strict=True):
        others = {name: measured[name].values.max() for name in labels if name != varied}
        for rule, (colour, marker, _) in _PERTURBED.items():
            one = measured.sel(rule=rule, **others)
            axes.plot(one[varied], one["predicted"], color=colour, lw=1.4)
            axes.errorbar(
                one[varied],
                one["relative_error"],
                one["standard_error"],
                fmt=marker,
                color=colour,
                markersize=4.2,
                markeredgecolor="white",
                markeredgewidth=0.5,
                elinewidth=0.8,
                zorder=3,
            )
        _logarithmic(axes, measured[varied].values)
        axes.set_xlabel(label)
        label_panel(axes, _held(others))
    panels[0].set_ylabel("relative error ‖ĝ − g‖ / ‖g‖")
    handles = [
        Line2D([], [], color=colour, marker=marker, ms=4.2, mec="white", lw=1.4, label=text)
        for colour, marker, text in _PERTURBED.values()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def _logarithmic(axes: Axes, values: np.ndarray) -> None:
    plain = FuncFormatter(lambda v, _: f"{v:g}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(values)
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(plain)
    axes.grid(color="#ececec", lw=0.6)


def _held(others: dict[str, Any]) -> str:
    names = {"samples": "patterns", "outputs": "nodes", "inputs": "inputs"}
    return ", ".join(f"{value} {names[name]}" for name, value in others.items())
