"""Why the predictor of curves says what it says, in pictures: effects as factors, and sizes as people write them.

The numbers are those of `madyn.prediction.explanation`, logarithms mostly; every axis here is put in the quantity's own
unit or in factors, since nobody thinks in natural logarithms of a ratio. The two ratios are drawn, and not the step of
the peak, which only some layers have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from madyn.figures import style
from madyn.figures.dependence import dependence_handles, dependence_panels
from madyn.figures.published import shap_summary
from madyn.figures.registry import Case, Source, picture, the_dataset

if TYPE_CHECKING:
    import pandas as pd

    from madyn.prediction import Predictor
    from madyn.prediction.explanation import Explanation

Floats = NDArray[np.float64]

QUANTITIES = ("final ratio", "largest ratio")
"""What is drawn."""

_INSIDE, _OUTSIDE = style.COLOURS[0], style.COLOURS[1]


def each_quantity(_: Source) -> list[Case]:
    return [{"quantity": name.replace(" ", "_")} for name in QUANTITIES]


def depends_on(source: Source, **case: str) -> dict[str, Any]:
    """What every one of these pictures depends on (the predictor's seed is fixed).

    Raises:
        DatasetError: there are too few architectures to leave some out.
    """
    from madyn.prediction.importance import require_architectures

    require_architectures(len({source.dataset.architecture(model) for model in source.models}))
    dataset = source.dataset
    known = {m: (dataset.statistics_hash(m), dataset.architecture(m), dataset.training(m)) for m in source.models}
    return {"models": known, **case}


def fitted_predictor(source: Source) -> Predictor:
    """The dataset's, unless too few of its architectures were measured to their end."""
    from madyn.prediction.importance import require_architectures

    require_architectures(source.curve_predictor.state.table.architectures)
    return source.curve_predictor


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


def times(value: float) -> str:
    return f"×{style.number(float(f'{value:.2g}'))}"


def factor_ticks(low: float, high: float) -> list[float]:
    """Round factors for a log axis, 1 among them, none so close to another that their labels touch."""
    steps = [*(m * 10.0**k for k in range(4) for m in (1, 2, 5, 1.5, 3, 7, 1.2)), 1.1, 1.05, 1.02, 1.01]
    kept: list[float] = []
    for factor in (f for step in steps for f in (step, 1 / step)):
        inside = low <= factor <= high
        if inside and all(abs(math.log(factor / k)) > 0.14 * math.log(high / low) for k in kept):
            kept.append(factor)
    return sorted(kept)


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
        ax.barh(y, end - start, left=start, height=0.62, color=_OUTSIDE if end > start else _INSIDE)
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
            ax.plot([row["lower"], row["upper"]], [y, y], color=_INSIDE, linewidth=1.6)
            clear = row["lower"] > 0
            found.add(clear)
            ax.plot(row["importance"], y, color=_INSIDE, **_DOTS[clear])
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
    handles = [Line2D([], [], color=_INSIDE, **_DOTS[c], label=text) for c, text in names_of.items() if c in found]
    style.legend_above(fig, handles)
    return fig


_DOTS: dict[bool, dict[str, Any]] = {
    True: {"marker": "o", "markersize": 5},
    False: {"marker": "o", "markersize": 5, "markerfacecolor": "white"},
}
"""How an importance is marked, by whether its interval lies above 0."""
