"""What became of a model when values were replaced: its loss beside controls, and what its layers hold afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from madyn.figures import style
from madyn.figures.entries import picture
from madyn.figures.steps import STEP_LABEL, step_axis

if TYPE_CHECKING:
    import pandas as pd

    from madyn.intervention.experiment import Effects

_ROW, _GROUP_GAP = 0.24, 0.5  # inches a kind of values; rows between settings
_LINEAR = 1e-3  # nats below which the axis of changes is straight


@picture("intervention_effects.png")
def effects_figure(effects: Effects) -> Figure:
    """The change of the loss (or of the embedding) for every setting and kind of values, with 95 % intervals."""
    by = "divergence" if effects.kind == "embedding" else "change"
    table: Any = effects.table
    rows = table[table["kind"] != ""]
    settings = list(dict.fromkeys(rows["set"]))
    places, at = [], 0.0
    for setting in settings:
        for _ in range(int((rows["set"] == setting).sum())):
            places.append(at)
            at += 1
        at += _GROUP_GAP
    height = 0.75 + _ROW * at
    fig, axes = style.new_figure(5.4, height, margins=(2.3, 0.2, 0.5, 0.2))
    ax = axes[0, 0]
    for place, (_, row) in zip(places, rows.iterrows(), strict=True):
        massive = row["kind"] == "massive"
        colour = style.COLOURS[1] if massive else style.COLOURS[0]
        value = float(row[by])
        if not np.isfinite(value):
            ax.annotate("not finite", (0, place), va="center", fontsize=7, color=colour)
            continue
        low, high = float(row[f"{by}_low"]), float(row[f"{by}_high"])
        if np.isfinite(low):
            ax.plot([low, high], [place, place], color=colour, linewidth=1.1, solid_capstyle="butt")
        ax.plot(value, place, marker="o" if massive else "s", color=colour, markersize=4)
    ax.set_xscale("symlog", linthresh=_LINEAR)
    finite = rows[by].to_numpy(float)
    _change_ticks(ax, finite[np.isfinite(finite)])
    ax.axvline(0, color="0.5", linewidth=0.7)
    ax.set_yticks(places, [_label(row) for _, row in rows.iterrows()])
    ax.set_ylim(max(places) + 0.7, -0.7)
    ax.grid(False, axis="y")
    what = "change of the loss (nats a token)" if by == "change" else "1 − cosine to the untouched embedding"
    ax.set_xlabel(what)
    return fig


def _label(row: Any) -> str:
    return f"{row['set']}: {row['kind']}"


def _change_ticks(ax: Any, values: np.ndarray) -> None:
    reach = max(float(np.abs(values).max()) if values.size else 0.0, 10 * _LINEAR)
    powers = range(int(np.log10(_LINEAR)), int(np.ceil(np.log10(reach))) + 1)
    up = [10.0**p for p in powers]
    down = [-t for t in up if values.size and values.min() < -t / 3]
    ticks = [*down[-1:], 0.0, *up]  # of those below 0 the last: there is seldom room for more
    ax.set_xlim(min(1.5 * min(down, default=0), -2 * _LINEAR), 2.2 * reach)
    style.set_ticks(ax.xaxis, ticks, [style.number(t) for t in ticks])


@picture("intervention_layers.png")
def layers_after_figure(by_layer: pd.DataFrame) -> Figure:
    """Largest and median |h| behind every layer: untouched, and from the changed layer on for each setting.

    Args:
        by_layer: as `Effects` has it; of its kinds only the massive values are drawn.
    """
    table: Any = by_layer
    shown = table[table["kind"].isin(["", "massive"])]
    names = list(dict.fromkeys(shown["set"]))
    fig, axes = style.new_figure(5.4, 3.1, margins=(0.72, 1.5, 0.5, 0.2))
    ax = axes[0, 0]
    handles = []
    for i, name in enumerate(names):
        rows = shown[shown["set"] == name]
        colour = "0.25" if i == 0 else style.COLOURS[(i - 1) % len(style.COLOURS)]
        look: dict[str, Any] = {"color": colour, "marker": style.MARKERS[i % len(style.MARKERS)], "markersize": 3}
        ax.plot(rows["layer"], rows["top1"], **look)
        ax.plot(rows["layer"], rows["median"], **look, linestyle=":", linewidth=0.9)
        handles.append(Line2D([], [], **look, label=name if i == 0 else f"set: {name}"))
    handles.append(Line2D([], [], color="0.4", label="largest |h|"))
    handles.append(Line2D([], [], color="0.4", linestyle=":", label="median |h|"))
    values = shown[["top1", "median"]].to_numpy(float)
    style.value_axis(ax.yaxis, style.value_limits(values))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(style.LAYER_LABEL)
    ax.set_ylabel("|h| (mean over sequences)")
    style.legend_right(fig, handles, ax)
    return fig


@picture("intervention_study.png")
def study_figure(table: pd.DataFrame) -> Figure:
    """A study over checkpoints: what replacing the values changes at each step, beside its controls, and their size.

    Above, the change of the loss for each setting of massive values with its 95 % interval, and grey from the smallest
    to the largest of the controls of all settings. Below, the values' ratio to the median, and the share of attention
    that their position gets.

    Args:
        table: as `madyn.intervention.read_study` gives it.
    """
    rows: Any = table[table["failure"].isna()] if "failure" in table else table
    steps = np.sort(rows["step"].unique())
    fig, axes = style.new_figure(5.6, 4.6, 2, 1, margins=(0.75, 1.55, 0.5, 0.2), gaps=(0.5, 0.25), sharex=True)
    above, below = axes[:, 0]
    controls = rows[~rows["kind"].isin(["", "massive"])]
    if len(controls):
        reach = controls.groupby("step")["change"].agg(["min", "max"])
        above.fill_between(reach.index, reach["min"], reach["max"], color="0.8", linewidth=0, label="controls")
    massive = rows[rows["kind"] == "massive"]
    for i, (setting, one) in enumerate(massive.groupby("set", sort=False)):
        look = {"color": style.COLOURS[(1, 0, 2, 3)[i % 4]], "marker": style.MARKERS[i]}
        above.plot(one["step"], one["change"], label=f"set: {setting}", **look)
        above.fill_between(
            one["step"], one["change_low"], one["change_high"], color=look["color"], alpha=0.2, linewidth=0
        )
    above.set_yscale("symlog", linthresh=0.01)
    changes = massive[["change", "change_low", "change_high"]].to_numpy(float)
    _loss_ticks(above, changes[np.isfinite(changes)])
    above.axhline(0, color="0.5", linewidth=0.7)
    above.set_ylabel("change of the loss\n(nats a token)")
    by_step = rows.drop_duplicates("step").sort_values("step")
    below.plot(by_step["step"], by_step["ratio"], color="black", marker="o", label="value / median")
    style.value_axis(below.yaxis, style.value_limits(by_step["ratio"]))
    below.set_ylabel("value / median |h|")
    below.set_xlabel(STEP_LABEL)
    handles = [*below.get_lines()]
    if by_step["sink"].notna().any():
        right = below.twinx()
        right.plot(
            by_step["step"], 100 * by_step["sink"], color=style.COLOURS[2], marker="^", label="attention to it (%)"
        )
        right.set_ylim(0, 100)
        right.set_ylabel("attention to its position (%)")
        right.grid(False)
        handles += right.get_lines()
    step_axis(below.xaxis, steps)
    style.legend_right(fig, above.get_legend_handles_labels()[0], above)
    below.legend(handles=handles, loc="upper left")
    return fig


def _loss_ticks(ax: Any, values: np.ndarray) -> None:
    high = max(float(values.max()) if values.size else 0.0, 0.02)
    low = min(float(values.min()) if values.size else 0.0, 0.0)
    up = [10.0**p for p in range(-2, int(np.ceil(np.log10(high))) + 1)]
    down = [-t for t in up if low < -t / 3]
    ax.set_ylim(min(1.5 * low, -0.005), 1.8 * high)
    ticks = [*reversed(down), 0.0, *(t for t in up if t <= 1.8 * high)]
    style.set_ticks(ax.yaxis, ticks, [style.number(t) for t in ticks])
