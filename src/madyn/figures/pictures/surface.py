"""When the peak comes, over the two parameters that decide it: the surface of t_peak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatterSciNotation
from numpy.typing import NDArray

from madyn.curves.hypotheses.peaks import observable, peak_original
from madyn.curves.hypotheses.reparametrisation import reparam_to_original
from madyn.dataset.fit_files import PARAMETER_COLUMNS
from madyn.errors import DatasetError
from madyn.figures import style
from madyn.figures.entries import picture
from madyn.figures.source import Source, the_dataset

if TYPE_CHECKING:
    import pandas as pd

_GRID = 400
_MOST_DECADES = 8.0  # gamma = exp(A2/A1) runs away where A1 is near 0; such fits would squeeze all others into a corner

_DOT: dict[str, Any] = {
    "marker": "o", "linestyle": "none", "color": "white", "markeredgecolor": "black", "markeredgewidth": 0.6,
}  # fmt: skip


def _curves(source: Source) -> dict[str, Any]:
    import pandas as pd

    table = source.parameters
    p = {name: table[column].to_numpy(float) for column, name in PARAMETER_COLUMNS.items()}
    A, lam, gamma, t0, _ = reparam_to_original(**p)
    curves = pd.DataFrame({"lam": lam, "gamma": gamma, "t0": t0})
    usable = np.isfinite(curves).all(axis=1) & (A > 0) & (curves["lam"] > 0) & (curves["gamma"] > 0)
    if not usable.any():
        raise DatasetError(f"{source.dataset.path}: no fitted curve of the ratio has a maximum")
    last = max(source.dataset.steps(model)[-1] for model in source.models)
    return {"curves": curves[usable].reset_index(drop=True), "last_step": last}


@picture("analysis/t_peak_surface.png", cases=the_dataset, data=_curves)
def t_peak_surface(curves: pd.DataFrame, last_step: int) -> Figure:
    """The step of the peak over lam and gamma, hatched where it falls outside the training (Figure 8 of the paper).

    t0, the third parameter that matters, is held at the median of the curves.

    Args:
        curves: a row a fitted curve that has a maximum: lam, gamma and t0 of the original form. Marked in the picture.
        last_step: the end of training.
    """
    lam, gamma = _range(curves["lam"].to_numpy(float)), _range(curves["gamma"].to_numpy(float))
    t0 = float(np.median(curves["t0"].to_numpy(float)))
    x, y = np.geomspace(*lam, _GRID), np.geomspace(*gamma, _GRID)
    step, _ = peak_original(1.0, x[None], y[:, None], t0, 0.0)
    seen = observable(step, last_step)
    fig, axes = style.new_figure(5.2, 3.9, margins=(0.75, 0.95, 0.48, 0.45))
    ax = axes[0, 0]
    style.value_axis(ax.xaxis, lam)
    style.value_axis(ax.yaxis, gamma)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(LogFormatterSciNotation())
    norm = LogNorm(1e-3 * last_step, last_step)
    mesh = ax.pcolormesh(
        x, y, np.where(seen, step, np.nan), norm=norm, cmap="viridis", shading="nearest", rasterized=True
    )
    handles: list[Any] = []
    late = (step > last_step, "////", f"after step {style.number(last_step)}")
    for mask, hatch, label in (late, (step <= 0, "....", "before step 0")):
        if mask.any():
            ax.contourf(x, y, mask.astype(float), levels=[0.5, 1.5], colors="none", hatches=[hatch])
            handles.append(Patch(facecolor="white", edgecolor="0.55", hatch=hatch, linewidth=0.5, label=label))
    inside = curves[curves["lam"].between(*lam) & curves["gamma"].between(*gamma)]
    ax.plot(inside["lam"], inside["gamma"], **_DOT)
    ax.grid(False)
    ax.set_xlabel("λ")
    ax.set_ylabel("γ, 1/step")
    style.log_bar(fig, [ax], mesh, f"step of the peak (t₀ = {style.number(float(f'{t0:.3g}'))})")
    handles.append(Line2D([], [], **_DOT, label="a layer's fit (own t₀)"))
    style.legend_above(fig, handles)
    return fig


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    """Limits that hold 90 % of the values, half a decade beyond, and no more than `_MOST_DECADES`."""
    low, middle, high = np.quantile(np.log10(values), [0.05, 0.5, 0.95])
    half = _MOST_DECADES / 2
    return 10 ** max(low - 0.5, middle - half), 10 ** min(high + 0.5, middle + half)
