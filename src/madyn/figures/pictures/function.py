"""What attends to a massive activation, and where it comes from: pictures of one model's inside, from tables alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from madyn.figures import style
from madyn.figures.entries import picture

if TYPE_CHECKING:
    import pandas as pd

_PART_COLOURS = {"embedding": style.COLOURS[6], "attention": style.COLOURS[0], "mlp": style.COLOURS[1]}
_PART_NAMES = {"mlp": "MLP"}


@picture("sink_heads.png")
def sink_heads(shares: Mapping[str, pd.DataFrame], title: str = "") -> Figure:
    """The share of its attention that each head gives to a position, a panel a condition, such as an intervention.

    Args:
        shares: by the name of a condition, tables with the columns layer, head and share; of one position.
        title: above the panels.
    """
    tables = {name: table.pivot_table(index="head", columns="layer", values="share") for name, table in shares.items()}
    layers = max(int(max(table.columns)) for table in tables.values()) + 1
    heads = max(int(max(table.index)) for table in tables.values()) + 1
    height = min(2.6, max(0.9, 0.16 * heads))
    fig, axes = style.new_figure(
        5.6, 0.75 + len(tables) * (height + 0.3), len(tables), 1, margins=(0.5, 0.85, 0.45, 0.55), gaps=(0, 0.35),
        sharex=True,
    )  # fmt: skip
    norm = Normalize(0, 1)
    for ax, (name, table) in zip(axes[:, 0], tables.items(), strict=True):
        values = table.reindex(index=range(heads), columns=range(layers)).to_numpy()
        ax.imshow(
            np.ma.masked_invalid(values), norm=norm, cmap="viridis", aspect="auto", origin="lower",
            interpolation="nearest",
        )  # fmt: skip
        ax.grid(visible=False)
        ax.set_ylabel("head")
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.xaxis.set_major_locator(MaxNLocator(9, integer=True, steps=[1, 2, 5, 10]))
        style.panel_title(ax, f"{name}: {np.nanmean(values):.2f} of all attention")
    axes[-1, 0].set_xlabel(style.LAYER_LABEL)
    style.colour_bar(fig, axes[:, 0], ScalarMappable(norm, "viridis"), "share of attention")
    if title:
        style.title_above(fig, title)
    return fig


@picture("decomposition_by_layer.png")
def decomposition_by_layer(table: pd.DataFrame, title: str = "") -> Figure:
    """What each layer's parts add to a coordinate of the residual stream, and what it is after each layer.

    Args:
        table: the columns sequence, layer (-1 for the embedding), part, value and sum; means over sequences are drawn.
        title: above the panels.
    """
    count = table["sequence"].nunique()
    added = table.pivot_table(index="layer", columns="part", values="value", aggfunc="sum", fill_value=0) / count
    last = table.groupby(["sequence", "layer"], as_index=False).last()
    after = last.pivot_table(index="layer", values="sum", aggfunc="mean")
    parts = [part for part in _PART_COLOURS if part in added] + [part for part in added if part not in _PART_COLOURS]
    colours = {part: _PART_COLOURS.get(part, style.COLOURS[2 + i % 4]) for i, part in enumerate(parts)}
    fig, axes = style.new_figure(
        5.6, 4.0, 2, 1, margins=(0.75, 0.12, 0.45, 0.62), gaps=(0, 0.25), height_ratios=(1.5, 1), sharex=True
    )
    above, below = axes[:, 0]
    layers = added.index.to_numpy()
    tops, bottoms = np.zeros(len(layers)), np.zeros(len(layers))
    for part in parts:
        values = added[part].to_numpy()
        start = np.where(values > 0, tops, bottoms)
        above.bar(layers, values, bottom=start, color=colours[part], width=0.8)
        tops, bottoms = tops + np.maximum(values, 0), bottoms + np.minimum(values, 0)
    above.axhline(0, color="0.3", linewidth=0.7)
    above.set_ylabel("added")
    size = np.abs(after["sum"].to_numpy(float))
    below.plot(after.index, np.where(size > 0, size, np.nan), color="black", marker="o" if len(layers) <= 40 else None)
    style.value_axis(below.yaxis, style.value_limits(size))
    below.set_ylabel("|sum| after it")
    style.layer_axis(below, layers)
    below.set_xlabel(f"{style.LAYER_LABEL}; {style.MINUS}1 is the embedding")
    handles = [Patch(color=colours[part], label=_PART_NAMES.get(part, part)) for part in parts]
    style.legend_above(fig, handles, inches=0.28 if title else 0.02)
    if title:
        style.title_above(fig, title)
    return fig
