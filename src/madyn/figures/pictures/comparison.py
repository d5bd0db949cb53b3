"""Hypotheses compared: what each leaves unexplained, how it predicts points left out, and how often it is best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from madyn.figures import style
from madyn.figures.entries import picture

if TYPE_CHECKING:
    import pandas as pd

_PANELS = {
    "unexplained": ("mean", "1 − R² of the fit"),
    "kfold_error": ("median", "K-fold error"),
    "last20_error": ("median", "error at the last 20 %"),
    "akaike_weight": ("mean", "Akaike weight"),
}
"""By column: how it is summed up over layers, which is as `Comparison.overall` does it, and what it is."""

_TALLEST = 1e3  # an extrapolation worse than this is an arrowhead at the edge
_LEAST = 1e-4


@picture("comparison_{quantity}.png")
def comparison_figure(table: pd.DataFrame, quantity: str = "ratio") -> Figure:
    """A row a hypothesis: each score over all layers, and over those of each model, means or medians as in the table.

    Args:
        table: a row a model, layer and hypothesis, as `Comparison.layers`.
        quantity: that was fitted, for the title.
    """
    table = table.assign(unexplained=1 - table["r2"])
    names = list(dict.fromkeys(table["hypothesis"]))
    left = 0.25 + 0.068 * max(len(name) for name in names)
    fig, axes = style.new_figure(
        left + 6.6, 1.31 + 0.24 * len(names), 1, 4, margins=(left, 0.15, 0.68, 0.45), gaps=(0.15, 0), sharey=True
    )
    several = len(set(table["model"])) > 1
    for ax, (column, (summed, label)) in zip(axes[0], _PANELS.items(), strict=True):
        _panel(ax, table, names, column, summed)
        better = "more" if column == "akaike_weight" else "less"
        ax.set_xlabel(f"{label}\n{summed}, {better} is better")
    first = axes[0, 0]
    first.set_yticks(range(len(names)), names)
    first.set_ylim(len(names) - 0.4, -0.6)
    for ax in axes[0]:
        ax.tick_params(axis="y", length=0)
    models, layers = len(set(table["model"])), len(table) // len(names)
    handles = [
        style.words(f"{quantity}, {layers} layers of {models} {'model' if models == 1 else 'models'}"),
        Line2D([], [], **_ALL_LAYERS, label="all layers"),
    ]
    if several:
        handles.append(Line2D([], [], **_ONE_MODEL, label="the layers of one model"))
    style.legend_above(fig, handles, inches=0.1)
    return fig


_ALL_LAYERS: dict[str, Any] = {"marker": "o", "linestyle": "none", "color": style.COLOURS[0], "markersize": 6}
_ONE_MODEL: dict[str, Any] = {
    "marker": "o", "linestyle": "none", "color": "0.6", "markersize": 3.5, "markerfacecolor": "none",
}  # fmt: skip


def _dots(ax: Axes, values: NDArray[np.float64], y: int, limits: tuple[float, float], look: dict[str, Any]) -> None:
    """A dot a value; an arrowhead at the edge for one that lies beyond it."""
    low, high = limits
    for mine, marker in ((values < low, "<"), (values > high, ">"), ((low <= values) & (values <= high), "o")):
        if mine.any():
            ax.plot(np.clip(values[mine], low, high), np.full(int(mine.sum()), y), **{**look, "marker": marker})


def _panel(ax: Axes, table: pd.DataFrame, names: list[str], column: str, summed: str) -> None:
    weight = column == "akaike_weight"
    low, high = (0.0, 1.0) if weight else (_LEAST, _TALLEST)
    shown: list[float] = []
    for y, name in enumerate(names):
        rows = table.loc[table["hypothesis"] == name, ["model", column]]
        by_model = rows.groupby("model", sort=False).agg(summed).to_numpy(float).ravel()
        by_model = by_model[np.isfinite(by_model)]
        overall = float(rows[[column]].agg(summed).to_numpy(float)[0])
        if not np.isfinite(overall):
            ax.text(0.5, y, "not ranked" if weight else "no value", transform=ax.get_yaxis_transform(), ha="center",
                    va="center", fontsize=7, color="0.45")  # fmt: skip
            continue
        if len(by_model) > 1:
            _dots(ax, by_model, y, (low, high), _ONE_MODEL)
        _dots(ax, np.array([overall]), y, (low, high), _ALL_LAYERS)
        shown += np.clip([overall, *by_model], low, high).tolist()
    if weight:
        ax.set_xlim(-0.04, 1.04)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value)))
        return
    least, most = (min(shown), max(shown)) if shown else (0.1, 1.0)
    style.value_axis(ax.xaxis, (least / 1.6, max(most, 10 * least) * 1.6))
