"""Series at a prompt: the points of each, and the curve that was found for them with its interval, a panel a series."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from madyn.figures import style
from madyn.figures.entries import picture
from madyn.figures.panels import evenly, hide_empty, panel_grid
from madyn.figures.steps import STEP_LABEL, step_axis

Floats = NDArray[np.float64]

MOST_PANELS = 12


@picture("series_{name}.png")
def series_figure(
    names: list[str],
    seen: tuple[Floats, Floats] | None,
    steps: Floats,
    curve: Floats,
    band: tuple[Floats, Floats] | None = None,
    *,
    label: str = "value",
    of: str = "fitted curve",
    interval: str = "",
    title: str = "",
) -> Figure:
    """A panel a series, at most twelve, evenly over all of them.

    Args:
        names: of the S series.
        seen: steps (S, n) and values (S, n) of the points, nan where one is missing; None where there are none.
        steps: (m,), at which the curves are known.
        curve: (S, m), nan for a series without one.
        band: lower and upper end of an interval, (S, m) each.
        label: of the values.
        of: what the line is, for the legend.
        interval: what the band is.
        title: above the picture.
    """
    chosen = evenly(len(names), MOST_PANELS)
    down, across = panel_grid(len(chosen), 4)
    left = 0.7
    fig, axes = style.new_figure(
        max(2.0 * across + left + 0.3, 4.4), 1.55 * down + 0.95, down, across, margins=(left, 0.2, 0.5, 0.5),
        gaps=(0.45, 0.35), sharex=True,
    )  # fmt: skip
    shown = [np.ravel(steps)] if seen is None else [np.ravel(steps), seen[0][chosen].ravel()]
    at = np.concatenate(shown)
    step_axis(axes[0, 0].xaxis, at[np.isfinite(at)], crowded=True)
    panels = hide_empty(axes, len(chosen))
    for place, (ax, number) in enumerate(zip(panels, chosen.tolist(), strict=True)):
        if band is not None:
            ax.fill_between(steps, band[0][number], band[1][number], color=style.COLOURS[4], alpha=0.35, linewidth=0)
        if seen is not None:
            ax.plot(seen[0][number], seen[1][number], color="0.35", marker="o", markersize=2.8, linestyle="none")
        ax.plot(steps, curve[number], color=style.COLOURS[0])
        ax.yaxis.set_major_locator(MaxNLocator(4))
        if not np.isfinite(curve[number]).any():
            if seen is None or not np.isfinite(seen[1][number]).any():
                ax.yaxis.set_major_locator(NullLocator())  # nothing is drawn, and there is no scale
            ax.text(
                0.5,
                0.5,
                f"no {of.partition(',')[0]}",
                transform=ax.transAxes,
                ha="center",
                va="center",
                fontsize=7,
                color="0.45",
            )
        style.panel_title(ax, names[number], fontsize=8, pad=2)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value)))
        lowest = place + across >= len(chosen)
        ax.tick_params(labelbottom=lowest)
        ax.set_xlabel(STEP_LABEL).set_visible(lowest)
        ax.set_ylabel(label).set_visible(place % across == 0)
    _legend(fig, seen is not None, of, interval if band is not None else "", title, len(names) - len(chosen))
    return fig


def _legend(fig: Figure, points: bool, of: str, interval: str, title: str, left_out: int) -> None:
    handles: list[Any] = [style.words(title)] if title else []
    if points:
        handles.append(Line2D([], [], color="0.35", marker="o", markersize=2.8, linestyle="none", label="seen"))
    handles.append(Line2D([], [], color=style.COLOURS[0], label=of))
    if interval:
        handles.append(style.band(interval, style.COLOURS[4]))
    if left_out:
        handles.append(style.words(f"{left_out} more series"))
    style.legend_above(fig, handles)
