"""How figures look: sizes, fonts and colours, the same everywhere."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from goaldriven.specs import RULES

WIDTH = 7.0
"""Inches of a full-width figure: a page of A4 or US letter less its margins."""

MOST_BANDS = 6
"""Curves of more rules are drawn without bands between their quartiles, which would hide lines."""

GREY = "#767676"
LIGHT_GREY = "#bdbdbd"

# Okabe & Ito 2008, without the yellow, which is too faint on white.
_OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_MARKERS = "osD^vP*"

# Tol's muted colours, safe for the colour-blind and apart from the rules' colours.
_GROUPS = {
    "all": "#3d3d3d",
    "weight": "#332288",
    "activation": "#44AA99",
    "activity_change": "#DDAA33",
    "layer_position": "#999999",
}

# Tol's bright colours, for what is neither a rule nor a group of observables: classifiers, say.
_LEVELS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#AA3377", "#66CCEE", "#4D4D4D")

_RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "legend.frameon": False,
    "axes.axisbelow": True,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "svg.fonttype": "path",
    "svg.hashsalt": "goaldriven",
    "path.simplify": True,
}


@dataclass(frozen=True)
class RuleStyle:
    """How one learning rule is drawn, in every figure of a report."""

    colour: str
    dashes: Any
    marker: str


def rule_styles(rules: Iterable[str]) -> dict[str, RuleStyle]:
    """One style per rule, in the order given.

    A rule of the catalogue keeps its colour from study to study as long as no other of the rules
    has taken it; the colours are used up before they come again with other dashes and markers, so
    any number of rules can be told apart (28 before a style repeats).

    >>> styles = rule_styles(["fa", "ia"])
    >>> styles["fa"].colour, styles["ia"].colour
    ('#009E73', '#CC79A7')
    """
    names = list(dict.fromkeys(rules))
    catalogue = list(RULES)
    pool = [RuleStyle(c, d, m) for d, m in zip(_DASHES, _MARKERS, strict=False) for c in _OKABE_ITO]
    chosen: dict[str, RuleStyle] = {}
    for name in (n for n in names if n in catalogue):
        preferred = pool[catalogue.index(name) % len(pool)]
        if preferred not in chosen.values():
            chosen[name] = preferred
    left = itertools.cycle([s for s in pool if s not in chosen.values()] or pool)
    return {name: chosen[name] if name in chosen else next(left) for name in names}


def level_pool(n: int) -> list[RuleStyle]:
    """Styles of n levels that are neither rules nor observables; all differ up to 28."""
    pool = [RuleStyle(c, d, m) for d in _DASHES for c, m in zip(_LEVELS, _MARKERS, strict=True)]
    return list(itertools.islice(itertools.cycle(pool), n))


def group_colour(group: str) -> str:
    """Colour of a group of observables: ``all``, a measure, or ``layer_position``."""
    return _GROUPS.get(group, GREY)


Draw = TypeVar("Draw", bound=Callable[..., Figure])


def styled(draw: Draw) -> Draw:
    """Run a figure function under the report's settings; matplotlib's own are left as they were."""

    @functools.wraps(draw)
    def wrapper(*args: Any, **kwargs: Any) -> Figure:
        with mpl.rc_context(_RC):
            return draw(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def drawing_settings() -> Any:
    """The settings under which a figure must also be saved."""
    return dict(_RC)


def new_figure(width: float, height: float) -> Figure:
    """A figure without pyplot, laid out so that labels do not collide."""
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05, wspace=0.03, hspace=0.04)
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def rule_legend(
    figure: Figure, styles: dict[str, RuleStyle], lines: bool = True, markers: bool = False
) -> None:
    """One legend for the whole figure, above it, in as many columns as fit."""
    handles = [
        Line2D(
            [],
            [],
            color=style.colour,
            linestyle=style.dashes if lines else "none",
            lw=1.8,
            marker=style.marker if markers or not lines else None,
            markersize=4.5,
            label=rule,
        )
        for rule, style in styles.items()
    ]
    entry = 0.5 + 0.075 * max(map(len, styles), default=0)  # inches, generously
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=max(1, min(len(handles), int(figure.get_figwidth() / entry))),
        handlelength=1.0 if not lines else 3.2 if markers else 2.2,
        columnspacing=1.4,
    )


def label_panel(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", pad=4)
