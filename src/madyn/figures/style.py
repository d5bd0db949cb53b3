"""What every picture shares: size, fonts, colours, and axes that stay legible from step 0 to the last.

Figures are built on `matplotlib.figure.Figure` and never on pyplot, whose list of open figures is one global that
workers and notebooks would have to clean up. Margins are given in inches and not solved for, because solving them costs
more than drawing a small picture.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray

RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "hatch.linewidth": 0.5,
    "hatch.color": "0.55",
}
"""Settings that hold while a figure function runs."""

# Okabe & Ito (2008): told apart with every common form of colour blindness. Yellow is left out: too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (6, 2)), ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
QUANTITY_COLOURS = {"top1": COLOURS[1], "top2": COLOURS[5], "top3": COLOURS[4], "median": COLOURS[6]}
QUANTITY_LABELS = {
    "top1": "largest |h| (top 1)",
    "top2": "second largest |h| (top 2)",
    "top3": "third largest |h| (top 3)",
    "median": "median |h|",
    "ratio": "top 1 / median",
}
MINUS = "\N{MINUS SIGN}"
LAYER_LABEL = "layer (0-indexed)"

# The last, palest part of viridis has too little contrast with white paper for a thin line.
LAYER_COLOURS = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, 256))


class _Shown(Figure):
    """A figure that a notebook shows without pyplot, which alone would teach it to."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=_SHARP * _ON_SCREEN)
        width, height = (int(size * _ON_SCREEN) for size in self.get_size_inches())
        return buffer.getvalue(), {"width": width, "height": height}


_ON_SCREEN, _SHARP = 96, 2  # dots an inch, and how many of a fine screen's make one


def new_figure(
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    *,
    margins: tuple[float, float, float, float] = (0.62, 0.12, 0.5, 0.3),
    gaps: tuple[float, float] = (0.5, 0.6),
    height_ratios: Sequence[float] | None = None,
    sharex: Any = False,
    sharey: Any = False,
) -> tuple[Figure, NDArray[Any]]:
    """A figure and its (rows, columns) array of axes.

    Args:
        width: inches.
        height: inches.
        rows: of panels.
        columns: of panels.
        margins: left, right, bottom and top, in inches.
        gaps: between columns and between rows, in inches.
        height_ratios: of the rows, as in matplotlib.
        sharex: as in matplotlib.
        sharey: as in matplotlib.
    """
    left, right, bottom, top = margins
    inner_w = (width - left - right - gaps[0] * (columns - 1)) / columns
    inner_h = (height - bottom - top - gaps[1] * (rows - 1)) / rows
    fig = _Shown(figsize=(width, height))
    axes = fig.subplots(
        rows, columns, squeeze=False, sharex=sharex, sharey=sharey,
        gridspec_kw={
            "left": left / width, "right": 1 - right / width, "bottom": bottom / height, "top": 1 - top / height,
            "wspace": gaps[0] / inner_w, "hspace": gaps[1] / inner_h, "height_ratios": height_ratios,
        },
    )  # fmt: skip
    return fig, axes


def number(value: float) -> str:
    """A number as a tick label: 0.05, 10, 1k, 143k, 1.4M.

    >>> [number(v) for v in (0, 0.05, 10, 1500, 143000, 2e6, 2e-6)]
    ['0', '0.05', '10', '1.5k', '143k', '2M', '2e−6']
    """
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}".replace("-", MINUS)
    return re.sub(r"e([+-])0*", r"e\1", f"{value:.4g}").replace("e+", "e").replace("-", MINUS)


def size(value: float) -> str:
    """A size of a model as people write it, in full where that is short: 64, 1024, 50304.

    >>> [size(v) for v in (0.25, 1024, 50304, 1.5e6)]
    ['0.25', '1024', '50304', '1.5M']
    """
    return f"{value:.0f}" if value == round(value) and 1000 <= value < 100_000 else number(float(f"{value:.4g}"))


def count(value: float) -> str:
    """A number of parameters: 14M, 1.4B.

    >>> [count(v) for v in (14067712, 1414647808, 61234)]
    ['14M', '1.4B', '61k']
    """
    return number(float(f"{value:.2g}"))


def value_limits(values: ArrayLike) -> tuple[float, float]:
    """Limits that hold every finite positive value with a little room on a log axis; (0.1, 10) if there is none."""
    v = np.asarray(values, dtype=float)
    v = v[np.isfinite(v) & (v > 0)]
    if v.size == 0:
        return 0.1, 10.0
    low, high = float(v.min()), float(v.max())
    room = (high / low) ** 0.05 if high > low else 1.2
    return low / room, high * room


def value_axis(axis: Axis, limits: tuple[float, float], *, most: int = 8) -> None:
    """A log axis of magnitudes whose labels are plain numbers, never fewer than about three, small ticks between.

    Args:
        axis: either axis of an axes.
        limits: as `value_limits` gives them.
        most: labels that fit where they are powers of ten.
    """
    ax = axis.axes
    low, high = limits
    if axis is ax.xaxis:
        ax.set_xscale("log")
        ax.set_xlim(low, high)
    else:
        ax.set_yscale("log")
        ax.set_ylim(low, high)
    ticks = log_ticks(low, high, most)
    set_ticks(axis, ticks, [number(t) for t in ticks], between=small_log_ticks(low, high))


def set_ticks(axis: Axis, ticks: Sequence[float], labels: Sequence[str], between: Sequence[float] = ()) -> None:
    """Ticks with these labels, and small ones without."""
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FixedFormatter(list(labels)))
    axis.set_minor_locator(FixedLocator([t for t in between if t not in ticks]) if between else NullLocator())
    axis.set_minor_formatter(NullFormatter())


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round numbers for a log axis: powers of ten, with 2 and 5 between them, or closer, where the range is short.

    Of the powers of ten of a long range no more than `most`.

    >>> log_ticks(5, 3000), log_ticks(20, 100)
    ([10.0, 100.0, 1000.0], [20.0, 30.0, 50.0, 70.0, 100.0])
    """
    span = math.log10(high / low)
    if span < 0.5:
        return _inside(MaxNLocator(4).tick_values(low, high), low, high)
    within = (1, 1.5, 2, 3, 5, 7) if span < 1.2 else (1, 2, 5) if span < 2.2 else (1,)
    every = max(1, math.ceil(span / (most - 1))) if within == (1,) else 1
    ticks = _inside(_multiples(within, low, high, every), low, high)
    return ticks if len(ticks) >= 3 else _inside(_multiples((1, 3), low, high), low, high)


def _multiples(within: Iterable[float], low: float, high: float, every: int = 1) -> list[float]:
    """These multiples of the powers of ten, or of each so many of them, around a range."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [float(f"{m}e{k}") for k in decades if k % every == 0 for m in within]


def _inside(ticks: Iterable[float], low: float, high: float) -> list[float]:
    """Those inside a range, without the noise of the last bits."""
    return [float(f"{t:.9g}") for t in ticks if low <= t * (1 + 1e-9) and t <= high * (1 + 1e-9)]


def small_log_ticks(low: float, high: float) -> list[float]:
    """Places for the small ticks of a log axis: 1, 2, ... 9 in every decade.

    Where many decades are shown they are the powers of ten, and finer where the range is short.

    >>> small_log_ticks(20, 100), small_log_ticks(1e-4, 1e4)
    ([20.0, 30.0, ... 90.0, 100.0], [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0])
    """
    span = math.log10(high / low)
    if span < 0.5:
        return _inside(MaxNLocator(16).tick_values(low, high), low, high)
    return _inside(_multiples(range(1, 10) if span < 7 else (1,), low, high), low, high)


def layer_axis(ax: Axes, layers: ArrayLike) -> None:
    """A labelled x axis of layers, ticks at whole numbers."""
    layers = np.asarray(layers, dtype=float)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, steps=[1, 2, 4, 5, 10], min_n_ticks=1))
    pad = max(0.3, 0.02 * (layers[-1] - layers[0]))
    ax.set_xlim(layers[0] - pad, layers[-1] + pad)
    ax.set_xlabel(LAYER_LABEL)


def layer_colours(layers: int) -> list[Any]:
    """A colour a layer, dark for the first and light for the last."""
    return [LAYER_COLOURS[round(255 * i / max(1, layers - 1))] for i in range(layers)]


def layer_bar(fig: Figure, axes: Iterable[Axes], layers: int, *, inches: float = 0.1) -> Colorbar:
    """The key to `layer_colours`, right of these axes: a band a layer, however many there are."""
    cmap = ListedColormap(layer_colours(layers))
    norm = BoundaryNorm(np.arange(layers + 1) - 0.5, layers)
    every = max(1, math.ceil(layers / 9))
    ticks = list(range(0, layers, every))
    bar = colour_bar(fig, axes, ScalarMappable(norm, cmap), LAYER_LABEL, inches=inches, ticks=ticks)
    bar.ax.minorticks_off()
    return bar


def colour_bar(
    fig: Figure,
    axes: Iterable[Axes],
    mappable: ScalarMappable,
    label: str,
    *,
    inches: float = 0.1,
    ticks: Sequence[float] | None = None,
    labels: Sequence[str] | None = None,
) -> Colorbar:
    """A colour bar in the right margin, as tall as these axes together."""
    boxes = [ax.get_position() for ax in axes]
    width = fig.get_figwidth()
    bottom, top, right = min(b.y0 for b in boxes), max(b.y1 for b in boxes), max(b.x1 for b in boxes)
    cax = fig.add_axes((right + 0.12 / width, bottom, inches / width, top - bottom), label="colour bar")
    bar = fig.colorbar(mappable, cax=cax)
    bar.set_label(label)
    bar.outline.set_linewidth(0.5)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    if ticks is not None:
        bar.set_ticks(list(ticks))
        bar.set_ticklabels(list(labels) if labels is not None else [number(t) for t in ticks])
        bar.ax.minorticks_off()
    return bar


def log_bar(fig: Figure, axes: Iterable[Axes], mappable: ScalarMappable, label: str) -> Colorbar:
    """A colour bar of a logarithmic norm, with plain numbers."""
    low, high = mappable.get_clim()
    ticks = log_ticks(low, high)
    bar = colour_bar(fig, axes, mappable, label, ticks=ticks, labels=[number(t) for t in ticks])
    set_ticks(bar.ax.yaxis, ticks, [number(t) for t in ticks], between=small_log_ticks(low, high))
    return bar


def legend_above(fig: Figure, handles: Sequence[Any], *, columns: int | None = None, inches: float = 0.02) -> None:
    """A legend in one or more rows at the top of the figure, where no data is; `inches` below its upper edge."""
    if not handles:
        return
    fig.legend(
        handles=list(handles), loc="upper center", bbox_to_anchor=(0.5, 1 - inches / fig.get_figheight()),
        ncol=columns or len(handles), columnspacing=1.2, handletextpad=0.5, borderaxespad=0.1, borderpad=0.1,
    )  # fmt: skip


def legend_room(names: Iterable[str]) -> float:
    """A right margin, in inches, in which `legend_right` can write these names."""
    return 0.65 + 0.063 * max(len(line) for name in names for line in name.split("\n"))


def legend_right(fig: Figure, handles: Sequence[Any], ax: Axes, *, title: str | None = None) -> None:
    """A legend in the right margin, level with the top of `ax`."""
    box = ax.get_position()
    fig.legend(
        handles=list(handles), loc="upper left", bbox_to_anchor=(box.x1 + 0.1 / fig.get_figwidth(), box.y1),
        title=title, borderaxespad=0, borderpad=0, alignment="left", title_fontsize=8,
    )  # fmt: skip


def hypothesis_look(place: int) -> dict[str, Any]:
    """The line of the hypothesis that stands at this place in the list, thinner than those before it.

    Some hypotheses are one family and draw the same curve; the thicker line then shows around the thinner.
    """
    return {
        "color": COLOURS[place % 7],
        "linestyle": DASHES[place % 7],
        "linewidth": max(3.0 - 0.4 * place, 1.0),
        "markersize": max(7.5 - 1.0 * place, 3.0),
    }


def quantity_handles(quantities: Iterable[str], labels: Mapping[str, str] | None = None) -> list[Line2D]:
    """Legend entries of the quantities, in the colours they have everywhere."""
    return [
        Line2D([], [], color=QUANTITY_COLOURS[q], label=(labels or {}).get(q, q.replace("top", "top ")))
        for q in quantities
    ]


def r_squared_scale(ax: Axes, values: ArrayLike) -> None:
    """A y axis of R2 on which .9, .99 and .999 are equally far apart: linear in -log10(1 - R2).

    Good fits differ in the second and third nine, bad ones go below zero; on a linear axis one or the other is lost.
    """
    ax.set_yscale("function", functions=(nines, from_nines))
    v = np.asarray(values, dtype=float)
    v = v[np.isfinite(v)]
    low, high = (float(v.min()), float(v.max())) if v.size else (0.0, 0.9)
    bottom, top = nines(low), max(nines(high), nines(low) + 0.3)
    room = 0.05 * (top - bottom)
    ax.set_ylim(from_nines(bottom - room), from_nines(top + room))
    low, high = float(from_nines(bottom - room)), float(from_nines(top + room))
    ticks = r_squared_ticks(low, high)
    set_ticks(ax.yaxis, ticks, [number(t) for t in ticks], between=[t for t in _R_SQUARED if low <= t <= high])


_R_SQUARED = (-99, -9, -1, 0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999, 0.99999)


def r_squared_ticks(low: float, high: float) -> list[float]:
    """Ticks for R2 between two limits."""
    inside = [t for t in _R_SQUARED if low <= t <= high]
    coarse = [t for t in inside if t in (-99, -9, 0, 0.9, 0.99, 0.999, 0.9999, 0.99999)]
    if len(coarse) >= 4:
        return coarse
    if len(inside) < 3:
        inside = [t for t in list(MaxNLocator(4).tick_values(low, high)) if low <= t <= high]
    return inside


_LEAST_UNEXPLAINED = 1e-6


def nines(r2: Any) -> Any:
    """-log10(1 - R2): 0 at R2 = 0, 1 at .9, 2 at .99, and no more than 6."""
    return -np.log10(np.maximum(1 - np.asarray(r2, dtype=float), _LEAST_UNEXPLAINED))


def from_nines(value: Any) -> Any:
    """The inverse of `nines`."""
    return 1 - 10 ** (-np.asarray(value, dtype=float))


def panel_title(ax: Axes, text: str, loc: Literal["left", "center", "right"] = "left", **look: Any) -> None:
    """A title at the upper edge of an axes whose limits are set, on the left.

    matplotlib would lay out all ticks once more to find whether the title has to make way for a power of ten above the
    y axis; where there is none, it is told so.
    """
    formatter = ax.yaxis.get_major_formatter()
    formatter.set_locs(np.asarray(ax.yaxis.get_majorticklocs()).tolist())  # NullLocator gives a list
    ax.set_title(text, loc=loc, y=None if formatter.get_offset() else 1.0, **look)


def title_above(fig: Figure, text: str) -> None:
    """A title at the figure's upper edge, on the left, with a legend below it (`legend_above(inches=0.28)`)."""
    fig.text(0.12 / fig.get_figwidth(), 1 - 0.2 / fig.get_figheight(), text, fontsize=9)


def words(text: str) -> Line2D:
    """A legend entry that is text alone, such as the model's name."""
    return Line2D([], [], linestyle="none", label=text)


def band(label: str, colour: str = "0.5") -> Patch:
    """The legend entry of a band."""
    return Patch(color=colour, alpha=0.3, linewidth=0, label=label)
