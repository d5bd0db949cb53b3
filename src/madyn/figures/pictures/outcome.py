"""What was predicted of a model, beside what it did."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from madyn.figures import style
from madyn.figures.entries import picture
from madyn.figures.panels import layer_panels

if TYPE_CHECKING:
    import xarray as xr

# One a run; what is predicted has a colour that none of them has.
_RUNS = tuple(zip((0, 2, 6, 3, 4, 5), ("o", "^", "s", "D", "v", "P"), strict=True))
_PREDICTED = style.COLOURS[1]


@picture("predicted_and_measured.png")
def predicted_and_measured(predicted: xr.DataArray, measured: xr.DataArray, title: str = "") -> Figure:
    """The ratio against the training step, predicted and measured, a panel a layer.

    Args:
        predicted: dims (layer, step, quantile), as `Predictor.predict` gives it; at `steps.curve_steps` of the measured
            steps the curve is smooth.
        measured: dims (step, layer), of the same layers; with a dimension "run" too where there are several runs.
        title: above the panels.
    """
    layers = measured["layer"].values
    runs = [measured] if "run" not in measured.dims else [measured.isel(run=i) for i in range(measured.sizes["run"])]
    values = np.concatenate([predicted.values.ravel(), measured.values.ravel()])
    fig, panels = layer_panels(
        layers, measured["step"].values, values, style.QUANTITY_LABELS["ratio"], top=0.76 if title else 0.48
    )
    ends = predicted["quantile"].values[[0, -1]]
    middle = predicted.sel(quantile=0.5, method="nearest")
    looks = [
        {"marker": marker, "color": style.COLOURS[colour], "markersize": 3, "linestyle": "none"}
        for _, (colour, marker) in zip(runs, itertools.cycle(_RUNS), strict=False)
    ]
    for ax, layer in zip(panels, layers, strict=True):
        lower, upper = (predicted.sel(layer=layer, quantile=end) for end in ends)
        ax.fill_between(predicted["step"], lower, upper, color=_PREDICTED, alpha=0.2, linewidth=0)
        for run, look in zip(runs, looks, strict=True):
            ax.plot(run["step"], run.sel(layer=layer), **look)
        ax.plot(predicted["step"], middle.sel(layer=layer), color=_PREDICTED)
    names = ["measured"] if len(runs) == 1 else [f"run {i + 1}" for i in range(len(runs))]
    handles = [
        *(Line2D([], [], **look, label=name) for name, look in zip(names, looks, strict=True)),
        Line2D([], [], color=_PREDICTED, label="predicted"),
        style.band(f"{100 * (ends[1] - ends[0]):.0f} % interval", _PREDICTED),
    ]
    if title:
        style.title_above(fig, title)
    style.legend_above(fig, handles, inches=0.28 if title else 0.02)
    return fig
