"""What was predicted of a model, beside what it did."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from madyn.figures import style

if TYPE_CHECKING:
    import xarray as xr

_MARKERS = ("o", "^", "s", "D")  # one a run


@matplotlib.rc_context(style.RC)
def predicted_and_measured(predicted: xr.DataArray, measured: xr.DataArray, title: str = "") -> Figure:
    """The ratio against the training step, predicted and measured, a panel a layer.

    Args:
        predicted: dims (layer, step, quantile), as `Predictor.predict` gives it.
        measured: dims (step, layer), of the same layers; with a dimension "run" too where there are several runs.
        title: above the panels.
    """
    layers = measured["layer"].values
    runs = [measured] if "run" not in measured.dims else [measured.isel(run=i) for i in range(measured.sizes["run"])]
    columns = min(len(layers), 3)
    rows = math.ceil(len(layers) / columns)
    fig, axes = style.new_figure(
        max(3.6, 2.1 * columns + 0.8), 1.6 * rows + 0.9, rows, columns, margins=(0.62, 0.15, 0.48, 0.42),
        gaps=(0.12, 0.14), sharex=True, sharey=True,
    )  # fmt: skip
    style.step_axis(axes[0, 0].xaxis, measured["step"].values, crowded=True)
    low, high = style.value_limits([*predicted.values.ravel(), *measured.values.ravel()])
    style.value_axis(axes[0, 0].yaxis, (low, high))
    ends = predicted["quantile"].values[[0, -1]]
    middle = predicted.sel(quantile=0.5, method="nearest")
    for number, ax in enumerate(axes.flat):
        if number >= len(layers):
            ax.set_visible(False)
            continue
        layer = layers[number]
        lower, upper = (predicted.sel(layer=layer, quantile=end) for end in ends)
        ax.fill_between(predicted["step"], lower, upper, color=style.COLOURS[1], alpha=0.2, linewidth=0)
        for run, marker in zip(runs, itertools.cycle(_MARKERS)):
            ax.plot(run["step"], run.sel(layer=layer), marker, color=style.COLOURS[0], markersize=3)
        ax.plot(predicted["step"], middle.sel(layer=layer), color=style.COLOURS[1])
        ax.text(0.04, 0.95, f"layer {layer}", transform=ax.transAxes, va="top", fontsize=8,
                bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.8})  # fmt: skip
        lowest = number + columns >= len(layers)
        ax.tick_params(labelbottom=lowest)
        if lowest:  # the last label of a panel would run into the first of the next
            ax.get_xticklabels()[0].set_horizontalalignment("left")
            ax.get_xticklabels()[-1].set_horizontalalignment("right")
        ax.set_xlabel(style.STEP_LABEL).set_visible(False)
        ax.set_ylabel(style.QUANTITY_LABELS["ratio"]).set_visible(False)
    fig.supxlabel(style.STEP_LABEL, y=0.06 / fig.get_figheight(), va="bottom", fontsize=9)
    fig.supylabel(style.QUANTITY_LABELS["ratio"], x=0.06 / fig.get_figwidth(), fontsize=9)
    handles = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker="o",
            markersize=3,
            color=style.COLOURS[0],
            label="measured" if len(runs) == 1 else f"measured, {len(runs)} runs",
        ),
        Line2D([], [], color=style.COLOURS[1], label="predicted"),
        style.band(f"{100 * (ends[1] - ends[0]):.0f} % interval", style.COLOURS[1]),
    ]
    style.legend_above(fig, [style.words(title), *handles] if title else handles)
    return fig
