"""What a family of architectures shows: trajectories by factor, effect sizes, chance, classes, growth, locations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

from madyn.errors import DatasetError
from madyn.figures import style
from madyn.figures.entries import picture
from madyn.figures.panels import hide_empty, panel_grid
from madyn.figures.source import Source, the_dataset
from madyn.figures.steps import STEP_LABEL, step_axis

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from madyn.dataset import Dataset

_FEWEST = 3  # architectures that make a family


def _family(source: Source) -> tuple[pd.DataFrame, Dataset]:
    """The responses of a dataset that holds a family, and the models that have them."""
    from madyn.effects.responses import model_responses, whole_family

    dataset, _ = whole_family(source.dataset)
    table = model_responses(dataset)
    if len(np.unique(table["architecture"].to_numpy())) < _FEWEST:
        raise DatasetError(f"{source.dataset.path}: fewer than {_FEWEST} architectures make no family")
    return table, dataset


def _trajectories(source: Source) -> dict[str, Any]:
    table, dataset = _family(source)
    ratios = {model: dataset.trajectories(model, "ratio").max("layer") for model in dataset}
    return {"factors": table, "ratios": ratios}


@picture("analysis/effects_trajectories.png", cases=the_dataset, data=_trajectories)
def trajectories_by_factor(factors: pd.DataFrame, ratios: dict[str, xr.DataArray]) -> Figure:
    """The largest ratio of every model over its training, in a panel for each factor, coloured by the factor.

    Thin lines are models; thick ones the geometric mean of the models with one level of the factor. The legend says so.

    Args:
        factors: a row a model: model, and a column for each of `effects.FACTORS`.
        ratios: by model, the largest ratio over the layers, dimension step.
    """
    from madyn.effects import FACTORS

    levels = {name: sorted(factors[name].unique()) for name in FACTORS}
    shown = [name for name in FACTORS if len(levels[name]) > 1] or list(FACTORS)  # one that never varies says nothing
    rows, columns = panel_grid(len(shown), 2)
    width = 0.32 + (3.54 if columns < 3 else 2.9) * columns
    fig, axes = style.new_figure(
        width, 0.9 + 2.25 * rows, rows, columns, margins=(0.62, 0.95, 0.5, 0.5), gaps=(1.25, 0.65),
        sharex=True, sharey=True,
    )  # fmt: skip
    steps = np.unique(np.concatenate([r["step"].values for r in ratios.values()]))
    values = np.concatenate([r.values for r in ratios.values()])
    thin = {**_THIN, "alpha": 0.2 if len(ratios) > 50 else 0.5}
    for ax, name in zip(hide_empty(axes, len(shown)), shown, strict=True):
        handles = []
        for colour, level in zip(style.layer_colours(len(levels[name])), levels[name], strict=True):
            models = factors.loc[factors[name] == level, "model"]
            for model in models:
                ax.plot(ratios[model]["step"], ratios[model], color=colour, **thin)
            mean = _geometric_mean([ratios[model] for model in models])
            ax.plot(mean["step"], mean, color=colour, zorder=3, path_effects=_CASING, **_THICK)
            handles.append(Line2D([], [], color=colour, **_THICK, label=style.size(level)))
        ax.set_title(name)
        ax.legend(
            handles=handles[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, handlelength=1.2
        )
        ax.set_xlabel(STEP_LABEL)
        ax.set_ylabel("largest top 1 / median")
    step_axis(axes[-1, 0].xaxis, steps, crowded=True)
    style.value_axis(axes[0, 0].yaxis, style.value_limits(values))
    _label_outer(axes)
    lines = [
        Line2D([], [], color="0.3", **{**_THIN, "alpha": 0.7}, label="one model"),
        Line2D([], [], color="0.3", **_THICK, label="geometric mean of the models with this value"),
    ]
    style.legend_above(fig, lines)
    return fig


_THIN: dict[str, Any] = {"linewidth": 0.5}
_THICK: dict[str, Any] = {"linewidth": 1.8}
_CASING = [Stroke(linewidth=3.0, foreground="white"), Normal()]  # sets a thick line off from the thin ones below it


def _label_outer(axes: Any) -> None:
    """Of panels that share their axes, only those at the edge show what the axes are."""
    for (row, column), ax in np.ndenumerate(axes):
        ax.yaxis.label.set_visible(column == 0)
        ax.xaxis.label.set_visible(row == len(axes) - 1)


def _geometric_mean(trajectories: list[xr.DataArray]) -> xr.DataArray:
    """Over the models, at the steps that all of them have."""
    import xarray as xr

    stacked = xr.concat(trajectories, "model", join="inner")
    return xr.apply_ufunc(np.exp, xr.apply_ufunc(np.log, stacked).mean("model"))


def _sizes(source: Source) -> dict[str, Any]:
    from madyn.effects import effect_sizes
    from madyn.effects.study import by_response

    return {"sizes": by_response(_family(source)[0], effect_sizes)}


@picture("analysis/effects_sizes.png", cases=the_dataset, data=_sizes)
def effect_size_intervals(sizes: dict[str, pd.DataFrame]) -> Figure:
    """What each response is multiplied by when a factor doubles, with 95 % intervals.

    Args:
        sizes: by response, a row a factor: per_doubling, lower, upper.
    """
    rows, columns = panel_grid(len(sizes), 3)
    fig, axes = style.new_figure(
        7.4, 0.75 + 1.65 * rows, rows, columns, margins=(0.95, 0.15, 0.5, 0.55), gaps=(0.3, 0.62), sharey=True
    )
    names = list(next(iter(sizes.values())).index)
    found = set()
    for ax, (response, frame) in zip(hide_empty(axes, len(sizes)), sizes.items(), strict=True):
        for y, one in enumerate(frame.to_dict("records")):
            clear = not one["lower"] <= 1 <= one["upper"]
            colour = style.COLOURS[y]
            found.add(clear)
            ax.plot([one["lower"], one["upper"]], [y, y], color=colour, linewidth=1.6)
            ax.plot(
                one["per_doubling"], y, "o", color=colour, markerfacecolor=colour if clear else "white", markersize=5
            )
        ends = frame[["lower", "upper"]].to_numpy(float)
        limits = min(0.8, float(ends.min()) / 1.05), max(1.25, float(ends.max()) * 1.05)
        style.value_axis(ax.xaxis, limits, most=5)
        ax.axvline(1, color="0.3", linewidth=0.8, zorder=1)
        ax.set_title(response)
        ax.set_xlabel("times, per doubling")
        ax.set_ylabel("factor")
        ax.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    _label_outer(axes)
    dot = {"color": "0.3", "marker": "o", "markersize": 5}
    handles = {
        True: Line2D([], [], **dot, label="with its 95 % interval"),
        False: Line2D([], [], **dot, markerfacecolor="white", label="the interval holds 1: no clear effect"),
    }
    style.legend_above(fig, [handle for clear, handle in handles.items() if clear in found])
    return fig


def _shares(source: Source) -> dict[str, Any]:
    from madyn.effects import variance_shares
    from madyn.effects.study import by_response

    return {"shares": by_response(_family(source)[0], variance_shares)}


_ABOVE: dict[str, Any] = {
    "loc": "lower center", "bbox_to_anchor": (0.5, 1.01), "ncol": 3, "columnspacing": 0.9, "handletextpad": 0.4,
    "borderaxespad": 0,
}  # fmt: skip
"""A legend above a panel."""

_SHARE_HATCHES = ("", "//", "..", "xx")


@picture("analysis/effects_variance.png", cases=the_dataset, data=_shares)
def variance_parts(shares: dict[str, pd.DataFrame]) -> Figure:
    """How the variance of each response's logarithm divides between the factors, other architecture, and the seed.

    Args:
        shares: by response, a row a part: share, lower, upper; the last part is the seed, whose interval is drawn.
    """
    fig, axes = style.new_figure(6.6, 1.15 + 0.36 * len(shares), margins=(1.5, 0.15, 0.5, 0.5))
    ax = axes[0, 0]
    parts = list(next(iter(shares.values())).index)
    colours = (*style.COLOURS[:3], "0.75")
    for y, frame in enumerate(shares.values()):
        left = 0.0
        for share, colour, hatch in zip(frame["share"].to_numpy(float), colours, _SHARE_HATCHES, strict=True):
            ax.barh(
                y,
                100 * share,
                left=100 * left,
                height=0.62,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.5,
            )
            left += share
        chance = frame.to_dict("records")[-1]
        ax.plot([100 - 100 * chance["upper"], 100 - 100 * chance["lower"]], [y, y], color="black", linewidth=1.4)
        for end in ("lower", "upper"):
            ax.plot([100 - 100 * chance[end]] * 2, [y - 0.13, y + 0.13], color="black", linewidth=1.4)
    patches = [
        Patch(facecolor=c, hatch=h, edgecolor="white", label=p)
        for p, c, h in zip(parts, colours, _SHARE_HATCHES, strict=True)
    ]
    interval = Line2D([], [], color="black", label="95 % interval of where the seed's part begins")
    style.legend_above(fig, [*patches, interval], columns=3)
    ax.set_yticks(range(len(shares)), list(shares))
    ax.set_ylim(len(shares) - 0.5, -0.5)
    ax.set_xlim(0, 100)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("share of the variance over the models, %")
    ax.set_ylabel("response")
    return fig


def _layers(source: Source) -> dict[str, Any]:
    from madyn.effects.layers import class_counts, layer_table, mean_growth

    table, dataset = _family(source)
    layers = layer_table(dataset)
    return {
        "counts": class_counts(layers),
        "growth": mean_growth(layers, dict(zip(table["model"], table["architecture"], strict=True))),
    }


@picture("analysis/effects_layers.png", cases=the_dataset, data=_layers)
def layers_by_place(counts: pd.DataFrame, growth: pd.DataFrame) -> Figure:
    """Classes of trajectories by the layer's place in its model, and what top 1 and the median add to the ratio there.

    Args:
        counts: a row a place, a column a class: the number of layers.
        growth: a row a place and quantity (ratio, top1, 1 / median): mean, lower and upper of the base-2 logarithm of
            what it was multiplied by over the run.
    """
    fig, axes = style.new_figure(7.4, 3.3, 1, 2, margins=(0.62, 0.12, 0.6, 0.62), gaps=(0.75, 0.5))
    left, right = axes[0]
    places = list(counts.index)
    total = counts.sum(axis=1).to_numpy(float)
    bottom = np.zeros(len(places))
    looks = list(
        zip((*style.COLOURS[:2], style.COLOURS[4], style.COLOURS[5], "0.8"), ("", "//", "..", "xx", ""), strict=True)
    )
    kinds = [(kind, look) for kind, look in zip(counts.columns, looks, strict=True) if counts[kind].to_numpy().any()]
    for kind, (colour, hatch) in kinds:
        share = 100 * counts[kind].to_numpy(float) / np.maximum(total, 1)
        left.bar(range(len(places)), share, bottom=bottom, color=colour, hatch=hatch, edgecolor="white", width=0.65)
        bottom += share
    left.set_xticks(range(len(places)), [f"{place}\n({n:.0f})" for place, n in zip(places, total, strict=True)])
    left.set_xlabel("layer's place")
    left.set_ylabel("layers, %")
    left.set_ylim(0, 100)
    left.grid(axis="x", visible=False)
    patches = [Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=kind) for kind, (colour, hatch) in kinds]
    left.legend(handles=patches, **_ABOVE)
    quantities = {
        "ratio": ("0.3", "s"),
        "top1": (style.QUANTITY_COLOURS["top1"], "o"),
        "1 / median": (style.COLOURS[0], "^"),
    }
    for shift, (quantity, (colour, marker)) in zip((-0.2, 0.0, 0.2), quantities.items(), strict=True):
        one_quantity = growth.xs(quantity, level="quantity").reindex(places).to_dict("records")
        for x, one in enumerate(one_quantity):
            right.plot([x + shift] * 2, [one["lower"], one["upper"]], color=colour, linewidth=1.4)
            right.plot(x + shift, one["mean"], marker, color=colour, markersize=5)
    right.axhline(0, color="0.3", linewidth=0.8)
    right.set_xticks(range(len(places)), places)
    right.set_xlim(-0.6, len(places) - 0.4)
    right.grid(axis="x", visible=False)
    right.set_xlabel("layer's place")
    right.set_ylabel("doublings over the run")
    marks = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", label=name.replace("top1", "top 1"))
        for name, (colour, marker) in quantities.items()
    ]
    right.legend(handles=marks, **_ABOVE)
    return fig


def _locations(source: Source) -> dict[str, Any]:
    from madyn.effects.layers import location_table

    over, final = location_table(_family(source)[1])
    return {"over": over, "final": final}


@picture("analysis/effects_locations.png", cases=the_dataset, data=_locations)
def locations_over_training(over: pd.DataFrame, final: pd.DataFrame) -> Figure:
    """Where the largest value of a layer sits while a family trains, and when its coordinate locks in.

    Args:
        over: a row a model, layer and step: place, step, first_position and modal_feature, as shares of the sequences.
        final: a row a model and layer: place, locked_in_step.
    """
    from madyn.effects.layers import PLACES

    fig, axes = style.new_figure(7.6, 2.9, 1, 3, margins=(0.62, 0.15, 0.5, 0.6), gaps=(0.6, 0.5))
    steps = np.unique(over["step"])
    for ax, column, title in (
        (axes[0, 0], "first_position", "largest |h| at the first position"),
        (axes[0, 1], "modal_feature", "largest |h| in one feature"),
    ):
        for place, colour, dash in zip(PLACES, style.COLOURS, style.DASHES, strict=False):
            here = (over["place"] == place).to_numpy()
            at, shares = over["step"].to_numpy()[here], over[column].to_numpy(float)[here]
            mean = [shares[at == step].mean() if (at == step).any() else np.nan for step in steps]
            ax.plot(steps, 100 * np.array(mean), color=colour, linestyle=dash)
        ax.set_title(title)
        ax.set_ylabel("sequences, %")
        ax.set_ylim(0, 102)
    ax = axes[0, 2]
    for place, colour, dash in zip(PLACES, style.COLOURS, style.DASHES, strict=False):
        locked = np.sort(final.loc[final["place"] == place, "locked_in_step"].to_numpy(float))
        share = (
            100 * np.array([(locked <= step).mean() for step in steps]) if len(locked) else np.full(len(steps), np.nan)
        )
        ax.step(steps, share, where="post", color=colour, linestyle=dash)
    ax.set_title("its coordinate locked in")
    ax.set_ylabel("layers, %")
    ax.set_ylim(0, 102)
    for ax in axes[0]:
        step_axis(ax.xaxis, steps, crowded=True)
        ax.set_xlabel(STEP_LABEL)
    handles = [
        Line2D([], [], color=colour, linestyle=dash, label=place)
        for place, colour, dash in zip(PLACES, style.COLOURS, style.DASHES, strict=False)
    ]
    style.legend_above(fig, handles)
    return fig
