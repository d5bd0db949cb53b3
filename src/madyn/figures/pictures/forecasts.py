"""What is still to come of a run: what was seen of each layer, the median forecast and its band, and what came."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import AutoMinorLocator, MaxNLocator

from madyn.figures import style
from madyn.figures.entries import picture
from madyn.figures.panels import evenly, hide_empty, panel_grid
from madyn.figures.steps import STEP_LABEL

if TYPE_CHECKING:
    import xarray as xr

PANELS = 12
_ACROSS = 4


@picture("forecast_{model}.png")
def forecast_figure(forecast: xr.Dataset) -> Figure:
    """A panel a layer, at most twelve, evenly over the depth.

    Args:
        forecast: as `madyn.forecast` gives it.
    """
    layers = forecast["layer"].values
    chosen = layers[evenly(len(layers), PANELS)]
    down, across = panel_grid(len(chosen), _ACROSS)
    width, height = max(2.3 * across + 0.7, 5.2), 1.75 * down + 0.95
    fig, axes = style.new_figure(
        width, height, down, across, margins=(0.62, 0.15, 0.5, 0.72), gaps=(0.15, 0.35), sharex=True, sharey=True
    )
    panels = hide_empty(axes, len(chosen))
    for ax, layer in zip(panels, chosen, strict=True):
        _panel(ax, forecast.sel(layer=layer))
    _limits(panels[0], forecast.sel(layer=chosen))
    for ax in axes[:, 0]:
        ax.set_ylabel(style.QUANTITY_LABELS.get(forecast.attrs["quantity"], forecast.attrs["quantity"]))
    for ax in axes.flat[max(0, len(chosen) - across) : len(chosen)]:
        ax.set_xlabel(STEP_LABEL)
        ax.tick_params(labelbottom=True)
    style.title_above(fig, forecast.attrs["model"])
    _legend(fig, forecast)
    return fig


def _panel(ax: Axes, layer: xr.Dataset) -> None:
    seen_step, seen = layer["seen_step"].values, layer["seen"].values
    last = seen[np.isfinite(seen)][-1:] if np.isfinite(seen).any() else [np.nan]
    from_step, ahead = np.concatenate([seen_step[-1:], layer["step"].values]), layer["step"].values
    joined = {name: np.concatenate([last, layer[name].values]) for name in ("median", "lower", "upper")}
    ax.fill_between(from_step, joined["lower"], joined["upper"], color=style.COLOURS[4], alpha=0.35, linewidth=0)
    ax.plot(from_step, joined["median"], color=style.COLOURS[0])
    ax.plot(seen_step, seen, color="0.15", marker="o", markersize=2.8, linewidth=0.8)
    ax.plot(ahead, layer["measured"].values, color=style.COLOURS[1], marker="o", markersize=3.2, markerfacecolor="w",
            linestyle="none")  # fmt: skip
    ax.axvline(layer.attrs["at"], color="0.5", linewidth=0.8, linestyle=":")
    ax.set_title(f"layer {layer['layer'].item()}", loc="left", pad=2)
    ax.xaxis.set_major_formatter(lambda value, _: style.number(value))
    ax.yaxis.set_major_formatter(lambda value, _: style.number(value))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
    ax.xaxis.set_minor_locator(AutoMinorLocator(2))


def _limits(ax: Axes, forecast: xr.Dataset) -> None:
    """A y axis for all panels that holds everything drawn in any of them, and 0."""
    drawn = np.concatenate([forecast[name].values.ravel() for name in ("lower", "upper", "median", "seen", "measured")])
    drawn = drawn[np.isfinite(drawn)]
    low, high = (min(0.0, float(drawn.min())), max(0.0, float(drawn.max()))) if drawn.size else (0.0, 1.0)
    room = 0.05 * (high - low) or 1.0
    ax.set_ylim(low - room if low < 0 else 0.0, high + room)


def _legend(fig: Figure, forecast: xr.Dataset) -> None:
    level = f"{100 * forecast.attrs['level']:g} % band"
    handles = [
        Line2D([], [], color="0.15", marker="o", markersize=2.8, linewidth=0.8, label="seen"),
        Line2D([], [], color=style.COLOURS[0], label="median forecast"),
        Patch(color=style.COLOURS[4], alpha=0.35, linewidth=0, label=level),
    ]
    if np.isfinite(forecast["measured"].values).any():
        handles.append(
            Line2D([], [], color=style.COLOURS[1], marker="o", markersize=3.2, markerfacecolor="w", linestyle="none",
                   label="measured later")
        )  # fmt: skip
    style.legend_above(fig, handles, inches=0.28)
