"""What quantization leaves of each layer: effective bits in the ways there are, and what the model loses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from madyn.figures import style

if TYPE_CHECKING:
    import pandas as pd

_WAYS = {
    "bits_tensor": "a scale a tensor",
    "bits_token": "a scale a token",
    "bits_channel": "a scale a channel",
    "bits_kept": "largest kept apart",
    "bits_rotated": "rotated",
}
_MANY = 7


@matplotlib.rc_context(style.RC)
def costs_figure(layers: pd.DataFrame, title: str, whole: float = float("nan")) -> Figure:
    """Two panels over the layers: effective bits of int8, and the perplexity with one layer rounded.

    Args:
        layers: a row a layer, as `Costs.layers`.
        title: the model.
        whole: the perplexity without rounding; without one the second panel shows how far the embedding has moved.
    """
    fig, axes = style.new_figure(6.4, 4.9, 2, 1, margins=(0.85, 1.6, 0.5, 0.35), gaps=(0, 0.25), sharex=True)
    bits, lost = axes[:, 0]
    x = layers.index.to_numpy()
    handles = []
    for place, (column, label) in enumerate(_WAYS.items()):
        look = {"color": style.COLOURS[place], "marker": style.MARKERS[place], "label": label}
        handles += bits.plot(x, layers[column], **look)
    look = {"color": "black", "linestyle": ":", "label": "tensor, estimated\nfrom the ratio"}
    handles += bits.plot(x, layers["estimated_bits"], **look)
    bits.axhline(0, color="0.8", linewidth=0.8, linestyle="--")
    bits.set_ylim(-0.7, 8.2)
    bits.set_ylabel("effective bits of int8")
    style.panel_title(bits, title)
    judged = layers["moved" if np.isnan(whole) else "perplexity"].to_numpy()
    lost.plot(x, np.clip(judged, None, 1e12), color=style.COLOURS[0], marker=style.MARKERS[0])
    if not np.isnan(whole):
        lost.axhline(whole, color="0.5", linewidth=0.8)
        handles.append(Line2D([], [], color="0.5", linewidth=0.8, label="without rounding"))
    seen = np.clip(np.append(judged, whole), None, 1e12)
    style.value_axis(lost.yaxis, style.value_limits(seen))
    lost.set_ylabel("moved" if np.isnan(whole) else "perplexity, one layer\na scale a tensor")
    style.layer_axis(lost, x)
    style.legend_right(fig, handles, bits)
    return fig


@matplotlib.rc_context(style.RC)
def estimates_figure(estimates: pd.DataFrame, title: str) -> Figure:
    """Estimated effective bits over the depth, a line a model; where they are many, without their names.

    Args:
        estimates: a row a model and layer, as `estimate_dataset` gives them.
        title: the dataset.
    """
    models = list(dict.fromkeys(estimates["model"]))
    many = len(models) > _MANY
    right = 0.2 if many else style.legend_room(models)
    fig, axes = style.new_figure(4.6 + right, 3.2, margins=(0.6, right, 0.5, 0.35))
    ax = axes[0, 0]
    handles = []
    for place, model in enumerate(models):
        table = estimates[estimates["model"] == model]
        depth = table["layer"] / max(1, len(table) - 1)
        look = (
            {"color": "0.55", "linewidth": 0.6}
            if many
            else {"color": style.COLOURS[place], "marker": style.MARKERS[place]}
        )
        handles += ax.plot(depth, table["effective_bits"], label=model, **look)
    ax.axhline(0, color="0.5", linewidth=0.8)
    ax.set_ylim(-0.7, 8.2)
    ax.set_xlim(-0.03, 1.03)
    ax.set_xlabel("depth: layer / last layer")
    ax.set_ylabel("effective bits of int8")
    style.panel_title(ax, f"{title}, {len(models)} models" if many else title)
    if not many:
        style.legend_right(fig, handles, ax)
    return fig
