"""What remedies do to massive activations, and at what loss: each against the plain model of its seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from madyn.figures import style
from madyn.figures.entries import picture
from madyn.figures.panels import hide_empty, panel_grid
from madyn.figures.source import Source, the_dataset
from madyn.figures.steps import STEP_LABEL, step_axis

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from madyn.control import Control
    from madyn.dataset import Dataset

_ROW = 0.2  # inches a remedy
_LINEAR = 1.0  # percent of the loss up to which its axis is straight
_LINE = 34  # characters of a name on a line
_LETTER = 0.062  # inches
_THIN: dict[str, Any] = {"linewidth": 0.8}


def _table(source: Source) -> dict[str, Any]:
    return {"table": source.control.table}


@picture("analysis/control_remedies.png", cases=the_dataset, data=_table)
def remedies_figure(table: pd.DataFrame) -> Figure:
    """What each remedy multiplies the final ratio by, what it makes of the loss, and of the bits of int8.

    Args:
        table: as `Control.table` has it.
    """
    rows = _told(table)
    names = [_folded(row["remedy"]) for row in rows]
    room = 0.5 + _LETTER * max(len(line) for name in names for line in name.split("\n"))
    fig, axes = style.new_figure(
        5.4 + room, 1.05 + _ROW * len(rows), 1, 3, margins=(room, 0.15, 0.6, 0.42), gaps=(0.22, 0.5), sharey=True
    )
    left, middle, right = axes[0]
    for y, row in enumerate(rows):
        _interval(left, row, y, "ratio", lambda x: x, 1.0)
        for name, marker in (("top1", "^"), ("median", "v")):
            left.plot(row[f"{name}_times"], y, marker, color=style.QUANTITY_COLOURS[name], markersize=3.4, zorder=2)
        _interval(middle, row, y, "loss", lambda x: 100 * (x - 1), 0.0)
        _interval(right, row, y, "bits", lambda x: x, 0.0, middle="more")
    ends = [row[f"{name}_{end}"] for row in rows for name, end in _DRAWN]
    style.value_axis(left.xaxis, style.value_limits([*ends, 1.0]), most=5)
    left.set_xlabel("final ratio,\ntimes plain")
    middle.set_xlabel("held-out loss,\n% more than plain")
    _loss_axis(middle, [100 * (row[f"loss_{end}"] - 1) for row in rows for end in ("times", "lower", "upper")])
    right.xaxis.set_major_locator(MaxNLocator(5))
    right.set_xlabel("bits that int8 keeps,\nmore than plain")
    for ax, nothing in ((left, 1.0), (middle, 0.0), (right, 0.0)):
        ax.axvline(nothing, color="0.3", linewidth=0.8, zorder=1)
        ax.grid(axis="y", visible=False)
    left.set_yticks(range(len(rows)), names)
    left.tick_params("y", labelsize=7)
    left.set_ylim(len(rows) - 0.4, -0.6)
    style.legend_above(fig, [*_INTERVALS, _dot("^", "top1", "top 1"), _dot("v", "median", "median")])
    return fig


_DRAWN = (*(("ratio", end) for end in ("times", "lower", "upper")), ("top1", "times"), ("median", "times"))
_CLEAR = style.COLOURS[0]
_INTERVALS = [
    Line2D([], [], color=_CLEAR, marker="o", label="with its 95 % interval"),
    Line2D([], [], color=_CLEAR, marker="o", markerfacecolor="white", label="the interval holds “as plain”"),
]


def _dot(marker: str, quantity: str, label: str) -> Line2D:
    return Line2D([], [], color=style.QUANTITY_COLOURS[quantity], marker=marker, linestyle="none", label=label)


def _told(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """The remedies of which a pair is there, lowest ratio first."""
    rows = [row for row in table.to_dict("records")[1:] if np.isfinite(row["ratio_times"])]
    return sorted(rows, key=lambda row: row["ratio_times"])


def _folded(remedy: str) -> str:
    """A long name on two lines."""
    first, comma, rest = remedy.partition(", ")
    return f"{first},\n{rest}" if comma and len(remedy) > _LINE else remedy


def _interval(
    ax: Axes,
    row: Mapping[Any, Any],
    y: float,
    name: str,
    of: Callable[[float], float],
    nothing: float,
    middle: str = "times",
) -> None:
    low, value, high = (of(row[f"{name}_{end}"]) for end in ("lower", middle, "upper"))
    clear = low > nothing or high < nothing
    ax.plot([low, high], [y, y], color=_CLEAR, linewidth=1.3, zorder=3)
    ax.plot(value, y, "o", color=_CLEAR, markerfacecolor=_CLEAR if clear else "white", markersize=4, zorder=4)


def _loss_axis(ax: Axes, percents: list[float]) -> None:
    """Percent of the plain model's loss: straight up to one percent, logarithmic beyond, so that one remedy that fails
    does not press the others into a point."""
    known = [p for p in percents if np.isfinite(p)] or [0.0]
    low, high = min(*known, -0.3), max(*known, 0.3)
    room = 0.06 * (high - low)
    if max(-low, high) <= 4 * _LINEAR:
        ax.set_xlim(low - room, high + room)
        ax.xaxis.set_major_locator(MaxNLocator(5))
    else:
        ax.set_xscale("symlog", linthresh=_LINEAR)
        ax.set_xlim(min(1.3 * low, -0.5), 1.3 * high)
        ticks = [t for t in (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100) if 1.3 * low <= t <= 1.3 * high]
        ax.xaxis.set_major_locator(FixedLocator(ticks))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: style.number(x)))


@picture("analysis/control_pareto.png", cases=the_dataset, data=_table)
def pareto_figure(table: pd.DataFrame) -> Figure:
    """Final ratio against held-out loss, both times the plain model's: lower left is better.

    Args:
        table: as `Control.table` has it.
    """
    rows = [row for row in _told(table) if np.isfinite(row["loss_times"])]
    plain = table.to_dict("records")[0]
    height = max(3.6, 0.75 + 0.155 * (len(rows) + 2))
    lines = [f"{number:>2}  {row['remedy']}" for number, row in enumerate(rows, 1)]
    room = 0.3 + _LETTER * max((len(line) for line in lines), default=0)
    width = 4.9 + room
    fig, axes = style.new_figure(width, height, margins=(0.75, room, 0.5, 0.3))
    ax = axes[0, 0]
    for row in rows:
        x, y = 100 * (row["loss_times"] - 1), row["ratio_times"]
        if np.isfinite(row["loss_lower"]):
            ends = [100 * (row[f"loss_{end}"] - 1) for end in ("lower", "upper")]
            ax.plot(ends, [y, y], color="0.72", linewidth=0.9, zorder=1)
            ax.plot([x, x], [row["ratio_lower"], row["ratio_upper"]], color="0.72", linewidth=0.9, zorder=1)
    ax.plot(0, 1, marker="s", color="black", markersize=7, zorder=3)
    for number, row in enumerate(rows, 1):
        x, y = 100 * (row["loss_times"] - 1), row["ratio_times"]
        colour = style.COLOURS[1] if row["front"] else style.COLOURS[0]
        ax.plot(x, y, "o", color=colour, markersize=9.5, zorder=4, markeredgecolor="white", markeredgewidth=0.5)
        ax.annotate(
            str(number), (x, y), color="white", fontsize=6, ha="center", va="center_baseline", zorder=5, weight="bold"
        )
    front = [(100 * (r["loss_times"] - 1), r["ratio_times"]) for r in (*rows, plain) if r["front"]]
    if len(front) > 1:
        line = np.array(sorted(front))
        ax.step(line[:, 0], line[:, 1], where="post", color=style.COLOURS[1], linewidth=0.8, zorder=2)
    _loss_axis(ax, [100 * (row[f"loss_{end}"] - 1) for row in rows for end in ("times", "lower", "upper")])
    ax.set_xlabel("held-out loss, % more than plain")
    style.value_axis(ax.yaxis, style.value_limits([1.0, *(row["ratio_times"] for row in rows)]))
    ax.set_ylabel("final ratio, times plain")
    box = ax.get_position()
    fig.text(box.x1 + 0.12 / width, box.y1, "\n".join(lines), va="top", fontsize=6.8, linespacing=1.28)
    handles = [
        Line2D([], [], marker="s", color="black", linestyle="none", label="plain"),
        Line2D([], [], marker="o", color=style.COLOURS[1], linestyle="none", label="beaten in both by no other"),
        Line2D([], [], marker="o", color=style.COLOURS[0], linestyle="none", label="beaten"),
        Line2D([], [], color="0.72", label="95 % intervals"),
    ]
    style.legend_above(fig, handles)
    return fig


def _courses(source: Source) -> dict[str, Any]:
    return courses_of(source.control, source.dataset)


def courses_of(control: Control, dataset: Dataset) -> dict[str, Any]:
    """What `remedy_trajectories` draws, of a study and its dataset."""
    ratios = {
        model: dataset.trajectories(model, "ratio").max("layer")
        for model in dict.fromkeys([*control.pairs["base"], *control.pairs["model"]])
    }
    order = [row["remedy"] for row in _told(control.table)]
    members: dict[str, list[str]] = {label: [] for label in order}
    for model, label in zip(control.pairs["model"], control.pairs["remedy"], strict=True):
        members[label].append(model)
    return {"ratios": ratios, "members": members, "plain": sorted(set(control.pairs["base"]))}


@picture("analysis/control_trajectories.png", cases=the_dataset, data=_courses)
def remedy_trajectories(ratios: dict[str, xr.DataArray], members: dict[str, list[str]], plain: list[str]) -> Figure:
    """The largest ratio over the training of every seed: a panel a remedy, with the plain models behind.

    Args:
        ratios: by model, the largest ratio over the layers, dimension step.
        members: by remedy, its models; a panel each, in this order.
        plain: the models that they are held against.
    """
    rows, columns = panel_grid(len(members), 5)
    fig, axes = style.new_figure(
        0.62 + 1.5 * columns, 0.75 + 1.35 * rows, rows, columns, margins=(0.55, 0.12, 0.5, 0.5), gaps=(0.1, 0.32),
        sharex=True, sharey=True,
    )  # fmt: skip
    for ax, (remedy, models) in zip(hide_empty(axes, len(members)), members.items(), strict=True):
        for model in plain:
            ax.plot(ratios[model]["step"], ratios[model], color="0.7", **_THIN)
        for model in models:
            ax.plot(ratios[model]["step"], ratios[model], color=style.COLOURS[0], **_THIN)
        ax.set_title(_folded(remedy), fontsize=6.5)
        ax.set_xlabel(STEP_LABEL)
        ax.set_ylabel("largest ratio")
    steps = np.unique(np.concatenate([r["step"].values for r in ratios.values()]))
    step_axis(axes[0, 0].xaxis, steps, crowded=True)
    style.value_axis(axes[0, 0].yaxis, style.value_limits(np.concatenate([r.values for r in ratios.values()])), most=4)
    for (row, column), ax in np.ndenumerate(axes):
        ax.yaxis.label.set_visible(column == 0)
        lowest = row * columns + column + columns >= len(members)
        ax.xaxis.label.set_visible(lowest)
        ax.tick_params("x", labelbottom=lowest)
    handles = [
        Line2D([], [], color="0.7", label="plain, one seed"),
        Line2D([], [], color=style.COLOURS[0], label="remedy, one seed"),
    ]
    style.legend_above(fig, handles)
    return fig
