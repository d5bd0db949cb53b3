"""The figure functions, each from data made by the curve itself: what they show, and that it can be read."""

from itertools import combinations, pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.collections import Collection, PathCollection
from matplotlib.colors import same_color
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.curves.hypotheses.reparam import reparam as reparam_values
from madyn.effects import FACTORS, RESPONSES
from madyn.effects.layers import CLASSES, NO_CLASS, PLACES
from madyn.effects.sizes import SHARES
from madyn.figures import style
from madyn.figures.pictures import depth, fits, layers, models, published, surface, trajectories
from madyn.figures.pictures import effects as family
from madyn.suites import PYTHIA

STEPS = np.array(PYTHIA.grids["paper"])
SHORT = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 200, 300])
QUANTITIES = ["top1", "top2", "top3", "median"]
TARGETS = ["A", "lam", "gamma", "t0", "K"]


def make_statistics(steps: np.ndarray = STEPS, count: int = 6, sequences: int = 4) -> xr.DataArray:
    """Statistics whose ratio follows the reparam curve, with a spread over the sequences."""
    rng = np.random.default_rng(0)
    curve = reparam_values
    ratio = np.stack([curve(steps, 3 / steps[-1], steps[-1] / 50, 5.0 + k, 1.0, 20.0) for k in range(count)], axis=1)
    median = 0.1 * (1 + np.arange(count)) * np.exp(rng.normal(0, 0.02, (len(steps), sequences, count)))
    top1 = ratio[:, None] * median
    values = np.stack([top1, 0.6 * top1, 0.4 * top1, median], axis=2)
    return xr.DataArray(
        values,
        dims=("step", "sequence", "quantity", "layer"),
        coords={"step": steps, "sequence": range(sequences), "quantity": QUANTITIES, "layer": range(count)},
    )


def make_fits(statistics: xr.DataArray) -> xr.Dataset:
    """Fits of the ratio of one layer: reparam as it was made, step1 far off, original failed."""
    ratio = (statistics.sel(quantity="top1") / statistics.sel(quantity="median")).mean("sequence").isel(layer=1)
    steps = statistics["step"].values
    reparam, step1 = HYPOTHESES["reparam"], HYPOTHESES["step1"]
    names = list(dict.fromkeys([*reparam.param_names, *step1.param_names, *HYPOTHESES["original"].param_names]))
    params = {"reparam": (3 / steps[-1], steps[-1] / 50, 6.0, 1.0, 20.0), "step1": (steps[-1] / 30, 50.0)}
    hypotheses = ["original", "reparam", "step1"]
    popt = xr.DataArray(np.nan, {"hypothesis": hypotheses, "parameter": names}, ("hypothesis", "parameter")).copy()
    residuals = xr.DataArray(np.nan, {"hypothesis": hypotheses, "step": steps}, ("hypothesis", "step")).copy()
    for name, values in params.items():
        popt.loc[name, list(HYPOTHESES[name].param_names)] = list(values)
        residuals.loc[name] = ratio.values - HYPOTHESES[name].values(steps, values)
    r2 = xr.DataArray([np.nan, 0.999, -3.0], {"hypothesis": hypotheses}, ("hypothesis",))
    return xr.Dataset({"popt": popt, "residuals": residuals, "r2": r2})


def depth_table(**columns: float) -> pd.DataFrame:
    rows = [
        {"model": m, "layer_index": k, **columns}
        for m, count in (("small", 2), ("a_model_of_a_long_name", 5))
        for k in range(count)
    ]
    return pd.DataFrame(rows)


def effects(rows: int = 30, features: int = 16) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(1)
    names = [f"feature {k}" for k in range(features)]
    values = pd.DataFrame(rng.normal(size=(rows, features)) * np.arange(features), columns=names)
    return values, pd.DataFrame(rng.random((rows, features)), columns=names)


def looks(artist: Artist) -> set[tuple[str, object]]:
    """What an artist looks like, as far as a legend tells it: its hatch, fill, marker (hollow or full), or a line."""
    found: set[tuple[str, object]] = set()
    if isinstance(artist, Line2D):
        if artist.get_marker() not in ("None", "", None):
            hollow = same_color(artist.get_markerfacecolor(), "white")
            found.add(("marker", (artist.get_marker(), hollow)))
        if artist.get_linestyle() != "None":
            found.add(("line", None))
    elif isinstance(artist, Patch):
        found.add(("hatch", artist.get_hatch()) if artist.get_hatch() else ("fill", artist.get_facecolor()[:3]))
    elif isinstance(artist, ContourSet):
        found |= {("hatch", hatch) for hatch in artist.hatches}
    elif isinstance(artist, PathCollection):
        found.add(("scatter", None))
    elif isinstance(artist, Collection):
        found |= {("fill", tuple(colour[:3])) for colour in np.asarray(artist.get_facecolor())} | {("line", None)}
    return found


def legend_without_artist(figure: Figure) -> list[str]:
    """The entries of a figure's legends that nothing in its panels looks like."""
    panels = [ax for ax in figure.axes if ax.get_visible()]
    drawn = {look for ax in panels for artist in ax.get_children() for look in looks(artist)}
    legends = [*figure.legends, *(legend for ax in panels if (legend := ax.get_legend()) is not None)]
    wrong = []
    for legend in legends:
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            assert handle is not None
            missing = looks(handle) - drawn
            if ("scatter", None) in drawn:  # whose markers cannot be told
                missing = {(kind, how) for kind, how in missing if kind != "marker"}
            if any(kind == "fill" for kind, _ in drawn):  # of several colours, shown in grey
                missing.discard(("fill", (0.5, 0.5, 0.5)))
            if missing:
                wrong.append(text.get_text())
    return wrong


def family_figures() -> dict[str, Figure]:
    rng = np.random.default_rng(2)
    names = [f"m{i}" for i in range(12)]
    factors = pd.DataFrame({"model": names, **{f: 2.0 ** rng.integers(0, 4, 12) for f in FACTORS}})
    ratios = {m: xr.DataArray(5 + np.log1p(SHORT) * rng.random(), {"step": SHORT}, ("step",)) for m in names}
    size = pd.DataFrame({"per_doubling": [1.2, 0.9, 0.5, 1.0], "lower": 0.4, "upper": 2.5}, index=list(FACTORS))
    share = pd.DataFrame({"share": [0.4, 0.2, 0.1, 0.3], "lower": 0.1, "upper": 0.6}, index=list(SHARES))
    counts = pd.DataFrame(rng.integers(0, 9, (3, 5)), index=list(PLACES), columns=[*CLASSES, NO_CLASS])
    index = pd.MultiIndex.from_product([PLACES, ["ratio", "top1", "1 / median"]], names=["place", "quantity"])
    growth = pd.DataFrame({"mean": 1.0, "lower": 0.5, "upper": 1.5}, index=index)
    over = pd.DataFrame(
        [{"place": p, "step": s, "first_position": 0.5, "modal_feature": 0.9} for p in PLACES for s in SHORT]
    )
    final = pd.DataFrame({"place": PLACES, "locked_in_step": [1, 16, 300]})
    return {
        "trajectories_by_factor": family.trajectories_by_factor(factors, ratios),
        "effect_size_intervals": family.effect_size_intervals(dict.fromkeys(RESPONSES, size)),
        "variance_parts": family.variance_parts(dict.fromkeys(RESPONSES, share)),
        "layers_by_place": family.layers_by_place(counts, growth),
        "locations_over_training": family.locations_over_training(over, final),
    }


MANY = 160


def pictures_of_many_models() -> dict[str, Figure]:
    names = [f"neox_8x128_h16_m{1000 + i}_s0" for i in range(MANY)]
    rows = pd.DataFrame([{"model": m, "layer_index": k, "value": 0.9 + 0.001 * k} for m in names for k in range(3)])
    final = pd.DataFrame({"model": names, "parameters": np.geomspace(1e4, 1e7, MANY), "largest": 30.0, "mean": 20.0})
    spread = rows.assign(layer=rows["layer_index"], cv=0.05, sem=0.02, ci95=0.04)
    seen = pd.concat([rows.assign(observed=rows["value"], predicted=1.0, target=t) for t in TARGETS])
    return {
        "peak_map of many": depth.peak_map(rows.assign(value=rows["value"] * 100, outside=False), "step of the peak"),
        "r_squared_map of many": depth.r_squared_map(rows),
        "r_squared_by_layer of many": depth.r_squared_by_layer(rows),
        "final_ratio of many": models.final_ratio(final),
        "sequence_spread of many": models.sequence_spread(spread),
        "residuals of many": published.residuals(seen),
    }


def every_figure() -> dict[str, Figure]:
    statistics = make_statistics()
    ratio = (statistics.sel(quantity="top1") / statistics.sel(quantity="median")).rename("ratio")
    r2 = xr.DataArray(
        [[0.9, 0.99, np.nan], [-4.0, 0.5, 0.2]],
        {"hypothesis": ["reparam_regularized", "step1"], "layer": range(3)},
        name="r2",
    )
    peaks = depth_table(value=100.0).assign(outside=[True, False] + [False] * 5)
    peaks.loc[0, "value"] = np.nan
    peaks.loc[2, "value"] = np.nan
    spread = depth_table(cv=0.05, sem=0.02, ci95=0.04)
    final = pd.DataFrame({"model": ["a", "b"], "parameters": [1e6, 1e9], "largest": [80, 3000], "mean": [20, 900]})
    curves = pd.DataFrame({"lam": [1e-3, 0.1, 0.5], "gamma": [0.01, 0.1, 1.0], "t0": [1.0, 1.5, 2.0]})
    values, features = effects()
    dependence = pd.DataFrame({"value": [1.0, 2.0], "prediction": [0.0, 1.0], "lower": [-1.0, 0], "upper": [1, 2.0]})
    seen = pd.concat([depth_table(observed=1.0, predicted=2.0).assign(target=t) for t in TARGETS])
    return {
        **family_figures(),
        "trajectories": trajectories.trajectories(ratio.mean("sequence"), "m"),
        "magnitudes": trajectories.magnitudes(statistics, "m"),
        "ratio_by_layer_36": trajectories.ratio_by_layer(make_statistics(count=36), "m"),
        "ratio_by_layer": trajectories.ratio_by_layer(statistics, "m"),
        "layer_profile": layers.layer_profile(statistics, 512, "m"),
        "first_and_last_step": layers.first_and_last_step(statistics, "m"),
        "example_fit": fits.example_fit(ratio.isel(layer=1), make_fits(statistics), "m"),
        "quality_r2": fits.quality_by_layer(r2, "m, ratio"),
        "quality_aic": fits.quality_by_layer(r2.rename("aic"), "m, ratio"),
        "peak_map": depth.peak_map(peaks, "step of the peak"),
        "r_squared_map": depth.r_squared_map(depth_table(value=0.98)),
        "r_squared_by_layer": depth.r_squared_by_layer(depth_table(value=0.98)),
        "final_ratio": models.final_ratio(final),
        "sequence_spread": models.sequence_spread(spread),
        "t_peak_surface": surface.t_peak_surface(curves, 143000),
        "importances": published.importances(pd.DataFrame({t: [0.5, 0.3, 0.2] for t in TARGETS}, index=list("abc"))),
        "shap_summary": published.shap_summary(values, features, "K"),
        "shap_waterfall": published.shap_waterfall(values.iloc[0], features.iloc[0], 0.5, "K", "m, layer 0"),
        "partial_dependence": published.partial_dependence({"l/L": dependence, "layers": dependence}, "K"),
        "residuals": published.residuals(seen),
        **pictures_of_many_models(),
    }


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    return every_figure()


def test_every_picture_of_the_list_is_tried_here(figures: dict[str, Figure]) -> None:
    from madyn.figures.entries import on_request
    from madyn.figures.registry import PICTURES

    # Those of the predictor of curves are tried in the same ways in test_explanation.py, and those that commands draw
    # in test_compare.py, test_forecast.py and test_outcome.py; those of remedies in test_control.py and
    # test_notebook.py.
    names = ("prediction_shap", "prediction_inputs", "prediction_residuals", "control")
    apart = tuple(f"madyn.figures.pictures.{name}" for name in names)
    of_a_dataset = [p for p in PICTURES.values() if p.cases is not on_request]
    functions = {p.draw.__name__ for p in of_a_dataset if p.draw.__module__ not in apart}
    assert functions - {"quality_by_layer"} <= set(figures)


def test_every_axis_is_labelled(figures: dict[str, Figure]) -> None:
    for name, figure in figures.items():
        for ax in figure.axes:
            if ax.get_visible() and ax.get_label() != "colour bar":
                assert ax.get_xlabel(), name
                assert ax.get_ylabel(), name


def test_nothing_is_cut_off_and_no_tick_labels_touch(figures: dict[str, Figure]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for name, figure in figures.items():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box = figure.get_tightbbox(canvas.get_renderer())
        width, height = figure.get_size_inches()
        assert box.x0 > -0.01, name
        assert box.y0 > -0.01, name
        assert box.x1 < width + 0.01, name
        assert box.y1 < height + 0.01, name
        for ax in figure.axes:
            labels = [t for t in ax.get_xticklabels() if t.get_text() and t.get_visible()]
            if labels and labels[0].get_rotation() == 0:
                extents = sorted((t.get_window_extent() for t in labels), key=lambda e: e.x0)
                assert all(a.x1 < b.x0 for a, b in pairwise(extents)), name
        named = [axis.label for ax in figure.axes if ax.get_visible() for axis in (ax.xaxis, ax.yaxis)]
        written = [*named, *(t for ax in figure.axes if ax.get_visible() for t in (ax.title, ax._left_title))]  # pyright: ignore[reportAttributeAccessIssue]
        boxes = [t.get_window_extent() for t in written if t.get_text() and t.get_visible()]
        assert not any(a.overlaps(b) for a, b in combinations(boxes, 2)), name


def test_every_log_axis_has_small_ticks(figures: dict[str, Figure]) -> None:
    tried = 0
    for name, figure in figures.items():
        for ax in figure.axes:
            for axis in (ax.xaxis, ax.yaxis):
                if axis.get_scale() in ("log", "symlog") and ax.get_visible():
                    low, high = sorted(axis.get_view_interval())
                    small = axis.get_minorticklocs()
                    assert ((small > low) & (small < high)).sum() >= 2, (name, axis)
                    tried += 1
    assert tried > 50


def test_no_legend_names_what_is_not_drawn(figures: dict[str, Figure]) -> None:
    wrong = {name: entries for name, figure in figures.items() if (entries := legend_without_artist(figure))}
    assert wrong == {}


def test_figures_leave_the_settings_and_pyplot_alone() -> None:
    before = dict(matplotlib.rcParams)
    layers.layer_profile(make_statistics(SHORT), 64)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("count", [1, 6, 36])
def test_a_line_a_layer_and_a_colour_bar(count: int) -> None:
    statistics = make_statistics(count=count)
    figure = trajectories.trajectories(statistics.sel(quantity="top1").mean("sequence").rename("top1"))
    ax, bar = figure.axes
    assert len(ax.get_lines()) == count
    assert ax.get_legend() is None
    assert not figure.legends
    assert len(bar.get_yticks()) <= 10
    panels = trajectories.magnitudes(statistics).axes[:4]
    assert [len(panel.get_lines()) for panel in panels] == [count + 1] * 4
    small = [ax for ax in trajectories.ratio_by_layer(statistics).axes if ax.get_visible()]
    assert [len(ax.get_lines()) for ax in small] == [3] * count


def test_all_steps_of_a_model_share_the_range_of_the_layer_profile() -> None:
    statistics = make_statistics(SHORT)
    limits = {layers.layer_profile(statistics, step).axes[0].get_ylim() for step in (0, 64, 300)}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low < float(statistics.min())
    assert high > float(statistics.max())


def test_example_fit_draws_what_was_fitted_and_says_what_was_not() -> None:
    statistics = make_statistics()
    values = (statistics.sel(quantity="top1") / statistics.sel(quantity="median")).isel(layer=1).rename("ratio")
    found = make_fits(statistics)
    figure = fits.example_fit(values, found)
    text = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "original\nno fit" in text
    assert "reparam\nR² = 0.9990" in text
    top, bottom = figure.axes
    reparam = np.asarray(top.get_lines()[1].get_xydata())
    drawn = np.interp(STEPS, reparam[:, 0], reparam[:, 1])
    assert drawn == pytest.approx(values.mean("sequence").values - found["residuals"].sel(hypothesis="reparam").values)
    assert len(bottom.get_lines()) == 2  # zero and reparam
    assert bottom.get_title(loc="right") == "off by more: step1"


@pytest.mark.parametrize("steps", [STEPS, np.arange(0, 20_001, 1000)])
def test_example_fits_follow_the_curve_between_the_steps_and_before_the_first(steps: np.ndarray) -> None:
    statistics = make_statistics(steps)
    values = (statistics.sel(quantity="top1") / statistics.sel(quantity="median")).isel(layer=1).rename("ratio")
    line = fits.example_fit(values, make_fits(statistics)).axes[0].get_lines()[1]
    x, y = np.asarray(line.get_xydata()).T
    assert y == pytest.approx(reparam_values(x, 3 / steps[-1], steps[-1] / 50, 6.0, 1.0, 20.0))
    assert ((x > 0) & (x < steps[1])).sum() > 30


def test_a_hypothesis_of_others_is_drawn_from_its_residuals() -> None:
    statistics = make_statistics()
    values = (statistics.sel(quantity="top1") / statistics.sel(quantity="median")).isel(layer=1).rename("ratio")
    found = make_fits(statistics).assign_coords(hypothesis=["original", "mine", "step1"])
    line = fits.example_fit(values, found).axes[0].get_lines()[1]
    assert np.size(line.get_xdata()) == len(STEPS)


def test_peaks_outside_the_training_are_hatched_and_missing_fits_grey() -> None:
    table = depth_table(value=100.0).assign(outside=False)
    table.loc[0, ["value", "outside"]] = [np.nan, True]
    table.loc[3, "value"] = np.nan
    cells = depth.peak_map(table, "step of the peak").axes[0].patches
    assert len(cells) == len(table)
    assert [i for i, cell in enumerate(cells) if cell.get_hatch()] == [0]
    assert [i for i, cell in enumerate(cells) if cell.get_facecolor()[:3] == (0.85, 0.85, 0.85)] == [3]


def texts_of_legends(figure: Figure) -> list[str]:
    return [t.get_text() for legend in figure.legends for t in legend.get_texts()]


def test_many_models_fit_on_a_page_and_as_many_are_named_as_can_be_read(figures: dict[str, Figure]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for name in pictures_of_many_models():
        figure = figures[name]
        width, height = figure.get_size_inches()
        assert width < 11.5, name
        assert height < 8, name
        assert all("neox" not in text for text in texts_of_legends(figure)), name
        FigureCanvasAgg(figure).draw()
        named = [t for t in figure.axes[0].get_xticklabels() if "neox" in t.get_text()]
        extents = [t.get_window_extent() for t in named]
        assert all(a.x1 <= b.x0 for a, b in pairwise(extents)), name
        if "map" in name or "spread" in name:
            assert len(named) >= 40


def test_the_legend_of_a_heat_map_explains_the_cells_that_are_there() -> None:
    table = depth_table(value=100.0).assign(outside=False)
    assert not depth.peak_map(table, "step of the peak").legends
    assert not depth.r_squared_map(depth_table(value=0.9)).legends
    table.loc[0, "value"] = np.nan
    assert texts_of_legends(depth.peak_map(table, "step of the peak")) == ["no fit"]
    assert texts_of_legends(depth.r_squared_map(table.assign(value=table["value"] / 110))) == ["no fit"]
    table.loc[0, "outside"] = True
    assert texts_of_legends(depth.peak_map(table, "step of the peak")) == ["no peak during training"]


def test_effects_explain_thick_lines_and_only_the_dots_that_are_there() -> None:
    thick = texts_of_legends(family_figures()["trajectories_by_factor"])
    assert thick == ["one model", "geometric mean of the models with this value"]
    size = pd.DataFrame({"per_doubling": 1.5, "lower": 1.2, "upper": 1.8}, index=list(FACTORS))
    assert texts_of_legends(family.effect_size_intervals({"final ratio": size})) == ["with its 95 % interval"]
    wide = pd.DataFrame({"per_doubling": 1.5, "lower": 1e-8, "upper": 1e4}, index=list(FACTORS))
    labels = family.effect_size_intervals({"half the rise": wide}).axes[0].get_xticklabels()
    assert 3 <= len(labels) <= 5


def test_the_waterfall_ends_at_the_prediction_whatever_it_sums_up() -> None:
    values, features = effects(features=16)
    figure = published.shap_waterfall(values.iloc[3], features.iloc[3], 0.25, "K")
    bars = figure.axes[0].patches
    last = bars[-1]
    assert isinstance(last, Rectangle)
    assert len(bars) == 11
    assert last.get_x() + last.get_width() == pytest.approx(0.25 + values.iloc[3].sum())


@pytest.mark.parametrize("steps", [STEPS, SHORT, np.array([0, 50, 100, 150]), np.array([1000, 2000]), np.array([0])])
def test_step_axis_shows_the_first_and_the_last_step(steps: np.ndarray) -> None:
    figure = trajectories.trajectories(
        xr.DataArray(np.ones((len(steps), 2)), {"step": steps, "layer": [0, 1]}, name="top1")
    )
    axis = figure.axes[0].xaxis
    low, high = figure.axes[0].get_xlim()
    assert low < steps[0]
    assert high > steps[-1]
    ticks = list(axis.get_major_locator()())
    assert {steps[0], steps[-1]} <= set(ticks)
    labels = axis.get_major_formatter().format_ticks(ticks)
    assert style.number(float(steps[-1])) in labels


@pytest.mark.parametrize("limits", [(0.8, 0.95), (5, 33), (20, 900), (0.02, 9000), (1e-9, 1e9)])
def test_log_ticks_are_few_and_inside(limits: tuple[float, float]) -> None:
    ticks = style.log_ticks(*limits)
    assert 3 <= len(ticks) <= 10
    assert limits[0] <= min(ticks)
    assert max(ticks) <= limits[1]


def test_values_that_are_all_missing_still_give_a_picture() -> None:
    values = xr.DataArray(np.full((3, 2), np.nan), {"step": [0, 1, 2], "layer": [0, 1]}, name="ratio")
    assert isinstance(trajectories.trajectories(values), Figure)
