"""Fitted curves: examples with their residuals, and how good every hypothesis is in every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.figures import style
from madyn.figures.entries import picture
from madyn.figures.source import DEPTHS, Source, each_depth, each_fitted_quantity
from madyn.figures.steps import STEP_LABEL, curve_steps, step_axis

if TYPE_CHECKING:
    import xarray as xr


def _example(source: Source, model: str, quantity: str, depth: str) -> dict[str, Any]:
    fits = source.fits(model, quantity)
    layer = min(int(DEPTHS[depth] * fits.sizes["layer"]), fits.sizes["layer"] - 1)
    values = source.dataset.per_sequence(model, quantity).isel(layer=layer)
    return {"values": values, "fits": fits.isel(layer=layer), "model": model}


@picture("{model}/example_fits/{quantity}/{depth}.png", cases=each_depth, data=_example)
def example_fit(values: xr.DataArray, fits: xr.Dataset, model: str = "") -> Figure:
    """One layer's trajectory with the curve of every hypothesis, and what each leaves over.

    Residuals many times those of the best fit are left out, and named: they would press the others into one line.

    Args:
        values: dims (step, sequence), of one layer; its name is the quantity, its coordinate `layer` the layer, if
            it has one.
        fits: dims (hypothesis, parameter, step), the fits of that layer.
        model: for the title, or what else the series is called.
    """
    quantity = str(values.name)
    fig, axes = style.new_figure(
        6.4, 3.9, 2, 1, margins=(0.65, 2.15, 0.45, 0.3), gaps=(0, 0.2), height_ratios=(2.4, 1), sharex=True
    )
    top, bottom = axes[:, 0]
    steps = values["step"].values.astype(float)
    mean, spread = values.mean("sequence").values, values.std("sequence").values
    several = values.sizes["sequence"] > 1
    look: dict[str, Any] = {"color": "0.35", "markersize": 3.5, "linewidth": 0.8, "zorder": 1}
    top.errorbar(steps, mean, spread if several else None, fmt="o", **look)
    bottom.axhline(0, color="0.35", linewidth=0.8)
    label = "mean of the sequences\n± standard deviation" if several else "measured"
    handles: list[Any] = [Line2D([], [], marker="o", linestyle="none", color="0.35", label=label)]
    far_off = _far_off(fits["residuals"])
    for i, name in enumerate(fits["hypothesis"].values):
        fit = fits.sel(hypothesis=name)
        look = style.hypothesis_look(i)
        residuals = fit["residuals"].values
        if not np.isfinite(residuals).any():
            handles.append(Line2D([], [], color="0.8", label=f"{name}\nno fit"))
            continue
        top.plot(*_curve(str(name), fit, steps, mean - residuals), **look)
        if name not in far_off:
            bottom.plot(steps, residuals, **{**look, "linewidth": 0.6 * look["linewidth"]})
        handles.append(Line2D([], [], **look, label=f"{name}\n{_r_squared(fit['r2'].item())}"))
    if far_off:
        style.panel_title(bottom, f"off by more: {', '.join(far_off)}", "right", fontsize=7, pad=2)
    step_axis(top.xaxis, steps)
    top.tick_params(labelbottom=False)
    top.set_xlabel(STEP_LABEL).set_visible(False)
    bottom.set_xlabel(STEP_LABEL)
    top.set_ylabel(style.QUANTITY_LABELS.get(quantity, quantity))
    bottom.set_ylabel("residual")
    fig.align_ylabels([top, bottom])
    named = [model, f"layer {values['layer'].item()}" if "layer" in values.coords else ""]
    style.panel_title(top, ", ".join(part for part in named if part))
    style.legend_right(fig, handles, top)
    return fig


_FAR = 4.0  # times the largest residual of the best fit


def _far_off(residuals: xr.DataArray) -> list[str]:
    """The hypotheses whose residuals are larger by far than those of the best fit."""
    size = {str(name): float(np.abs(residuals.sel(hypothesis=name)).max()) for name in residuals["hypothesis"].values}
    least = min((s for s in size.values() if np.isfinite(s)), default=0.0)
    return [name for name, s in size.items() if s > _FAR * least > 0]


def _r_squared(value: float) -> str:
    """R2 in a legend: four digits where it is good, as few as will do where it is not."""
    return f"R² = {value:.4f}" if value >= 0 else f"R² = {style.number(float(f'{value:.3g}'))}"


def _curve(
    name: str, fit: xr.Dataset, steps: NDArray[Any], at_steps: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The fitted curve, sampled as it is drawn; at the steps alone if others fitted what is not known here."""
    known = HYPOTHESES.get(name)
    if known is None or not set(known.param_names) <= set(fit["parameter"].values):
        return steps, at_steps
    fine = curve_steps(steps)
    with np.errstate(all="ignore"):  # outside its domain a curve is NaN and leaves a gap
        return fine, known.values(fine, fit["popt"].sel(parameter=list(known.param_names)).values)


def _quality(source: Source, model: str, quantity: str, measure: str) -> dict[str, Any]:
    return {"values": source.fits(model, quantity)[measure], "title": f"{model}, {quantity}"}


@picture(
    "{model}/metrics/r2_{quantity}.png",
    cases=each_fitted_quantity,
    data=lambda source, model, quantity: _quality(source, model, quantity, "r2"),
)
@picture(
    "{model}/metrics/aic_{quantity}.png",
    cases=each_fitted_quantity,
    data=lambda source, model, quantity: _quality(source, model, quantity, "aic"),
)
def quality_by_layer(values: xr.DataArray, title: str = "") -> Figure:
    """How well every hypothesis fits in every layer, a line a hypothesis. A failed fit leaves a gap.

    Args:
        values: dims (hypothesis, layer), named "r2" or "aic".
        title: above the picture.
    """
    room = style.legend_room([str(name) for name in values["hypothesis"].values])
    fig, axes = style.new_figure(3.9 + room, 3.0, margins=(0.72, room, 0.45, 0.3))
    ax = axes[0, 0]
    for i, name in enumerate(values["hypothesis"].values):
        ax.plot(
            values["layer"], values.sel(hypothesis=name), label=name, **style.hypothesis_look(i),
            marker=style.MARKERS[i % 9] if values.sizes["layer"] <= 16 else None,
        )  # fmt: skip
    style.layer_axis(ax, values["layer"].values)
    if values.name == "r2":
        style.r_squared_scale(ax, values)
        ax.set_ylabel("R² (scaled by 1 − R²)")
    else:
        ax.set_ylabel("AIC (lower is better)")
    style.panel_title(ax, title)
    style.legend_right(fig, ax.get_lines(), ax)
    return fig
