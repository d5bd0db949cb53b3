"""Hypotheses compared: what each leaves unexplained, how it predicts points left out, and how often it is best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from madyn.figures import style

if TYPE_CHECKING:
    import pandas as pd

_PANELS = {
    "unexplained": "1 − R² of the fit",
    "kfold_error": "K-fold error",
    "last20_error": "error at the last 20 %",
    "akaike_weight": "mean Akaike weight",
}
_TALLEST = 1e3  # an extrapolation worse than this is drawn at the edge
_LEAST = 1e-4


@matplotlib.rc_context(style.RC)
def comparison_figure(table: pd.DataFrame, quantity: str = "ratio") -> Figure:
    """A row a hypothesis: the median over all layers, and that of each model; of the Akaike weights the mean.

    Args:
        table: a row a model, layer and hypothesis, as `Comparison.layers`.
        quantity: that was fitted, for the title.
    """
    table = table.assign(unexplained=1 - table["r2"])
    names = list(dict.fromkeys(table["hypothesis"]))
    left = 0.25 + 0.068 * max(len(name) for name in names)
    fig, axes = style.new_figure(
        left + 6.6, 1.15 + 0.24 * len(names), 1, 4, margins=(left, 0.15, 0.52, 0.45), gaps=(0.15, 0), sharey=True
    )
    for ax, (column, label) in zip(axes[0], _PANELS.items(), strict=True):
        _panel(ax, table, names, column)
        ax.set_xlabel(label)
    first = axes[0, 0]
    first.set_yticks(range(len(names)), names)
    first.set_ylim(len(names) - 0.4, -0.6)
    for ax in axes[0]:
        ax.tick_params(axis="y", length=0)
    models, layers = len(set(table["model"])), len(table) // len(names)
    handles = [
        style.words(f"{quantity}, {layers} layers of {models} {'model' if models == 1 else 'models'}"),
        Line2D([], [], marker="o", linestyle="none", color=style.COLOURS[0], markersize=6, label="all layers"),
        Line2D(
            [], [], marker="o", linestyle="none", color="0.6", markersize=3.5, markerfacecolor="none", label="one model"
        ),
    ]
    style.legend_above(fig, handles, inches=0.1)
    return fig


def _panel(ax: Axes, table: pd.DataFrame, names: list[str], column: str) -> None:
    weight = column == "akaike_weight"
    summed = "mean" if weight else "median"
    low, high = (0.0, 1.0) if weight else (_LEAST, _TALLEST)
    shown: list[float] = []
    for y, name in enumerate(names):
        rows = table.loc[table["hypothesis"] == name, ["model", column]]
        by_model = rows.groupby("model", sort=False).agg(summed).to_numpy(float).ravel()
        by_model = np.clip(by_model[np.isfinite(by_model)], low, high)
        overall = float(np.clip(rows[[column]].agg(summed).to_numpy(float)[0], low, high))
        if not np.isfinite(overall):
            ax.text(0.5, y, "not ranked" if weight else "no value", transform=ax.get_yaxis_transform(), ha="center",
                    va="center", fontsize=7, color="0.45")  # fmt: skip
            continue
        if len(by_model) > 1:
            ax.plot(by_model, np.full(len(by_model), y), "o", color="0.6", markersize=3.5, markerfacecolor="none")
        ax.plot(overall, y, "o", color=style.COLOURS[0], markersize=6)
        shown += [overall, *by_model]
    if weight:
        ax.set_xlim(-0.04, 1.04)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value)))
        return
    least, most = (min(shown), max(shown)) if shown else (0.1, 1.0)
    ax.set_xscale("log")
    ax.set_xlim(least / 1.6, max(most, 10 * least) * 1.6)
    ax.xaxis.set_major_locator(LogLocator(numticks=5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())
