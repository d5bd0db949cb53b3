"""Charts of many layers or models at once: maps of cells, bars, and predictions against what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from madyn.figures import style
from madyn.figures.steps import StepScale
from madyn.report.charts.base import QUANTITY_TITLES, LogScale, log_axis, new_chart, short, step_ticks

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

PEAK_MAPS: Mapping[str, str] = {"height": "peak height", "at": "peak step"}
"""What `peak_map` shows, by the column of the table, in words."""


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
        else step_ticks(known)
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
        height=min(900, max(220, 110 + 22 * len(models))),  # of more models, thinner rows
    )
    return chart


def _said(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else ""


def peak_map(table: pd.DataFrame, what: str) -> Figure:
    """The height or the step of each layer's largest ratio.

    Args:
        table: a row a model and layer: model, layer, height, at.
        what: one of `PEAK_MAPS`.
    """
    if what == "height":
        return heat_map(table, "height", "largest ratio", scale=LogScale())
    return heat_map(table, "at", "its step", scale=StepScale(table["at"]), form=",.0f")


def by_layer(values: Mapping[str, ArrayLike], label: str, *, log: bool) -> Figure:
    """A line each, over the layers of a model.

    Args:
        values: by name, (layers,).
        label: of the axis.
    """
    chart, looks = new_chart(), zip(style.COLOURS, ("circle", "square", "diamond"), strict=False)
    for (colour, symbol), (name, one) in zip(looks, values.items(), strict=False):
        y = short(one)
        chart.add_scatter(
            x=list(range(len(y))), y=y, mode="lines+markers", name=name, line={"color": colour, "width": 1.6},
            marker={"color": colour, "size": 6, "symbol": symbol},
            hovertemplate=f"layer %{{x}}: {name} %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    kind = log_axis(np.concatenate([np.asarray(one, float) for one in values.values()])) if log else {}
    chart.update_layout(
        xaxis={"title": {"text": style.LAYER_LABEL}, "zeroline": False},
        yaxis={"title": {"text": label}, "zeroline": False, **kind},
    )
    return chart


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
        chart.update_layout({axis: {"title": {"text": words}, **log_axis(ends)}})
    return chart
