"""Designs that are beaten by no other: what is wanted of each against its loss, with intervals for a single run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from madyn.figures import style
from madyn.figures.entries import picture

if TYPE_CHECKING:
    import pandas as pd


@picture("designs_{objective}.png")
def designs_figure(table: pd.DataFrame, objective: str, against: str) -> Figure:
    """What is wanted against the loss, or the parameters where no losses are known, a mark a design.

    Args:
        table: a row a design, as `Designs.table` has it.
        objective: what is wanted, in words.
        against: "held-out loss" or "parameters".
    """
    by_loss = against != "parameters"
    x = table["loss" if by_loss else "parameters"].to_numpy(float)
    y = table["objective"].to_numpy(float)
    outside = np.array([bool(text) for text in table["outside"]])
    fig, axes = style.new_figure(4.8, 3.4, margins=(0.68, 0.2, 0.5, 0.42))
    ax = axes[0, 0]
    look = {"color": "0.75", "linewidth": 0.7, "zorder": 1}
    ax.vlines(x, table["objective_lower"], table["objective_upper"], **look)
    if by_loss:
        ax.hlines(y, table["loss_lower"], table["loss_upper"], **look)
    for mine, marker, colour in ((~outside, "o", style.COLOURS[0]), (outside, "X", style.COLOURS[1])):
        ax.plot(x[mine], y[mine], marker, color=colour, markersize=5, zorder=3)
    if by_loss:
        ends = table[["loss_lower", "loss_upper"]].to_numpy(float)
        low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
        room = max(0.05 * (high - low), 0.01 * abs(high))
        ax.set_xlim(low - room, high + room)
    else:
        style.value_axis(ax.xaxis, style.value_limits(x))
    if "step" not in objective:
        ends = table[["objective_lower", "objective", "objective_upper"]].to_numpy(float)
        style.value_axis(ax.yaxis, style.value_limits(ends))
    ax.set_xlabel(f"predicted {against}" if by_loss else against)
    ax.set_ylabel(f"predicted {objective.partition(' ')[2]}")
    handles = [style.words(objective), Line2D([], [], color=style.COLOURS[0], marker="o", linestyle="none",
                                              label="a design, with 90 % intervals")]  # fmt: skip
    if outside.any():
        label = "outside the data"
        handles.append(Line2D([], [], color=style.COLOURS[1], marker="X", linestyle="none", label=label))
    style.legend_above(fig, handles)
    return fig
