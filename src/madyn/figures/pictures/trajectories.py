"""Magnitudes against the training step: `series/`, and the ratio in every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from madyn.figures import style
from madyn.figures.entries import picture
from madyn.figures.panels import layer_panels
from madyn.figures.source import each_fitted_quantity, each_model
from madyn.figures.steps import STEP_LABEL, step_axis

if TYPE_CHECKING:
    import xarray as xr

_RANKS = ("top1", "top2", "top3")


@picture(
    "{model}/series/{quantity}.png",
    cases=each_fitted_quantity,
    data=lambda source, model, quantity: {"values": source.dataset.trajectories(model, quantity), "model": model},
)
def trajectories(values: xr.DataArray, model: str = "") -> Figure:
    """A quantity against the training step, a line a layer.

    Args:
        values: dims (step, layer); its name is the quantity.
        model: for the title.
    """
    quantity = str(values.name)
    fig, axes = style.new_figure(5.2, 3.2, margins=(0.62, 0.85, 0.45, 0.3))
    ax = axes[0, 0]
    _layer_lines(ax, values)
    step_axis(ax.xaxis, values["step"].values)
    style.value_axis(ax.yaxis, style.value_limits(values))
    ax.set_xlabel(STEP_LABEL)
    ax.set_ylabel(style.QUANTITY_LABELS.get(quantity, quantity))
    style.panel_title(ax, f"{model}, mean over the sequences" if model else "mean over the sequences")
    style.layer_bar(fig, [ax], values.sizes["layer"])
    return fig


@picture(
    "{model}/series/magnitudes.png",
    cases=each_model,
    data=lambda source, model: {"statistics": source.dataset.statistics(model), "model": model},
)
def magnitudes(statistics: xr.DataArray, model: str = "") -> Figure:
    """The three largest magnitudes and the median against the training step: a line a layer, and their mean in black.

    The three share their y axis; the median, far below them, has its own.

    Args:
        statistics: dims (step, sequence, quantity, layer).
        model: for the title.
    """
    means = statistics.mean("sequence")
    fig, axes = style.new_figure(6.6, 4.8, 2, 2, margins=(0.62, 0.85, 0.45, 0.5), gaps=(0.62, 0.35), sharex=True)
    tops = style.value_limits(means.sel(quantity=list(_RANKS)))
    for ax, quantity in zip(axes.flat, (*_RANKS, "median"), strict=True):
        values = means.sel(quantity=quantity)
        _layer_lines(ax, values)
        ax.plot(values["step"], values.mean("layer"), color="black", linewidth=1.8, linestyle=(0, (3, 1)))
        step_axis(ax.xaxis, values["step"].values)
        style.value_axis(ax.yaxis, style.value_limits(values) if quantity == "median" else tops)
        style.panel_title(ax, style.QUANTITY_LABELS[quantity])
        ax.set_ylabel("|h|")
    for ax in axes[-1]:
        ax.set_xlabel(STEP_LABEL)
    for ax in axes[0]:
        ax.tick_params(labelbottom=False)
        ax.set_xlabel(STEP_LABEL).set_visible(False)
    handle = Line2D([], [], color="black", linewidth=1.8, linestyle=(0, (3, 1)), label="mean over the layers")
    style.legend_above(fig, [style.words(model), handle] if model else [handle])
    style.layer_bar(fig, axes.flat, statistics.sizes["layer"])
    return fig


@picture(
    "analysis/{model}/ratio_by_layer.png",
    cases=each_model,
    data=lambda source, model: {"statistics": source.dataset.statistics(model), "model": model},
)
def ratio_by_layer(statistics: xr.DataArray, model: str = "") -> Figure:
    """The three largest magnitudes over the median against the training step, a panel a layer (Figure 4 of the paper).

    Args:
        statistics: dims (step, sequence, quantity, layer).
        model: for the title.
    """
    median = statistics.sel(quantity="median", drop=True)
    ratios = (statistics.sel(quantity=list(_RANKS)) / median).mean("sequence")
    layers, steps = statistics["layer"].values, statistics["step"].values
    fig, panels = layer_panels(layers, steps, ratios, "|h| / median of |h|")
    for layer, ax in enumerate(panels):
        for quantity in _RANKS[::-1]:  # the largest is drawn last, so on top
            values = ratios.sel(quantity=quantity).isel(layer=layer)
            ax.plot(values["step"], values, color=style.QUANTITY_COLOURS[quantity], label=quantity)
    handles = style.quantity_handles(_RANKS)
    style.legend_above(fig, [style.words(model), *handles] if model else handles)
    return fig


def _layer_lines(ax: Axes, values: xr.DataArray) -> None:
    layers = values.sizes["layer"]
    for layer, colour in enumerate(style.layer_colours(layers)):
        marker = "o" if layers <= 8 else None
        ax.plot(values["step"], np.asarray(values.isel(layer=layer)), color=colour, marker=marker, markersize=2.5)
