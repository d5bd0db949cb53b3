"""All models side by side by relative depth: heat maps of peaks and R2, and R2 as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from madyn.curves.hypotheses.peaks import observable, peak
from madyn.dataset.fit_files import PARAMETER_COLUMNS
from madyn.errors import DatasetError
from madyn.figures import style
from madyn.figures.entries import picture
from madyn.figures.model_names import MOST_NAMED, model_columns, size_bar
from madyn.figures.source import Source, the_dataset

if TYPE_CHECKING:
    import pandas as pd

DEPTH_LABEL = "relative depth (0 first layer, 1 last)"
_UNOBSERVED, _MISSING = "////", "0.85"


def _peaks(source: Source, which: Literal["step", "height"]) -> dict[str, Any]:
    """Step or height of each ratio curve's peak, and whether it falls inside the model's training."""
    table = source.parameters
    curve = {name: table[column].to_numpy(float) for column, name in PARAMETER_COLUMNS.items()}
    step, height = peak(**curve)
    last = {model: source.dataset.steps(model)[-1] for model in source.models}
    seen = observable(step, [last[model] for model in table["model"]])
    values = np.where(seen, step if which == "step" else height, np.nan)
    rows = table[["model", "layer_index"]].assign(
        value=values, outside=~seen & np.isfinite(np.column_stack(list(curve.values()))).all(1)
    )
    return {"table": rows, "label": "step of the peak" if which == "step" else "top 1 / median at the peak"}


@picture("analysis/peak_height.png", cases=the_dataset, data=lambda source: _peaks(source, "height"))
@picture("analysis/peak_step.png", cases=the_dataset, data=lambda source: _peaks(source, "step"))
def peak_map(table: pd.DataFrame, label: str) -> Figure:
    """Heat map of a peak's height or step by relative depth and model (Figures 5a and 5b of the paper).

    Where the curve has no maximum within the training, the cell is hatched; where no curve was fitted, grey.

    Args:
        table: a row a model and layer, in the order to draw: model, layer_index, value (positive, or NaN) and outside
            (whether there is a fit whose peak lies outside the training).
        label: of the values.
    """
    low, high = style.value_limits(table["value"])
    fig, ax, mappable = _heat_map(table, LogNorm(low, high))
    style.log_bar(fig, [ax], mappable, label)
    _legend(fig, table)
    return fig


def _legend(fig: Figure, table: pd.DataFrame) -> None:
    """What the cells without a colour mean, of the kinds that there are."""
    empty, outside = ~np.isfinite(table["value"].to_numpy(float)), table["outside"].to_numpy(bool)
    handles = []
    if (empty & outside).any():
        look = {"facecolor": "white", "edgecolor": "0.55", "hatch": _UNOBSERVED, "linewidth": 0.5}
        handles.append(Patch(**look, label="no peak during training"))
    if (empty & ~outside).any():
        handles.append(Patch(facecolor=_MISSING, label="no fit"))
    style.legend_above(fig, handles)


@picture("analysis/r2_map.png", cases=the_dataset, data=lambda source: _r_squared(source))
def r_squared_map(table: pd.DataFrame) -> Figure:
    """Heat map of R2 by relative depth and model (Figure 7b of the paper). Grey where no curve was fitted.

    Args:
        table: a row a model and layer, in the order to draw: model, layer_index, value.
    """
    values = table["value"].to_numpy(float)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0.9)
    high = max(high, style.from_nines(style.nines(low) + 0.3))
    norm = FuncNorm((style.nines, style.from_nines), vmin=low, vmax=high)
    table = table.assign(outside=False)
    fig, ax, mappable = _heat_map(table, norm)
    style.colour_bar(fig, [ax], mappable, "R² of reparam, ratio", ticks=style.r_squared_ticks(low, high))
    _legend(fig, table)
    return fig


@picture("analysis/r2_by_layer.png", cases=the_dataset, data=lambda source: _r_squared(source))
def r_squared_by_layer(table: pd.DataFrame) -> Figure:
    """R2 by relative depth, a line a model (Figure 7a of the paper).

    Args:
        table: a row a model and layer, in the order to draw: model, layer_index, value.
    """
    groups = list(table.groupby("model", sort=False))
    named = len(groups) <= MOST_NAMED
    room = style.legend_room([str(model) for model, _ in groups]) if named else 1.0
    fig, axes = style.new_figure(4.0 + room, 3.2, margins=(0.72, room, 0.45, 0.15 if named else 0.35))
    ax = axes[0, 0]
    thin: dict[str, Any] = {} if named else {"linewidth": 0.5, "alpha": 0.6}
    for i, ((model, rows), colour) in enumerate(zip(groups, style.layer_colours(len(groups)), strict=True)):
        depth = _relative_depth(rows["layer_index"].to_numpy(float))
        marker = style.MARKERS[i % 9] if named and len(rows) <= 16 else None
        ax.plot(depth, rows["value"], label=model, color=colour, marker=marker, **thin)
    style.r_squared_scale(ax, table["value"])
    ax.set_xlabel(DEPTH_LABEL)
    ax.set_ylabel("R² of reparam, ratio (scaled by 1 − R²)")
    if named:
        style.legend_right(fig, ax.get_lines(), ax)
        return fig
    ax.plot(*_median_by_depth(groups), color="black", linewidth=2.2)
    style.legend_above(fig, [Line2D([], [], color="black", linewidth=2.2, label=f"median of {len(groups)} models")])
    size_bar(fig, [ax])
    return fig


def _median_by_depth(groups: list[tuple[Any, pd.DataFrame]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Depths, and the median over the models of what they have there, between layers linearly."""
    depths = np.linspace(0, 1, 51)
    curves = []
    for _, rows in groups:
        value = rows["value"].to_numpy(float)
        finite = np.isfinite(value)
        if finite.any():
            curves.append(np.interp(depths, _relative_depth(np.arange(len(rows), dtype=float))[finite], value[finite]))
    return depths, np.median(curves, axis=0) if curves else np.full(51, np.nan)


def _r_squared(source: Source) -> dict[str, Any]:
    """R2 of the reparam curve for the ratio, a row a model and layer."""
    import pandas as pd

    rows = []
    for model in source.models:
        r2 = source.fits(model, "ratio")["r2"]
        if "reparam" not in r2["hypothesis"].values:
            raise DatasetError(f"{model} has no reparam fits of the ratio; run `madyn fit` first")
        values = r2.sel(hypothesis="reparam").values
        rows += [{"model": model, "layer_index": i, "value": float(v)} for i, v in enumerate(values)]
    return {"table": pd.DataFrame(rows)}


def _relative_depth(layers: Any) -> Any:
    return layers / max(1, len(layers) - 1)


def _heat_map(table: pd.DataFrame, norm: Normalize) -> tuple[Figure, Axes, ScalarMappable]:
    """A column of cells a model, from the first layer at the bottom to the last at the top, filled, hatched or grey."""
    groups = list(table.groupby("model", sort=False))
    names = [str(model) for model, _ in groups]
    fig, ax = model_columns(names, each=0.42, height=3.0, right=0.93, top=0.32, least=3.6)
    mappable = ScalarMappable(norm, matplotlib.colormaps["viridis"])
    for column, (_, rows) in enumerate(groups):
        layers = len(rows)
        for row, (value, outside) in enumerate(zip(rows["value"], rows["outside"], strict=True)):
            face = mappable.to_rgba(value) if np.isfinite(value) else "white" if outside else _MISSING
            hatch = _UNOBSERVED if outside and not np.isfinite(value) else None
            ax.add_patch(Rectangle((column - 0.46, row / layers), 0.92, 1 / layers, facecolor=face, hatch=hatch,
                                   edgecolor="white" if hatch is None else "0.55", linewidth=0.3))  # fmt: skip
    ax.grid(False)
    ax.set_xlim(-0.55, len(groups) - 0.45)
    ax.set_ylim(0, 1)
    ax.set_ylabel(DEPTH_LABEL)
    return fig, ax, mappable
