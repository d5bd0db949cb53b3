"""Small panels in a grid: how many side by side, none alone in a row, and a panel a layer over the training steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from madyn.figures import style
from madyn.figures.steps import STEP_LABEL, step_axis


def panel_grid(count: int, most: int) -> tuple[int, int]:
    """Rows and columns for so many panels, about `most` side by side, and never one alone in the last of several rows.

    >>> [panel_grid(n, 3) for n in (2, 4, 5, 7, 9)]
    [(1, 2), (2, 2), (2, 3), (2, 4), (3, 3)]
    """
    if count <= most:
        return 1, count
    candidates = (most, max(2, most - 1), most + 1, most + 2)
    columns = next((c for c in candidates if count % c != 1), most)
    return math.ceil(count / columns), columns


def evenly(count: int, most: int) -> NDArray[np.intp]:
    """Which of so many are shown, `most` of them at most: the first, the last, and those evenly between.

    >>> evenly(3, 12).tolist(), evenly(9, 3).tolist()
    ([0, 1, 2], [0, 4, 8])
    """
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.intp))


def hide_empty(axes: NDArray[Any], count: int) -> list[Axes]:
    """The first `count` of a grid of panels; the places after them are left white."""
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    return list(axes.flat[:count])


def layer_panels(
    layers: ArrayLike,
    steps: ArrayLike,
    values: ArrayLike,
    label: str,
    *,
    top: float = 0.48,
) -> tuple[Figure, list[Axes]]:
    """A panel a layer, all with one axis of steps and one log axis of values.

    Args:
        layers: their names, one a panel.
        steps: that are drawn.
        values: all that are drawn, for the limits.
        label: of the values.
        top: room above the panels, inches.

    Returns:
        the figure, and the panels in the order of the layers.
    """
    names = np.asarray(layers)
    most = 3 if len(names) <= 9 else 4 if len(names) <= 16 else 6
    panel = (2.0, 1.5) if most <= 4 else (1.45, 1.15)  # inches
    rows, columns = panel_grid(len(names), most)
    margins = (0.62, 0.15, 0.48, top)
    width = max(3.6, columns * panel[0] + margins[0] + margins[1])
    fig, axes = style.new_figure(
        width, rows * panel[1] + margins[2] + margins[3], rows, columns, margins=margins, gaps=(0.1, 0.24),
        sharex=True, sharey=True,
    )  # fmt: skip
    # The panels share their axes, so that what is set on one holds for all.
    step_axis(axes[0, 0].xaxis, steps, crowded=True)
    style.value_axis(axes[0, 0].yaxis, style.value_limits(values))
    panels = hide_empty(axes, len(names))
    for place, (ax, name) in enumerate(zip(panels, names, strict=True)):
        style.panel_title(ax, f"layer {name}", fontsize=8, pad=2)
        # A panel above an empty place is the lowest of its column and carries the ticks.
        lowest = place + columns >= len(names)
        ax.tick_params(labelbottom=lowest)
        if lowest:  # the last label of a panel would run into the first of the next
            ax.get_xticklabels()[0].set_horizontalalignment("left")
            ax.get_xticklabels()[-1].set_horizontalalignment("right")
        ax.set_xlabel(STEP_LABEL).set_visible(False)
        ax.set_ylabel(label).set_visible(False)
    fig.supxlabel(STEP_LABEL, y=0.06 / fig.get_figheight(), va="bottom", fontsize=9)
    fig.supylabel(label, x=0.06 / width, fontsize=9)
    return fig, panels
