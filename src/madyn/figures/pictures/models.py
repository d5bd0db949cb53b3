"""All models in one picture by a number or two each: how far the ratio gets, and how much the sequences differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from madyn.errors import DatasetError
from madyn.figures import style
from madyn.figures.entries import picture
from madyn.figures.model_names import MOST_NAMED, model_columns
from madyn.figures.source import Source, the_dataset

if TYPE_CHECKING:
    import pandas as pd


def final_ratios(source: Source) -> dict[str, Any]:
    """What `final_ratio` draws."""
    import pandas as pd

    rows = []
    for model in source.models:
        last = source.dataset.trajectories(model, "ratio").isel(step=-1).values
        count = source.dataset.parameter_count(model)
        rows.append({"model": model, "parameters": count, "largest": last.max(), "mean": last.mean()})
    return {"table": pd.DataFrame(rows)}


@picture("analysis/final_ratio.png", cases=the_dataset, data=final_ratios)
def final_ratio(table: pd.DataFrame) -> Figure:
    """Top 1 over median at the end of training against the number of parameters (Figure 2 of the paper).

    Args:
        table: a row a model: model, parameters, largest (of the layers' ratios) and mean (over the layers). So many
            models that a legend cannot name them are told by their sizes alone.
    """
    named = len(table) <= MOST_NAMED
    room = style.legend_room([str(model) for model in table["model"]]) if named else 0.15
    height = max(3.2, 0.9 + 0.17 * len(table)) if named else 3.6
    fig, axes = style.new_figure((4.0 if named else 5.0) + room, height, margins=(0.62, room, 0.45, 0.4))
    ax = axes[0, 0]
    names = []
    colours = style.layer_colours(len(table))
    columns = (table[name] for name in ("model", "parameters", "largest", "mean"))
    for i, (colour, model, parameters, largest, mean) in enumerate(zip(colours, *columns, strict=True)):
        marker, size = (style.MARKERS[i % 9], 6) if named else ("o", 3.5)
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none", "markersize": size}
        ax.plot([parameters] * 2, [mean, largest], color=colour, linewidth=0.8 if named else 0.3)
        ax.plot(parameters, largest, **look)
        ax.plot(parameters, mean, **look, markerfacecolor="white")
        names.append(Line2D([], [], **look, label=str(model)))
    style.value_axis(ax.yaxis, style.value_limits(table[["largest", "mean"]]))
    style.value_axis(ax.xaxis, style.value_limits(table["parameters"]))
    ax.set_xlabel("parameters")
    ax.set_ylabel("top 1 / median at the last step")
    if named:
        style.legend_right(fig, names, ax)
    dot = {"color": "0.3", "marker": "o", "linestyle": "none", "markersize": 6}
    kinds = [
        Line2D([], [], **dot, label="largest of the layers"),
        Line2D([], [], **dot, markerfacecolor="white", label="mean over the layers"),
    ]
    style.legend_above(fig, kinds)
    return fig


def _spread(source: Source) -> dict[str, Any]:
    import pandas as pd

    tables = [source.dataset.sequence_spread(model).assign(model=model) for model in source.models]
    table = pd.concat(tables).reset_index()
    if not np.isfinite(table["cv"]).any():
        raise DatasetError(f"{source.dataset.path}: one sequence a checkpoint; a spread needs two or more")
    return {"table": table}


@picture("analysis/sequence_spread.png", cases=the_dataset, data=_spread)
def sequence_spread(table: pd.DataFrame) -> Figure:
    """How much the sequences differ in the final ratio: a dot a layer, and their means (Table 2 of the paper).

    Args:
        table: a row a model and layer, in the order to draw: model, layer, cv, sem and ci95, as shares of the mean.
    """
    groups = list(table.groupby("model", sort=False))
    names = [str(model) for model, _ in groups]
    fig, ax = model_columns(names, each=0.55, height=2.8, right=0.28, top=0.4, least=5.2)
    named = len(groups) <= MOST_NAMED
    for x, (_, rows) in enumerate(groups):
        offsets = np.linspace(-0.3, 0.3, len(rows)) if len(rows) > 1 else np.zeros(1)
        ax.scatter(
            x + offsets, 100 * rows["cv"], s=9 if named else 3, c=style.layer_colours(len(rows)), linewidths=0, zorder=2
        )
    for column, colour, dashes in _SPREAD_MEANS.values():
        means = 100 * np.array([rows[column].mean() for _, rows in groups])
        if named:
            for x, mean in enumerate(means):
                ax.plot([x - 0.4, x + 0.4], [mean, mean], color=colour, linestyle=dashes, zorder=3)
        else:  # columns are narrower than a dash is long
            ax.plot(means, color=colour, linestyle=dashes, linewidth=0.8, zorder=3)
    handles = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker="o",
            color=style.layer_colours(3)[1],
            label="a layer's c.v. (first dark, last light)",
        ),
        *(Line2D([], [], color=c, linestyle=d, label=label) for label, (_, c, d) in _SPREAD_MEANS.items()),
    ]
    style.legend_above(fig, handles, columns=2)
    ax.set_ylim(0, None)
    ax.grid(axis="x", visible=False)
    ax.set_ylabel("spread of the final ratio, % of mean")
    return fig


_SPREAD_MEANS: dict[str, tuple[str, str, Any]] = {
    "mean coefficient of variation (c.v.)": ("cv", style.COLOURS[6], "-"),
    "mean half-width of the 95 % interval": ("ci95", style.COLOURS[1], "--"),
    "mean standard error": ("sem", style.COLOURS[0], "-."),
}
"""What is averaged over the layers, by its name in the legend: column, colour and dashes."""
