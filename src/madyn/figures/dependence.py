"""Partial dependence: a panel an input, the mean prediction as it is set to each of its values, and a band."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from madyn.figures import style
from madyn.figures.panels import hide_empty, panel_grid

if TYPE_CHECKING:
    import pandas as pd

_COLOUR = style.COLOURS[0]
_MEAN: dict[str, Any] = {"color": _COLOUR, "marker": "o", "markersize": 2.5}


def dependence_panels(
    curves: Mapping[str, pd.DataFrame], label: str, *, logarithmic: Collection[str] = ()
) -> tuple[Figure, list[Axes]]:
    """A panel an input, all with one y axis, which is left as matplotlib makes it.

    Args:
        curves: by input, the columns value, prediction, lower and upper.
        label: of the y axis.
        logarithmic: the inputs that stand on a log axis.
    """
    rows, columns = panel_grid(len(curves), 3)
    fig, axes = style.new_figure(
        max(4.5, 0.94 + 2.1 * columns), 0.55 + 1.8 * rows, rows, columns, margins=(0.82, 0.12, 0.48, 0.35),
        gaps=(0.2, 0.5), sharey=True,
    )  # fmt: skip
    panels = hide_empty(axes, len(curves))
    for place, (ax, (name, curve)) in enumerate(zip(panels, curves.items(), strict=True)):
        ax.fill_between(curve["value"], curve["lower"], curve["upper"], color=_COLOUR, alpha=0.2, linewidth=0)
        ax.plot(curve["value"], curve["prediction"], **_MEAN)
        _input_axis(ax.xaxis, curve["value"].to_numpy(float), logarithmic=name in logarithmic)
        ax.set_xlabel(name)
        ax.set_ylabel(label).set_visible(place % columns == 0)
    return fig, panels


def dependence_handles(mean: str, band: str) -> list[Any]:
    """Legend entries for the line and for the band."""
    return [Line2D([], [], **_MEAN, label=mean), style.band(band, _COLOUR)]


def _input_axis(axis: Axis, values: NDArray[np.float64], *, logarithmic: bool) -> None:
    """A narrow x axis of an input, ticks at the values that occur, or at round ones where they are many."""
    ax = axis.axes
    low, high = float(values.min()), float(values.max())
    if logarithmic:
        ax.set_xscale("log", base=2)
        place = math.log2
        ticks = list(values) if len(values) < 10 or low == high else style.log_ticks(low, high)
        ticks.sort(key=lambda t: place(t) % 1 > 0)  # powers of two before others
    else:
        place = float
        ticks = [t for t in MaxNLocator(2).tick_values(low, high) if low <= t <= high] if high > low else [low]
    room = 0.16 * (place(high) - place(low))
    kept: list[float] = []
    for tick in (min(ticks), max(ticks), *ticks):
        if all(abs(place(tick) - place(k)) > room for k in kept):
            kept.append(float(tick))
    kept.sort()
    style.set_ticks(axis, kept, [style.size(float(f"{t:.5g}")) for t in kept], between=ticks)
