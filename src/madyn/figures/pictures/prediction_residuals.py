"""How far off the predictor of curves is: predicted, with the architecture left out, against what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from madyn.figures import style
from madyn.figures.curve_predictor import depends_on, each_quantity, fitted_predictor
from madyn.figures.entries import picture
from madyn.figures.factors import factor_ticks, times
from madyn.figures.source import Source

if TYPE_CHECKING:
    import pandas as pd

_INSIDE, _OUTSIDE = style.COLOURS[0], style.COLOURS[1]
_MOST_MODELS = 16  # as many names as stand below one another in a picture


def _residuals(source: Source, quantity: str) -> dict[str, Any]:
    from madyn.prediction.residuals import residuals

    name = quantity.replace("_", " ")
    return {"table": residuals(fitted_predictor(source), name), "quantity": name}


@picture("analysis/prediction_residuals_{quantity}.png", cases=each_quantity, data=depends_on, derive=_residuals)
def prediction_residuals(table: pd.DataFrame, quantity: str) -> Figure:
    """Predicted, with the architecture left out, against what was measured, and the models that are farthest off.

    Args:
        table: a row a model and layer: model, layer, observed, predicted, lower and upper, in the quantity's unit.
        quantity: what is predicted.
    """
    table = table.loc[np.isfinite(table[["observed", "predicted"]].to_numpy(float)).all(axis=1)]
    off = _farthest_off(table)
    right = 0.3 + 0.068 * max(map(len, off))
    fig, axes = style.new_figure(
        4.1 + right + 2.6, max(3.6, 1.05 + 0.19 * len(off)), 1, 2, margins=(0.62, 0.15, 0.5, 0.55),
        gaps=(right + 0.25, 0),
    )  # fmt: skip
    _against_measured(axes[0, 0], table, quantity)
    _by_model(axes[0, 1], table, off, quantity)
    inside = _inside(table)
    looks = {"linestyle": "none", "markersize": 4}
    text = f"inside its 90 % interval ({100 * float(inside.mean()):.0f} % of layers)"
    handles = [Line2D([], [], color=_INSIDE, marker="o", label=text, **looks)] if inside.any() else []
    if not inside.all():
        handles.append(Line2D([], [], color=_OUTSIDE, marker="X", label="outside", **looks))
    handles.append(Line2D([], [], color="0.35", linewidth=0.8, label="equal"))
    style.legend_above(fig, handles)
    return fig


def _inside(table: pd.DataFrame) -> NDArray[np.bool_]:
    values = table[["lower", "observed", "upper"]].to_numpy(float)
    return (values[:, 0] <= values[:, 1]) & (values[:, 1] <= values[:, 2])


def _farthest_off(table: pd.DataFrame) -> list[str]:
    """The models by the root mean square of log(measured / predicted) over their layers, the farthest first."""
    squares = np.square(np.log(table["observed"].to_numpy(float) / table["predicted"].to_numpy(float)))
    names = table["model"].to_numpy()
    by_model = {str(name): float(squares[names == name].mean()) for name in dict.fromkeys(names)}
    return sorted(by_model, key=lambda name: -by_model[name])[:_MOST_MODELS]


def _marks(ax: Axes, x: Any, y: Any, inside: NDArray[np.bool_]) -> None:
    for mine, colour, marker, size in ((inside, _INSIDE, "o", 11), (~inside, _OUTSIDE, "X", 20)):
        ax.scatter(x[mine], y[mine], c=colour, marker=marker, s=size, linewidths=0, alpha=0.85, zorder=3)


def _against_measured(ax: Axes, table: pd.DataFrame, quantity: str) -> None:
    observed, predicted = table["observed"].to_numpy(float), table["predicted"].to_numpy(float)
    ends = table[["lower", "upper"]].to_numpy(float)
    ax.vlines(observed, ends[:, 0], ends[:, 1], color="0.8", linewidth=0.5, zorder=1)
    _marks(ax, observed, predicted, _inside(table))
    across = style.value_limits(observed)
    ax.plot(across, across, color="0.35", linewidth=0.8, zorder=2)
    style.value_axis(ax.xaxis, across)
    style.value_axis(ax.yaxis, style.value_limits(np.concatenate([across, predicted, ends.ravel()])))
    ax.set_title("all layers, with 90 % intervals", loc="left")
    ax.set_xlabel(f"measured {quantity}")
    ax.set_ylabel("predicted, architecture left out")


def _by_model(ax: Axes, table: pd.DataFrame, models: list[str], quantity: str) -> None:
    place = {name: y for y, name in enumerate(models)}
    part = table.loc[table["model"].isin(models)]
    factors = part["observed"].to_numpy(float) / part["predicted"].to_numpy(float)
    _marks(ax, factors, np.array([place[str(name)] for name in part["model"]]), _inside(part))
    low, high = style.value_limits(factors)
    low, high = min(low, 0.8), max(high, 1.25)
    style.value_axis(ax.xaxis, (low, high))
    ticks = factor_ticks(low, high)
    style.set_ticks(ax.xaxis, ticks, [times(t) for t in ticks], between=style.small_log_ticks(low, high))
    ax.axvline(1, color="0.35", linewidth=0.8, zorder=2)
    ax.set_yticks(range(len(models)), models)
    ax.set_ylim(len(models) - 0.4, -0.6)
    of = len(set(table["model"]))
    ax.set_title(f"the {len(models)} farthest off of {of} models" if of > len(models) else "by model", loc="left")
    ax.set_xlabel("measured / predicted, a mark a layer")
    ax.set_ylabel("model")
