"""Plotly figures, each from data alone: what the report shows, and the explorer.

A chart takes labelled arrays or tables and returns a `plotly.graph_objects.Figure`; it knows no dataset. Colours of
text and grid are left to the page, which has a light and a dark theme; colours of data are those of the static figures
(told apart with every common form of colour blindness). Steps stand where the static figures have them: linear up to
the first step after 0, logarithmic from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.errors import missing_dependency
from madyn.figures import style
from madyn.figures.steps import STEP_LABEL, StepScale

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from plotly.graph_objects import Figure

_DIGITS = 4  # of the numbers in a page: more is not seen, and makes it large
QUANTITY_TITLES = {"ratio": "top 1 / median", "top1": "largest |h| (top 1)", "median": "median |h|"}


def new_chart() -> Figure:
    """An empty chart with the layout of all. Raises MissingDependencyError where plotly is not installed."""
    try:
        from plotly.graph_objects import Figure
    except ModuleNotFoundError as e:
        raise missing_dependency(e) from e
    layout = {
        "template": "none", "margin": {"l": 64, "r": 16, "t": 30, "b": 48}, "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "autosize": True,
        "legend": {"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0},
    }  # fmt: skip
    return Figure(layout=layout)


def short(values: ArrayLike) -> list[float | None]:
    """Numbers with as many digits as a page needs; None for what is not finite.

    >>> short([1 / 3, 1234567.0, float("nan"), 0])
    [0.3333, 1235000.0, None, 0.0]
    """
    return [
        float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in np.asarray(values, float).ravel()
    ]


def step_axis(steps: ArrayLike) -> tuple[StepScale, dict[str, Any]]:
    """Where steps stand, and the axis that says so."""
    scale = StepScale(steps)
    ticks = _step_ticks(scale.steps)
    return scale, {
        "title": {"text": STEP_LABEL}, "tickvals": short(scale.place(ticks)), "zeroline": False,
        "ticktext": [style.number(t) for t in ticks],
    }  # fmt: skip


def _step_ticks(steps: NDArray[np.float64]) -> list[float]:
    """The first step, powers of ten that lie among the steps, and the last."""
    steps = np.unique(steps)
    first, last = float(steps[0]), float(steps[-1])
    low = float(steps[steps > 0][0]) if (steps > 0).any() else 1.0
    powers = [10.0**k for k in range(int(np.ceil(np.log10(low))), 16) if 10.0**k < 0.6 * last]
    return list(dict.fromkeys([first, *powers, last]))


def trajectories(values: xr.DataArray, fits: xr.Dataset | None = None) -> Figure:
    """A line a layer over the training steps; of each layer also its points, fitted curve and band, hidden at first.

    Each trace's `meta` has its layer and what it is of it: "line", which is shown for all layers, or "points", "curve"
    and "band", which a page shows of the one that is chosen.

    Args:
        values: dims (step, layer), a quantity; its name is one of `QUANTITY_TITLES`.
        fits: median, lower and upper, dims (layer, step), of the curve; nan where a layer has none.
    """
    steps = values["step"].values
    scale, axis = step_axis(steps)
    layers = [int(layer) for layer in values["layer"].values]
    colours = style.layer_colours(len(layers))
    chart, x = new_chart(), short(scale.place(steps))
    table = values.transpose("layer", "step").values
    for layer, colour, y in zip(layers, colours, table, strict=True):
        chart.add_scatter(
            x=x, y=short(y), customdata=[int(s) for s in steps], mode="lines", name=f"layer {layer}",
            line={"color": _css(colour), "width": 1.4}, meta={"layer": layer, "part": "line"}, showlegend=False,
            hovertemplate=f"layer {layer}, step %{{customdata}}: %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    if fits is not None:
        _add_fits(chart, fits, scale, layers, colours)
    for layer, colour, y in zip(layers, colours, table, strict=True):
        chart.add_scatter(
            x=x, y=short(y), customdata=[int(s) for s in steps], mode="markers", name="measured", visible=False,
            marker={"color": _css(colour), "size": 6}, meta={"layer": layer, "part": "points"},
            hovertemplate=f"layer {layer}, step %{{customdata}}: %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    positive = bool((table[np.isfinite(table)] > 0).all())
    name = QUANTITY_TITLES.get(str(values.name), str(values.name))
    chart.update_layout(
        xaxis=axis,
        yaxis={"title": {"text": name}, "type": "log" if positive else "linear", "zeroline": False},
    )  # fmt: skip
    return chart


def _add_fits(chart: Figure, fits: xr.Dataset, scale: StepScale, layers: Sequence[int], colours: Sequence[Any]) -> None:
    at = fits["step"].values
    x = short(scale.place(at))
    for layer, colour in zip(layers, colours, strict=True):
        one = fits.sel(layer=layer)
        lower, middle, upper = (one[name].values for name in ("lower", "median", "upper"))
        if not np.isfinite(middle).any():
            continue
        chart.add_scatter(
            x=[*x, *x[::-1]], y=[*short(upper), *short(lower)[::-1]], fill="toself", mode="none", visible=False,
            fillcolor=_css(colour, 0.25), name="90 % band of the curve", meta={"layer": layer, "part": "band"},
            hoverinfo="skip",
        )  # fmt: skip
        chart.add_scatter(
            x=x, y=short(middle), mode="lines", visible=False, line={"color": _css(colour), "width": 2.2},
            name="fitted curve", meta={"layer": layer, "part": "curve"}, hoverinfo="skip",
        )  # fmt: skip


def heat_map(
    table: pd.DataFrame, value: str, label: str, *, scale: StepScale | LogScale | None = None, form: str = ".3g"
) -> Figure:
    """A cell a model and layer. A cell's `customdata` is [model, layer].

    Args:
        table: a row a model and layer: model, layer, and the value.
        value: the column that is shown.
        label: what it is, for the colour bar.
        scale: what colours are even in: a `StepScale`, or a `LogScale`; the value itself by default.
        form: of a number in a label, as in d3.
    """
    models = list(dict.fromkeys(table["model"]))
    layers = np.arange(int(table["layer"].to_numpy().max()) + 1)
    grid = table.pivot(index="model", columns="layer", values=value).reindex(index=models, columns=layers)
    numbers = grid.to_numpy(float)
    z = numbers if scale is None else scale.place(numbers)
    chart = new_chart()
    known = numbers[np.isfinite(numbers)]
    ticks = (
        []
        if scale is None or not known.size
        else scale.ticks(known)
        if isinstance(scale, LogScale)
        else _step_ticks(known)
    )
    bar = (
        {"tickvals": short(scale.place(ticks)), "ticktext": [style.number(t) for t in ticks]} if scale and ticks else {}
    )
    chart.add_heatmap(
        z=[short(row) for row in z], x=layers.tolist(), y=models, colorscale="Viridis", hoverongaps=False,
        xgap=1, ygap=1, text=[[_said(v, form) for v in row] for row in numbers],
        customdata=[[[model, int(layer)] for layer in layers] for model in models],
        hovertemplate=f"%{{y}}, layer %{{x}}<br>{label}: %{{text}}<extra></extra>",
        colorbar={"title": {"text": label, "side": "right"}, "thickness": 14, **bar},
    )  # fmt: skip
    chart.update_layout(
        xaxis={"title": {"text": style.LAYER_LABEL}, "showgrid": False, "zeroline": False},
        yaxis={"autorange": "reversed", "showgrid": False, "type": "category", "automargin": True},
        height=max(220, 110 + 22 * len(models)),
    )
    return chart


def _said(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else ""


class LogScale:
    """Where positive numbers stand by their logarithm; others stand nowhere."""

    def place(self, values: ArrayLike) -> NDArray[np.float64]:
        given = np.asarray(values, float)
        return np.log10(np.where(given > 0, given, np.nan))

    def ticks(self, values: NDArray[np.float64]) -> list[float]:
        positive = values[values > 0]
        if not positive.size:
            return []
        low, high = float(positive.min()), float(positive.max())
        return style.log_ticks(low, high) if high > low else [low]


def hypotheses(table: pd.DataFrame) -> Figure:
    """In what share of the layers each hypothesis has the lowest AIC, by quantity; where several have, each counts.

    Args:
        table: a row a quantity and hypothesis: quantity, hypothesis, best (share of the layers), r2 (median).
    """
    chart = new_chart()
    for colour, (quantity, rows) in zip(style.COLOURS, table.groupby("quantity", sort=False), strict=False):
        chart.add_bar(
            x=rows["hypothesis"].tolist(), y=short(100 * rows["best"]), name=QUANTITY_TITLES.get(str(quantity), ""),
            marker={"color": colour}, customdata=short(rows["r2"]),
            hovertemplate="%{x}: lowest AIC in %{y:.0f} % of the layers, median R² %{customdata:.4f}<extra></extra>",
        )  # fmt: skip
    chart.update_layout(
        barmode="group", xaxis={"title": {"text": "hypothesis"}, "automargin": True},
        yaxis={"title": {"text": "layers with the lowest AIC, %"}, "rangemode": "tozero"},
    )  # fmt: skip
    return chart


def predicted_against_measured(table: pd.DataFrame) -> Figure:
    """Each model's number as it was predicted without its architecture, against what was measured.

    Args:
        table: a row a model: model, measured, predicted, lower, upper.
    """
    chart = new_chart()
    middle, lower, upper = (table[name].to_numpy(float) for name in ("predicted", "lower", "upper"))
    ends = [
        float(np.nanmin([table["measured"].min(), lower.min()])),
        float(np.nanmax([table["measured"].max(), upper.max()])),
    ]
    chart.add_scatter(
        x=short(ends), y=short(ends), mode="lines", name="as measured", line={"color": "#888", "dash": "dot"},
        hoverinfo="skip",
    )  # fmt: skip
    chart.add_scatter(
        x=short(table["measured"]), y=short(middle), mode="markers", name="a model, with its 90 % interval",
        text=list(table["model"]), marker={"color": style.COLOURS[0], "size": 7},
        error_y={
            "type": "data", "symmetric": False, "array": short(upper - middle), "arrayminus": short(middle - lower),
            "thickness": 1, "width": 0, "color": style.COLOURS[4],
        },
        hovertemplate="%{text}<br>measured %{x:.3g}, predicted %{y:.3g}<extra></extra>",
    )  # fmt: skip
    for axis, words in (("xaxis", "largest ratio, measured"), ("yaxis", "predicted without its architecture")):
        chart.update_layout({axis: {"title": {"text": words}, "type": "log"}})
    return chart


def shares_over_steps(shares: Mapping[str, xr.DataArray], label: str) -> Figure:
    """A line a model: a share of the layers and sequences over the steps.

    Args:
        shares: by model, dim step, from 0 to 1.
        label: what is shared, for the axis.
    """
    chart = new_chart()
    steps = np.unique(np.concatenate([one["step"].values for one in shares.values()]))
    scale, axis = step_axis(steps)
    colours = style.layer_colours(len(shares))
    for (model, one), colour in zip(shares.items(), colours, strict=True):
        chart.add_scatter(
            x=short(scale.place(one["step"].values)), y=short(100 * one.values), mode="lines", name=model,
            line={"color": _css(colour), "width": 1.6}, customdata=[int(s) for s in one["step"].values],
            hovertemplate=f"{model}, step %{{customdata}}: %{{y:.0f}} %<extra></extra>",
            showlegend=len(shares) <= _MOST_NAMED,
        )  # fmt: skip
    chart.update_layout(xaxis=axis, yaxis={"title": {"text": label}, "range": [0, 103]})
    return chart


_MOST_NAMED = 12  # lines with an entry in the legend; of more it would hide the picture


def _css(colour: Any, opacity: float = 1.0) -> str:
    """A colour of matplotlib's as a page writes it."""
    from matplotlib.colors import to_rgb

    red, green, blue = (round(255 * part) for part in to_rgb(colour))
    return f"rgb({red},{green},{blue})" if opacity == 1 else f"rgba({red},{green},{blue},{opacity})"
