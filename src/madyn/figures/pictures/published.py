"""What the predictor relies on and how far off it is: importances, SHAP values, partial dependence, residuals.

SHAP's two pictures are drawn here from the values, and not by the shap package, so that they look like the others and
need no pyplot.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from madyn.figures import style
from madyn.figures.dependence import dependence_handles, dependence_panels
from madyn.figures.entries import picture
from madyn.figures.model_names import MOST_NAMED, size_bar
from madyn.figures.panels import hide_empty, panel_grid
from madyn.figures.source import Case, Source, the_dataset

if TYPE_CHECKING:
    import pandas as pd

    from madyn.prediction.published import ParameterPredictor
    from madyn.prediction.shapley import Explanation

_MOST_FEATURES = 10  # as many as a picture has room for; the rest are summed up or left out, and it says so
_MOST_PANELS = 6
_DEPTH = "depth l/L"
_BY_THE_MEAN = "no feature at work:\nthe mean is\npredicted"
_NAMES = {"A": "A (A₁)", "lam": "λ (A₂)", "gamma": "γ (β)", "t0": "t₀ (τ₀)", "K": "K"}


def _each_target(_: Source) -> list[Case]:
    from madyn.prediction.published.targets import TARGETS

    return [{"target": target} for target in TARGETS]


def _table(source: Source, **case: str) -> dict[str, Any]:
    """What every one of these pictures depends on: the parameter table (the predictor's seed is fixed)."""
    return {"parameters": source.parameters, **case}


def _label(target: str) -> str:
    """A target's name and the scale it is predicted on."""
    from madyn.prediction.published.targets import TARGETS

    unit = f", {TARGETS[target].unit}" if target in TARGETS else ""
    return f"{_NAMES.get(target, target)}{unit}"


@lru_cache(maxsize=8)
def _importances_of(predictor: ParameterPredictor, target: str) -> pd.Series:
    """Asked for by two pictures, and slow where features are shuffled."""
    from madyn.prediction.published import explanation

    return explanation.importances(predictor, target)


@lru_cache(maxsize=8)
def _shap_of(predictor: ParameterPredictor, target: str) -> Explanation:
    """Asked for by two pictures."""
    from madyn.prediction.published import explanation

    return explanation.shap_values(predictor, target)


def _importances(source: Source) -> dict[str, Any]:
    import pandas as pd

    targets = [case["target"] for case in _each_target(source)]
    return {"table": pd.DataFrame({t: _importances_of(source.predictor, t) for t in targets})}


@picture("analysis/importances.png", cases=the_dataset, data=_table, derive=_importances)
def importances(table: pd.DataFrame) -> Figure:
    """How much each feature matters to each target, a panel a target.

    Args:
        table: a row a feature, a column a target.
    """
    shares = table.clip(lower=0) / table.clip(lower=0).sum().replace(0, 1)
    shares = shares.loc[shares.sum(axis=1).sort_values().index]
    columns = shares.shape[1]
    left = 0.3 + 0.068 * max(len(str(f)) for f in shares.index)
    width = left + 0.15 + 1.15 * columns + 0.12 * (columns - 1)
    fig, axes = style.new_figure(
        width, 0.85 + 0.19 * len(shares), 1, columns, margins=(left, 0.15, 0.45, 0.3), gaps=(0.12, 0), sharey=True
    )
    for ax, target in zip(axes[0], shares.columns, strict=True):
        ax.barh(range(len(shares)), 100 * shares[target], color=style.COLOURS[0], height=0.7)
        if not shares[target].any():
            ax.set_xlim(0, 100)
            ax.text(0.5, 0.5, _BY_THE_MEAN, transform=ax.transAxes, ha="center", va="center", fontsize=7, color="0.35")
        ax.set_title(_NAMES.get(str(target), str(target)), loc="left")
        ax.set_xlabel("importance, %")
        ax.grid(axis="y", visible=False)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.set_ylabel("feature").set_visible(ax is axes[0, 0])
    axes[0, 0].set_yticks(range(len(shares)), [str(f) for f in shares.index])
    axes[0, 0].set_ylim(-0.6, len(shares) - 0.4)
    return fig


def _shap(source: Source, target: str) -> dict[str, Any]:
    shap = _shap_of(source.predictor, target)
    return {"values": shap.values, "features": shap.features, "target": target}


@picture("analysis/shap_summary_{target}.png", cases=_each_target, data=_table, derive=_shap)
def shap_summary(values: pd.DataFrame, features: pd.DataFrame, target: str) -> Figure:
    """SHAP values of every row, a line of dots a feature, the strongest on top (Figures 9a and 10 of the paper).

    Args:
        values: SHAP values, rows x features.
        features: the features' own values, of the same shape; they give the colour, low to high within each feature.
        target: what is predicted.
    """
    strength = values.abs().mean().sort_values()
    at_work = max(1, int((strength > 0).sum()))  # a feature with no effect at all says nothing
    shown = list(strength.index[-min(at_work, _MOST_FEATURES) :])
    fig, axes = style.new_figure(6.2, 0.8 + 0.3 * len(shown), margins=(_left(shown), 0.85, 0.45, 0.3), gaps=(0, 0))
    ax = axes[0, 0]
    ax.axvline(0, color="0.35", linewidth=0.8, zorder=1)
    reach = float(values[shown].abs().to_numpy().max()) or 1.0
    for y, name in enumerate(shown):
        v, f = values[name].to_numpy(float), features[name].to_numpy(float)
        span = np.nanmax(f) - np.nanmin(f) if np.isfinite(f).any() else 0
        height = (f - np.nanmin(f)) / span if span else np.full(f.shape, 0.5)
        ax.scatter(v, y + _swarm(v, reach), c=height, cmap="viridis", vmin=0, vmax=1, s=7, linewidths=0, zorder=2)
    ax.set_yticks(range(len(shown)), [str(n) for n in shown])
    ax.set_ylim(-0.6, len(shown) - 0.4)
    ax.xaxis.set_major_formatter(_number)
    ax.set_xlabel(f"SHAP value: effect on {_label(target)}")
    ax.set_ylabel("feature")
    ax.set_title(_shown(len(shown), values.shape[1]), loc="left")
    bar = ScalarMappable(Normalize(0, 1), matplotlib.colormaps["viridis"])
    style.colour_bar(fig, [ax], bar, "value of the feature", ticks=[0, 1], labels=["low", "high"])
    return fig


def _waterfall(source: Source, target: str) -> dict[str, Any]:
    shap = _shap_of(source.predictor, target)
    row = int(np.argmax(np.abs(shap.values.to_numpy(float).sum(axis=1))))
    place = source.predictor.table.iloc[row]
    return {
        "values": shap.values.iloc[row], "features": shap.features.iloc[row], "base_value": shap.base_value,
        "target": target, "title": f"{place['model']}, layer {int(place['layer_index'])}",
    }  # fmt: skip


@picture("analysis/shap_waterfall_{target}.png", cases=_each_target, data=_table, derive=_waterfall)
def shap_waterfall(values: pd.Series, features: pd.Series, base_value: float, target: str, title: str = "") -> Figure:
    """How the features of one layer lead from the mean prediction to its own (Figure 9b of the paper).

    Args:
        values: SHAP values by feature.
        features: the features' values.
        base_value: the mean prediction.
        target: what is predicted.
        title: which layer; in a dataset's picture the one whose prediction lies farthest from the mean.
    """
    settings = {str(name): setting for name, setting in features.items()}
    effects = {str(name): float(effect) for name, effect in values.items()}
    order = sorted(effects, key=lambda name: abs(effects[name]))
    at_work = max(1, sum(effect != 0 for effect in effects.values()))
    most = min(at_work, _MOST_FEATURES)
    shown, others = order[-most:], order[:-most]
    steps = [(f"{name} = {style.size(float(settings[name]))}", effects[name]) for name in shown]
    if others:
        steps.insert(0, (f"{len(others)} others", sum(effects[name] for name in others)))
    fig, axes = style.new_figure(
        6.2, 1.05 + 0.27 * len(steps), margins=(_left([name for name, _ in steps]), 0.5, 0.45, 0.5)
    )
    ax = axes[0, 0]
    at = base_value
    for y, (_, change) in enumerate(steps):
        ax.barh(y, change, left=at, height=0.62, color=style.COLOURS[1] if change > 0 else style.COLOURS[0])
        ax.plot([at + change] * 2, [y - 0.31, min(y + 1.31, len(steps) - 0.69)], color="0.4", linewidth=0.6)
        at += change
    ax.axvline(base_value, color="0.35", linewidth=0.8, linestyle=":")
    ax.axvline(at, color="0.35", linewidth=0.8)
    passed = base_value + np.cumsum([0.0, *(change for _, change in steps)])
    room = 0.06 * float(np.ptp(passed)) or 1.0
    ax.set_xlim(passed.min() - room, passed.max() + room)
    ax.set_yticks(range(len(steps)), [name for name, _ in steps])
    ax.set_ylim(-0.6, len(steps) - 0.4)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.xaxis.set_major_formatter(_number)
    ax.set_xlabel(f"prediction of {_label(target)}")
    ax.set_ylabel("feature")
    ax.set_title(title, loc="left")
    if not any(effects.values()):
        text = _BY_THE_MEAN.replace("\n", " ")
        ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none"})  # fmt: skip
    noise = 1e-9 * max(1.0, *map(abs, effects.values()))  # a mean of standardised values is 0 but for rounding
    shown_ends = [0.0 if abs(v) < noise else v for v in (base_value, at)]
    ends = [
        Line2D([], [], color="0.35", linestyle=":", label=f"mean prediction {style.number(shown_ends[0])}"),
        Line2D([], [], color="0.35", label=f"this prediction {style.number(shown_ends[1])}"),
    ]
    style.legend_above(fig, ends)
    return fig


def _dependence(source: Source, target: str) -> dict[str, Any]:
    from madyn.prediction.published import explanation

    predictor, curves = source.predictor, {}
    for feature in map(str, _importances_of(predictor, target).sort_values(ascending=False).index):
        if feature in explanation.of_depth():  # powers of one number, which move together
            curves.setdefault(_DEPTH, explanation.depth_dependence(predictor, target))
        elif len(np.unique(predictor.features[feature].to_numpy())) > 1:  # one that never varies moves nothing
            curves[feature] = explanation.partial_dependence(predictor, target, feature)
        if len(curves) == _MOST_PANELS:
            break
    return {"curves": curves, "target": target}


@picture("analysis/partial_dependence_{target}.png", cases=_each_target, data=_table, derive=_dependence)
def partial_dependence(curves: Mapping[str, pd.DataFrame], target: str) -> Figure:
    """The mean prediction as one feature is set to each of its values, a panel a feature, and one for the depth.

    Args:
        curves: by feature, the columns value, prediction, lower and upper.
        target: what is predicted.
    """
    fig, panels = dependence_panels(curves, "prediction")
    for ax in panels:
        ax.yaxis.set_major_formatter(_number)
    handles = dependence_handles("mean", "10 to 90 % of the rows")
    style.legend_above(fig, [style.words(_label(target)), *handles])
    return fig


def _residuals(source: Source) -> dict[str, Any]:
    from madyn.prediction.published import explanation

    table = explanation.residuals(source.predictor)
    order = [source.models.index(model) for model in table["model"]]
    return {"table": table.iloc[np.argsort(order, kind="stable")]}


@picture("analysis/residuals.png", cases=the_dataset, data=_table, derive=_residuals)
def residuals(table: pd.DataFrame) -> Figure:
    """Predicted, with the whole model left out, against what was fitted: a panel a target, a colour a model.

    Args:
        table: a row a target, model and layer: model, layer_index, target, observed, predicted.
    """
    targets, models = sorted(set(table["target"]), key=_order), list(dict.fromkeys(table["model"]))
    rows, columns = panel_grid(len(targets), 3)
    named = len(models) <= MOST_NAMED
    title = "each model predicted\nwithout its own rows"
    room = style.legend_room([title, *(str(model) for model in models)]) if named else 1.0
    fig, axes = style.new_figure(
        0.6 + 2.05 * columns + room, 0.35 + 2.1 * rows, rows, columns,
        margins=(0.6, room, 0.48, 0.3 if named else 0.55), gaps=(0.7, 0.75),
    )  # fmt: skip
    panels = hide_empty(axes, len(targets))
    looks: list[dict[str, Any]] = [
        {"color": colour, "marker": style.MARKERS[i % 9] if named else "o"}
        for i, colour in enumerate(style.layer_colours(len(models)))
    ]
    for ax, target in zip(panels, targets, strict=True):
        part = table[table["target"] == target]
        for model, look in zip(models, looks, strict=True):
            one = part[part["model"] == model]
            ax.scatter(one["observed"], one["predicted"], s=12 if named else 5, linewidths=0, alpha=0.85, **look)
        _diagonal(ax, np.asarray(part[["observed", "predicted"]], float))
        ax.set_title(_label(target), loc="left")
        ax.set_xlabel("fitted")
        ax.set_ylabel("predicted")
    equal = Line2D([], [], color="0.35", linewidth=0.8, label="equal")
    if named:
        handles = [
            Line2D([], [], linestyle="none", label=str(m), **look) for m, look in zip(models, looks, strict=True)
        ]
        style.legend_right(fig, [*handles, equal], axes[0, -1], title=title)
    else:
        style.legend_above(fig, [style.words(title.replace("\n", " ")), equal])
        size_bar(fig, panels)
    return fig


def _diagonal(ax: Axes, values: NDArray[np.float64]) -> None:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    room = 0.06 * (high - low) or 1.0
    ax.plot([low - room, high + room], [low - room, high + room], color="0.35", linewidth=0.8, zorder=0)
    ax.set_xlim(low - room, high + room)
    ax.set_ylim(low - room, high + room)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(3))
        axis.set_major_formatter(_number)


def _swarm(values: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Offsets that spread dots of nearly equal value to both sides of their line, within 0.4 of it."""
    offsets = np.zeros(len(values))
    bins = np.round(values / reach * 50)
    for place in np.unique(bins):
        (members,) = np.nonzero(bins == place)
        side = np.where(np.arange(len(members)) % 2, 1, -1) * ((np.arange(len(members)) + 1) // 2)
        offsets[members] = side
    most = np.abs(offsets).max(initial=0)
    return offsets * min(0.09, 0.4 / most) if most else offsets


def _number(value: float, _: float) -> str:
    """A tick label that never needs a power of ten beside the axis, which would stand in the title."""
    return style.number(value)


def _order(target: str) -> int:
    """The place of a target in the paper's order."""
    return list(_NAMES).index(target) if target in _NAMES else len(_NAMES)


def _left(names: list[str]) -> float:
    """A left margin, in inches, wide enough for these names and the axis label."""
    return 0.35 + 0.07 * max(len(name) for name in names)


def _shown(shown: int, of: int) -> str:
    return f"the {shown} strongest of {of} features" if shown < of else ""
