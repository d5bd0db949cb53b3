"""What each input does to the predictor of curves: alone, with another, and to its score of architectures left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from madyn.figures import style
from madyn.figures.curve_predictor import QUANTITIES, depends_on, each_quantity, fitted_predictor
from madyn.figures.dependence import dependence_handles, dependence_panels
from madyn.figures.entries import picture
from madyn.figures.source import Source, the_dataset

if TYPE_CHECKING:
    import pandas as pd

_COLOUR = style.COLOURS[0]


def _dependence(source: Source, quantity: str) -> dict[str, Any]:
    from madyn.prediction.explanation import dependence, features_of

    predictor, name = fitted_predictor(source), quantity.replace("_", " ")
    return {"curves": {f: dependence(predictor, name, f) for f in features_of(predictor)}, "quantity": name}


@picture("analysis/prediction_dependence_{quantity}.png", cases=each_quantity, data=depends_on, derive=_dependence)
def prediction_dependence(curves: Mapping[str, pd.DataFrame], quantity: str) -> Figure:
    """The mean prediction as one input is set to each of its values, a panel an input.

    Args:
        curves: by feature, the columns value, prediction, lower and upper, in people's units.
        quantity: what is predicted.
    """
    from madyn.prediction.inputs import LINEAR

    fig, panels = dependence_panels(curves, quantity, logarithmic=[f for f in curves if f not in LINEAR])
    ends = np.concatenate([curve[["lower", "upper"]].to_numpy(float) for curve in curves.values()])
    style.value_axis(panels[0].yaxis, style.value_limits(ends))
    style.legend_above(fig, dependence_handles("geometric mean over the layers", "10 to 90 % of the layers"))
    return fig


def _interaction(source: Source, quantity: str) -> dict[str, Any]:
    from madyn.prediction.explanation import interaction, interactions
    from madyn.prediction.inputs import DEPTH

    predictor, name = fitted_predictor(source), quantity.replace("_", " ")
    strongest = interactions(predictor, name).to_dict("records")[0]
    pair = (strongest["feature"], strongest["other"])
    found = interaction(predictor, name, *(pair[::-1] if pair[0] == DEPTH else pair))
    title = f"together typically ×{found.strength:.3g} beyond each apart (H² {found.h2:.2f})"
    return {"grid": found.grid, "seen": found.seen, "quantity": name, "title": title}


@picture("analysis/prediction_interaction_{quantity}.png", cases=each_quantity, data=depends_on, derive=_interaction)
def prediction_interaction(grid: pd.DataFrame, seen: pd.DataFrame, quantity: str, title: str = "") -> Figure:
    """The mean prediction as two inputs are set together: in a dataset's picture, the pair that interacts most.

    Args:
        grid: the prediction, a row a value of one feature and a column one of the other; the axes' names are theirs.
        seen: of the same shape: where the data have such a layer; such cells have a dot.
        quantity: what is predicted.
        title: what to say of it.
    """
    values = grid.to_numpy(float)
    down, across = _levels(grid.index), _levels(grid.columns)
    cell = max(0.34, 0.12 + 0.062 * max(map(len, across)))
    left, right, bottom, top = 0.42 + 0.065 * max(map(len, down)), 0.8, 0.48, 0.52
    width, height = max(4.6, left + right + cell * len(across)), bottom + top + 0.3 * len(down)
    fig, axes = style.new_figure(width, height, margins=(left, right, bottom, top))
    ax = axes[0, 0]
    low, high = float(values.min()), float(values.max())
    norm = LogNorm(low, high if high > low else 1.01 * low)
    mesh = ax.pcolormesh(values, norm=norm, cmap="viridis", edgecolors="white", linewidth=0.5)
    y, x = np.nonzero(seen.to_numpy(bool))
    ax.scatter(x + 0.5, y + 0.5, s=12, c="white", edgecolors="black", linewidths=0.6)
    ax.set_xticks(np.arange(len(across)) + 0.5, across)
    ax.set_yticks(np.arange(len(down)) + 0.5, down)
    ax.grid(visible=False)
    ax.set_xlabel(str(grid.columns.name))
    ax.set_ylabel(str(grid.index.name))
    ax.set_title(title, loc="left")
    style.log_bar(fig, [ax], mesh, quantity)
    look = {"linestyle": "none", "marker": "o", "markersize": 4, "markeredgewidth": 0.6}
    dot = Line2D([], [], color="white", markeredgecolor="black", label="the data have such layers", **look)
    style.legend_above(fig, [dot] if len(x) else [])
    return fig


def _levels(axis: pd.Index) -> list[str]:
    """The values of a feature, short."""
    from madyn.prediction.inputs import LINEAR

    digits = 2 if axis.name in LINEAR else 3
    return [style.number(float(f"{float(value):.{digits}g}")) for value in axis]


def _importances(source: Source) -> dict[str, Any]:
    from madyn.prediction.importance import importances

    return {"tables": {name: importances(fitted_predictor(source), name) for name in QUANTITIES}}


@picture("analysis/prediction_importances.png", cases=the_dataset, data=depends_on, derive=_importances)
def prediction_importances(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """How much worse architectures left out are predicted without each input, with intervals, a panel a quantity.

    Args:
        tables: by quantity: feature, importance, lower, upper and r2, the features of the first in order.
    """
    names = [str(f) for f in next(iter(tables.values()))["feature"]]
    columns = len(tables)
    left = 0.35 + 0.07 * max(map(len, names))
    fig, axes = style.new_figure(
        left + 0.15 + 2.5 * columns, 1.3 + 0.24 * len(names), 1, columns, margins=(left, 0.15, 0.5, 0.5),
        gaps=(0.25, 0), sharey=True, sharex=True,
    )  # fmt: skip
    found = set()
    for ax, (quantity, table) in zip(axes[0], tables.items(), strict=True):
        rows = {str(row["feature"]): row for row in table.to_dict("records")}
        ax.axvline(0, color="0.35", linewidth=0.8, zorder=1)
        for y, name in enumerate(names):
            row = rows[name]
            ax.plot([row["lower"], row["upper"]], [y, y], color=_COLOUR, linewidth=1.6)
            clear = row["lower"] > 0
            found.add(clear)
            ax.plot(row["importance"], y, color=_COLOUR, **_DOTS[clear])
        r2 = rows[names[0]]["r2"]
        ax.set_title(f"{quantity} (R² {r2:.2f} unshuffled)".replace("-", style.MINUS), loc="left")
        ax.set_xlabel("fall of R² of architectures left out")
        ax.set_ylabel("feature").set_visible(ax is axes[0, 0])
        ax.grid(axis="y", visible=False)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: style.number(v)))
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    names_of = {True: "mean and 5 to 95 % of resamples", False: "the interval holds 0: no clear use"}
    handles = [Line2D([], [], color=_COLOUR, **_DOTS[c], label=text) for c, text in names_of.items() if c in found]
    style.legend_above(fig, handles)
    return fig


_DOTS: dict[bool, dict[str, Any]] = {
    True: {"marker": "o", "markersize": 5},
    False: {"marker": "o", "markersize": 5, "markerfacecolor": "white"},
}
"""How an importance is marked, by whether its interval lies above 0."""
