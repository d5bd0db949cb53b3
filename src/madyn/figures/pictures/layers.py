"""Magnitudes by layer at one step: `per_layer_evolution/`, and the first step beside the last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from madyn.figures import style
from madyn.figures.entries import picture
from madyn.figures.source import each_model, each_step

if TYPE_CHECKING:
    import xarray as xr

_QUANTITIES = ("top1", "top2", "top3", "median")


@picture(
    "{model}/per_layer_evolution/step{step}.png",
    cases=each_step,
    data=lambda source, model, step: {"statistics": source.dataset.statistics(model), "step": step, "model": model},
)
def layer_profile(statistics: xr.DataArray, step: int, model: str = "") -> Figure:
    """The magnitudes by layer at one step. All steps of a model have one y range, so that they can be flipped through.

    Args:
        statistics: dims (step, sequence, quantity, layer), with every step of the model.
        step: the one to draw.
        model: for the title.
    """
    fig, axes = style.new_figure(5.0, 3.2, margins=(0.62, 0.12, 0.45, 0.52))
    ax = axes[0, 0]
    _profile(ax, statistics.sel(step=step))
    style.value_axis(ax.yaxis, style.value_limits(statistics))
    ax.set_ylabel("|h|")
    style.panel_title(ax, f"{model}, step {step}" if model else f"step {step}")
    _legend(fig)
    return fig


@picture(
    "analysis/{model}/first_and_last_step.png",
    cases=each_model,
    data=lambda source, model: {"statistics": source.dataset.statistics(model).isel(step=[0, -1]), "model": model},
)
def first_and_last_step(statistics: xr.DataArray, model: str = "") -> Figure:
    """The magnitudes by layer at the first step and at the last (Figure 3 of the paper).

    Args:
        statistics: dims (step, sequence, quantity, layer).
        model: for the title.
    """
    fig, axes = style.new_figure(6.6, 3.1, 1, 2, margins=(0.62, 0.12, 0.45, 0.52), gaps=(0.2, 0), sharey=True)
    ends = statistics.isel(step=[0, -1])
    for ax, place in zip(axes[0], (0, -1), strict=True):
        values = ends.isel(step=place)
        _profile(ax, values)
        style.value_axis(ax.yaxis, style.value_limits(ends))
        ax.set_ylabel("|h|").set_visible(place == 0)
        step = f"step {values['step'].item()}"
        style.panel_title(ax, f"{model}, {step}" if model else step)
    _legend(fig)
    return fig


def _profile(ax: Axes, values: xr.DataArray) -> None:
    """Means over the sequences as lines, their lowest and highest as bands."""
    layers = values["layer"].values
    marker = "o" if layers.size <= 16 else None
    for quantity in _QUANTITIES:
        v = np.asarray(values.sel(quantity=quantity).transpose("sequence", "layer"))
        colour = style.QUANTITY_COLOURS[quantity]
        ax.fill_between(layers, v.min(0), v.max(0), color=colour, alpha=0.2, linewidth=0)
        ax.plot(layers, v.mean(0), color=colour, marker=marker)
    style.layer_axis(ax, layers)


def _legend(fig: Figure) -> None:
    style.legend_above(fig, [*style.quantity_handles(_QUANTITIES), style.band("lowest to highest sequence")])
