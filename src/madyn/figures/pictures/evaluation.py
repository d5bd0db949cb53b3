"""How well approaches predict what was left out, beside what is easy and what is possible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from madyn.figures import style
from madyn.figures.entries import picture

if TYPE_CHECKING:
    import pandas as pd

_PANELS = {
    "r2": ("R² of curves\nmore is better", (-0.2, 1.0)),
    "median_error": ("typical error\nless is better", (0.0, 1.0)),
    "coverage": ("in the 90 % interval\n0.9 is right", (0.0, 1.0)),
}
"""By column of the scores: what it is, and the limits beyond which a mark is an arrowhead at the edge."""

_NOMINAL = 0.9


@picture("evaluation_{name}.png")
def evaluation_figure(scores: pd.DataFrame, labels: Mapping[str, str] | None = None) -> Figure:
    """A row an approach, a mark a protocol, a panel a score.

    Args:
        scores: a row a protocol and approach, as `Evaluation.scores` has them.
        labels: of approaches, where they are not called by their names.
    """
    names = [str(name) for name in dict.fromkeys(scores["approach"])]
    protocols = [str(name) for name in dict.fromkeys(scores["protocol"])]
    said = [(labels or {}).get(name, name) for name in names]
    left = 0.3 + 0.066 * max(len(text) for text in said)
    top = 0.35 + 0.17 * len(protocols)
    fig, axes = style.new_figure(
        left + 6.0, 0.75 + top + 0.26 * len(names), 1, 3, margins=(left, 0.15, 0.65, top), gaps=(0.2, 0), sharey=True
    )
    for ax, (column, (label, (low, high))) in zip(axes[0], _PANELS.items(), strict=True):
        shown = [low, high] if column != "r2" else [0.0, high]
        for place, protocol in enumerate(protocols):
            rows = scores.loc[scores["protocol"] == protocol]
            for approach, value in zip(rows["approach"], rows[column].to_numpy(float), strict=True):
                if np.isfinite(value):
                    y = names.index(str(approach)) + 0.15 * (place - (len(protocols) - 1) / 2)
                    marker = "<" if value < low else ">" if value > high else style.MARKERS[place % 9]
                    ax.plot(np.clip(value, low, high), y, marker, color=style.COLOURS[place % 7], markersize=4.5)
                    shown.append(float(np.clip(value, low, high)))
        if column == "median_error":
            shown = [0.0, *shown[2:]]
        room = 0.06 * (max(shown) - min(shown) or 1)
        ax.set_xlim(min(shown) - room, max(shown) + room)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(round(value, 10))))
        ax.set_xlabel(label)
        ax.tick_params("y", length=0)
    axes[0, 2].axvline(_NOMINAL, color="0.35", linewidth=0.8, zorder=1)
    axes[0, 0].set_yticks(range(len(names)), said)
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    handles = [
        Line2D([], [], color=style.COLOURS[i % 7], marker=style.MARKERS[i % 9], linestyle="none", label=protocol)
        for i, protocol in enumerate(protocols)
    ]
    style.legend_above(fig, handles, columns=1 if len(protocols) > 2 else None)
    return fig
