"""How a picture says which model is which: a named column each, a legend, or colours by size where they are many."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from madyn.figures import style

MOST_NAMED = 24
"""As many models as a legend names."""

_WIDEST = 9.0  # inches, of all columns together
_NAME_HEIGHT = 0.13  # inches


def model_columns(
    names: Sequence[str], *, each: float, height: float, right: float, top: float, least: float
) -> tuple[Figure, Axes]:
    """A figure whose x axis is a labelled column a model, at 0, 1, 2 and so on: named, the names slanted.

    No figure is wider than a page lies across. The columns of many models are as narrow as that asks, and only so many
    of them are named, at even distances, as can be read.

    Args:
        names: of the models, in order.
        each: width of a column where there is room, inches.
        height: of the figure without the names, inches.
        right: margin, inches.
        top: margin, inches.
        least: width of the figure, inches.
    """
    crowded = len(names) * each > _WIDEST
    longest = max(len(name) for name in names)
    left = 0.62 if crowded else max(0.62, 0.3 + 0.03 * len(names[0]))
    bottom = 0.45 + 0.055 * longest if crowded else 0.48 + 0.047 * longest
    inner = min(len(names) * each, _WIDEST)
    width = max(least, inner + left + right)
    fig, axes = style.new_figure(width, height + bottom, margins=(left, right, bottom, top))
    ax = axes[0, 0]
    if crowded:
        every = math.ceil(_NAME_HEIGHT * len(names) / inner)
        places = list(range(0, len(names), every))
        ax.set_xticks(places, [names[i] for i in places], rotation=90, fontsize=6.5)
        ax.set_xticks(range(len(names)), minor=True)
        ax.set_xlabel(f"model, small to large (one in {every} of {len(names)} is named)")
    else:
        ax.set_xticks(range(len(names)), list(names), rotation=45, ha="right", rotation_mode="anchor")
        ax.set_xlabel("model, small to large")
    ax.set_xlim(-0.6, len(names) - 0.4)
    return fig, ax


def size_bar(fig: Figure, axes: Iterable[Axes]) -> Colorbar:
    """What the colours of models mean where there are too many to name them in a legend."""
    bar = ScalarMappable(Normalize(0, 1), ListedColormap(style.LAYER_COLOURS))
    return style.colour_bar(fig, axes, bar, "model", ticks=[0, 1], labels=["smallest", "largest"])
