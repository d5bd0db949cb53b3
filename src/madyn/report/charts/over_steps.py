"""Charts over training steps: trajectories, fits, predictions, a run so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.figures import style
from madyn.figures.steps import StepScale
from madyn.report.charts.base import (
    EvenScale,
    css,
    new_chart,
    short,
    step_axis,
    value_axis,
)

if TYPE_CHECKING:
    import xarray as xr
    from plotly.graph_objects import Figure

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

_MOST_NAMED = 12  # lines with an entry in the legend; of more it would hide the picture


def trajectories(
    values: xr.DataArray, fits: xr.Dataset | None = None, *, log: bool = True, log_steps: bool = True
) -> Figure:
    """A line a layer over the training steps; of each layer also its points, fitted curve and band, hidden at first.

    Each trace's `meta` has its layer and what it is of it: "line", which is shown for all layers, or "points", "curve"
    and "band", which a page shows of the one that is chosen.

    Args:
        values: dims (step, layer), a quantity; its name is one of `QUANTITY_TITLES`.
        fits: median, lower and upper, dims (layer, step), of the curve; nan where a layer has none.
        log: the axis of values is logarithmic, where all are positive.
        log_steps: that of steps is, after the first one after 0.
    """
    steps = values["step"].values
    scale, axis = step_axis(steps, log_steps)
    layers = [int(layer) for layer in values["layer"].values]
    colours = style.layer_colours(len(layers))
    chart, x = new_chart(), short(scale.place(steps))
    table = values.transpose("layer", "step").values
    for layer, colour, y in zip(layers, colours, table, strict=True):
        chart.add_scatter(
            x=x, y=short(y), customdata=[int(s) for s in steps], mode="lines", name=f"layer {layer}",
            line={"color": css(colour), "width": 1.4}, meta={"layer": layer, "part": "line"}, showlegend=False,
            hovertemplate=f"layer {layer}, step %{{customdata}}: %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    if fits is not None:
        _add_fits(chart, fits, scale, layers, colours)
    for layer, colour, y in zip(layers, colours, table, strict=True):
        chart.add_scatter(
            x=x, y=short(y), customdata=[int(s) for s in steps], mode="markers", name="measured", visible=False,
            marker={"color": css(colour), "size": 6}, meta={"layer": layer, "part": "points"},
            hovertemplate=f"layer {layer}, step %{{customdata}}: %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    chart.update_layout(xaxis=axis, yaxis=value_axis(str(values.name), table, log))
    return chart


def _add_fits(
    chart: Figure, fits: xr.Dataset, scale: StepScale | EvenScale, layers: Sequence[int], colours: Sequence[Any]
) -> None:
    at = fits["step"].values
    x = short(scale.place(at))
    for layer, colour in zip(layers, colours, strict=True):
        one = fits.sel(layer=layer)
        lower, middle, upper = (one[name].values for name in ("lower", "median", "upper"))
        if not np.isfinite(middle).any():
            continue
        chart.add_scatter(
            x=[*x, *x[::-1]], y=[*short(upper), *short(lower)[::-1]], fill="toself", mode="none", visible=False,
            fillcolor=css(colour, 0.25), name="90 % band of the curve", meta={"layer": layer, "part": "band"},
            hoverinfo="skip",
        )  # fmt: skip
        chart.add_scatter(
            x=x, y=short(middle), mode="lines", visible=False, line={"color": css(colour), "width": 2.2},
            name="fitted curve", meta={"layer": layer, "part": "curve"}, hoverinfo="skip",
        )  # fmt: skip


def side_by_side(
    values: Mapping[str, xr.DataArray], quantity: str, bands: Mapping[str, xr.Dataset | None], *, log: bool = True,
    log_steps: bool = True,
) -> Figure:  # fmt: skip
    """A line a model, with its fitted curve and band where there is one.

    Args:
        values: by model, dim step.
        bands: by model, median, lower and upper of dims (layer, step), of one layer.
    """
    chart = new_chart()
    scale, axis = step_axis(np.concatenate([one["step"].values for one in values.values()]), log_steps)
    for i, (model, one) in enumerate(values.items()):
        colour = style.COLOURS[i % len(style.COLOURS)]
        band = bands.get(model)
        if band is not None:
            part = band.isel(layer=0)
            x = short(scale.place(part["step"].values))
            _add_band(chart, x, part["lower"].values, part["upper"].values, colour, f"{model}: 90 % band")
            chart.add_scatter(
                x=x, y=short(part["median"]), mode="lines", line={"color": colour, "width": 1.2, "dash": "dash"},
                name=f"{model}: fitted", hoverinfo="skip", showlegend=False,
            )  # fmt: skip
        chart.add_scatter(
            x=short(scale.place(one["step"].values)), y=short(one), mode="lines+markers", name=model,
            line={"color": colour, "width": 1.8},
            marker={"color": colour, "size": 5, "symbol": _SYMBOLS[i % len(_SYMBOLS)]},
            customdata=[int(s) for s in one["step"].values],
            hovertemplate=f"{model}, step %{{customdata}}: %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    every = np.concatenate([one.values for one in values.values()])
    chart.update_layout(xaxis=axis, yaxis=value_axis(quantity, every, log))
    return chart


def _add_band(chart: Figure, x: Sequence[Any], lower: ArrayLike, upper: ArrayLike, colour: Any, name: str) -> None:
    chart.add_scatter(
        x=[*x, *x[::-1]], y=[*short(upper), *short(lower)[::-1]], fill="toself", mode="none", name=name,
        fillcolor=css(colour, 0.2), hoverinfo="skip",
    )  # fmt: skip


def predicted(ratio: xr.DataArray, layer: int, measured: xr.DataArray | None, model: str) -> Figure:
    """A layer's predicted ratio with its 90 % interval for a single run, beside a trained model.

    Args:
        ratio: dims (step, quantile) with the quantiles 0.05, 0.5 and 0.95.
        measured: dim step, of the trained model; its name is `model`.
    """
    chart = new_chart()
    steps = ratio["step"].values
    scale, axis = step_axis(steps)
    x = short(scale.place(steps))
    low, middle, high = (ratio.sel(quantile=q).values for q in (0.05, 0.5, 0.95))
    _add_band(chart, x, low, high, style.COLOURS[0], "90 % of single runs")
    chart.add_scatter(
        x=x, y=short(middle), mode="lines", name=f"predicted, layer {layer}", customdata=[int(s) for s in steps],
        line={"color": style.COLOURS[0], "width": 2.2}, hovertemplate="step %{customdata}: %{y:.4g}<extra></extra>",
    )  # fmt: skip
    if measured is not None:
        there = measured.sel(step=measured["step"] <= steps[-1])
        chart.add_scatter(
            x=short(scale.place(there["step"].values)), y=short(there), mode="lines", name=f"measured: {model}",
            line={"color": style.COLOURS[1], "width": 1.4, "dash": "dash"}, hoverinfo="skip",
        )  # fmt: skip
    chart.update_layout(xaxis=axis, yaxis=value_axis("ratio", [low.min(), high.max()], log=True))
    return chart


def own_fit(
    steps: ArrayLike, values: ArrayLike, name: str, curves: Mapping[str, ArrayLike], at: ArrayLike,
    band: xr.Dataset | None,
) -> Figure:  # fmt: skip
    """A series with the curves of some hypotheses, and what would be measured.

    Args:
        steps, values: (n,) the series.
        curves: by hypothesis, its values at `at`, (m,).
        band: lower and upper of dim step, at the same places.
    """
    chart = new_chart()
    scale, axis = step_axis([*np.asarray(steps, float), float(np.max(at))])
    x = short(scale.place(at))
    if band is not None:
        _add_band(chart, x, band["lower"].values, band["upper"].values, style.COLOURS[0], "90 % of measurements")
    for i, (hypothesis, curve) in enumerate(curves.items()):
        chart.add_scatter(
            x=x, y=short(curve), mode="lines", name=hypothesis,
            line={"color": style.COLOURS[i % len(style.COLOURS)], "width": 2, "dash": _DASHES[i % len(_DASHES)]},
        )  # fmt: skip
    chart.add_scatter(
        x=short(scale.place(steps)), y=short(values), mode="markers", name=name, customdata=short(steps),
        marker={"color": "#777", "size": 6}, hovertemplate="step %{customdata}: %{y:.4g}<extra></extra>",
    )  # fmt: skip
    chart.update_layout(xaxis=axis, yaxis=value_axis(name, values, log=True))
    return chart


def run_so_far(steps: ArrayLike, ratio: NDArray[Any], last_step: int | None, ahead: Any = None) -> Figure:
    """A line a layer up to now, and for each what it will have at the end.

    Args:
        steps: (n,); ratio: (n, layers).
        ahead: `at` and `last_step`, and `end`, (layers, 3): median, lower and upper; or None.
    """
    chart = new_chart()
    scale, axis = step_axis([*np.asarray(steps, float), *([last_step] if last_step else [])])
    x = short(scale.place(steps))
    for layer, (colour, y) in enumerate(zip(style.layer_colours(ratio.shape[1]), ratio.T, strict=True)):
        chart.add_scatter(
            x=x, y=short(y), mode="lines", name=f"layer {layer}", line={"color": css(colour), "width": 1.5},
            customdata=[int(s) for s in np.asarray(steps)], showlegend=ratio.shape[1] <= _MOST_NAMED,
            hovertemplate=f"layer {layer}, step %{{customdata}}: %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
        if ahead is not None and np.isfinite(ahead.end[layer]).all():
            middle, low, high = (float(v) for v in ahead.end[layer])
            chart.add_scatter(
                x=short(scale.place([ahead.last_step])), y=short([middle]), mode="markers", showlegend=False,
                marker={"color": css(colour), "size": 7, "symbol": "diamond"},
                error_y={"type": "data", "symmetric": False, "array": short([high - middle]),
                         "arrayminus": short([middle - low]), "color": css(colour), "thickness": 1.2, "width": 4},
                hovertemplate=f"layer {layer} at the end: %{{y:.4g}}<extra></extra>",
            )  # fmt: skip
    chart.update_layout(xaxis=axis, yaxis=value_axis("ratio", ratio, log=True))
    return chart


def shares_over_steps(shares: Mapping[str, xr.DataArray], label: str) -> Figure:
    """A line a model, of many pale ones with their mean: a share of the layers and sequences over the steps.

    Args:
        shares: by model, dim step, from 0 to 1.
        label: what is shared, for the axis.
    """
    chart = new_chart()
    steps = np.unique(np.concatenate([one["step"].values for one in shares.values()]))
    scale, axis = step_axis(steps)
    many = len(shares) > _MOST_NAMED
    colours = [style.COLOURS[0]] * len(shares) if many else [css(c) for c in style.layer_colours(len(shares))]
    for (model, one), colour in zip(shares.items(), colours, strict=True):
        chart.add_scatter(
            x=short(scale.place(one["step"].values)), y=short(100 * one.values), mode="lines", name=model,
            line={"color": colour, "width": 0.8 if many else 1.6}, customdata=[int(s) for s in one["step"].values],
            hovertemplate=f"{model}, step %{{customdata}}: %{{y:.0f}} %<extra></extra>", opacity=0.25 if many else 1,
            showlegend=not many,
        )  # fmt: skip
    if many:
        at = [np.mean([one.sel(step=step) for one in shares.values() if step in one["step"].values]) for step in steps]
        chart.add_scatter(
            x=short(scale.place(steps)), y=short(100 * np.array(at)), mode="lines", showlegend=True,
            name=f"mean of {len(shares)} models", line={"color": style.COLOURS[1], "width": 3}, hoverinfo="skip",
        )  # fmt: skip
    chart.update_layout(xaxis=axis, yaxis={"title": {"text": label}, "range": [0, 103]})
    return chart
