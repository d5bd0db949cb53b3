"""What moves a prediction of the predictor of curves, input by input: of all layers, and of one layer step by step.

The numbers are those of `madyn.prediction.explanation`, logarithms mostly; every axis here is put in the quantity's own
unit or in factors.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator

from madyn.figures import style
from madyn.figures.curve_predictor import depends_on, each_quantity, fitted_predictor
from madyn.figures.entries import picture
from madyn.figures.factors import factor_ticks, times
from madyn.figures.pictures.published import shap_summary
from madyn.figures.source import Source

if TYPE_CHECKING:
    import pandas as pd

    from madyn.prediction import Predictor
    from madyn.prediction.shapley import Explanation

_DOWN, _UP = style.COLOURS[0], style.COLOURS[1]


@lru_cache(maxsize=4)
def _shapley_of(predictor: Predictor, quantity: str) -> Explanation:
    """Asked for by two pictures."""
    from madyn.prediction.explanation import shapley_values

    return shapley_values(predictor, quantity)


def _label(quantity: str) -> str:
    return f"{quantity}, top 1 / median" if "ratio" in quantity else quantity


def _three(value: float) -> str:
    """Three digits of a number."""
    return style.number(float(f"{value:.3g}"))


def _summary(source: Source, quantity: str) -> dict[str, Any]:
    name = quantity.replace("_", " ")
    found = _shapley_of(fitted_predictor(source), name)
    return {"values": found.values, "features": found.features, "quantity": name}


@picture("analysis/prediction_shap_{quantity}.png", cases=each_quantity, data=depends_on, derive=_summary)
def prediction_summary(values: pd.DataFrame, features: pd.DataFrame, quantity: str) -> Figure:
    """The factor by which each input moves the prediction of every layer, a line of dots an input.

    Args:
        values: Shapley values, rows x features, in natural logarithms.
        features: of the same shape, in people's units; they give the colour, low to high within each feature.
        quantity: what is predicted.
    """
    from madyn.prediction.inputs import LINEAR

    # Doublings of a size are equal steps of the colour.
    scaled = features.assign(**{str(f): np.log2(features[f].to_numpy(float)) for f in features if f not in LINEAR})
    fig = shap_summary(values, scaled, quantity)
    ax = fig.axes[0]
    ticks = factor_ticks(*np.exp(ax.get_xlim()))
    ax.xaxis.set_major_locator(FixedLocator([math.log(t) for t in ticks]))
    ax.xaxis.set_major_formatter(FixedFormatter([times(t) for t in ticks]))
    ax.set_xlabel(f"SHAP value: what the {quantity} is multiplied by")
    return fig


def _waterfall(source: Source, quantity: str) -> dict[str, Any]:
    predictor, name = fitted_predictor(source), quantity.replace("_", " ")
    found = _shapley_of(predictor, name)
    row = int(np.argmax(np.abs(found.values.to_numpy(float).sum(axis=1))))
    place = predictor.state.table.averaged().rows.to_dict("records")[row]
    return {
        "values": found.values.iloc[row],
        "features": found.features.iloc[row],
        "base_value": found.base_value,
        "quantity": name,
        "title": f"{place['model']}, layer {place['layer']}",
    }


@picture("analysis/prediction_waterfall_{quantity}.png", cases=each_quantity, data=depends_on, derive=_waterfall)
def prediction_waterfall(
    values: pd.Series, features: pd.Series, base_value: float, quantity: str, title: str = ""
) -> Figure:
    """How the inputs of one layer lead, factor by factor, from the mean prediction to its own.

    Args:
        values: Shapley values by feature, in natural logarithms.
        features: the features' values, in people's units.
        base_value: the mean prediction, a natural logarithm.
        quantity: what is predicted; a ratio (a step's logarithm is that of 1 + step).
        title: which layer; in a dataset's picture the one whose prediction lies farthest from the mean.
    """
    effects = {str(name): float(effect) for name, effect in values.items()}
    settings = {str(name): float(setting) for name, setting in features.items()}
    order = sorted(effects, key=lambda name: abs(effects[name]))
    names = [f"{name} = {style.size(float(f'{settings[name]:.5g}'))}" for name in order]
    fig, axes = style.new_figure(
        6.2, 1.15 + 0.3 * len(order), margins=(0.35 + 0.07 * max(map(len, names)), 0.55, 0.5, 0.5)
    )
    ax = axes[0, 0]
    passed = base_value + np.cumsum([0.0, *(effects[name] for name in order)])
    room = 0.05 * float(np.ptp(passed)) or 0.1
    style.value_axis(ax.xaxis, (math.exp(passed.min() - room), math.exp(passed.max() + 3 * room)))
    for y, (start, end) in enumerate(zip(np.exp(passed[:-1]), np.exp(passed[1:]), strict=True)):
        ax.barh(y, end - start, left=start, height=0.62, color=_UP if end > start else _DOWN)
        ax.plot([end] * 2, [y - 0.31, min(y + 1.31, len(order) - 0.69)], color="0.4", linewidth=0.6)
        ax.annotate(
            f"×{end / start:.2f}", (max(start, end), y), (4, 0), textcoords="offset points", va="center",
            fontsize=8, bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip
    ends = [math.exp(base_value), math.exp(passed[-1])]
    ax.axvline(ends[0], color="0.35", linewidth=0.8, linestyle=":")
    ax.axvline(ends[1], color="0.35", linewidth=0.8)
    ax.set_yticks(range(len(order)), names)
    ax.set_ylim(-0.6, len(order) - 0.4)
    ax.set_xlabel(f"prediction of the {_label(quantity)}")
    ax.set_ylabel("feature")
    ax.set_title(title, loc="left")
    handles = [
        Line2D([], [], color="0.35", linestyle=":", label=f"mean prediction {_three(ends[0])}"),
        Line2D([], [], color="0.35", label=f"this prediction {_three(ends[1])}"),
    ]
    style.legend_above(fig, handles)
    return fig
