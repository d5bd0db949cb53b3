"""Explanations of the predictor, on synthetic curves of a known law: what must come out can be worked out."""

import sys
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from madyn.architecture import Architecture
from madyn.dataset import open_dataset
from madyn.errors import DatasetError, MissingDependencyError, UsageError
from madyn.figures.pictures.prediction_inputs import prediction_interaction
from madyn.figures.pictures.prediction_residuals import prediction_residuals
from madyn.figures.pictures.prediction_shap import prediction_waterfall
from madyn.figures.registry import PICTURES
from madyn.figures.source import Source
from madyn.prediction import Predictor, Training
from madyn.prediction.explanation import (
    dependence,
    explain_layer,
    features_of,
    interaction,
    interactions,
    shapley_values,
)
from madyn.prediction.importance import importances
from madyn.prediction.inputs import Subject
from madyn.prediction.residuals import residuals
from madyn.prediction.table import positions, table_of
from tiny import write_dataset

STEPS = [0, 1, 10, 100, 1000]
WIDTHS, HEADS, LAYERS = (32, 64, 128), (1, 2, 4), (3, 5)
SLOPE = 0.4
GROWTH = positions(STEPS, STEPS[-1])
PAIR = [("hidden size", "depth")]
FIGURES = [path for path in PICTURES if path.startswith("analysis/prediction_")]


def additive(width, depth):
    """In logarithms: a power of the width plus a slope along the depth. The heads do nothing."""
    return SLOPE * (np.log2(width) - 6) + 0.6 * depth


def multiplied(width, depth):
    """Nothing but an interaction: a mean over the widths, or over the depths, is flat."""
    return SLOPE * (np.log2(width) - 6) * (depth - 0.5) * 4


def curves_of(law, shapes, noise=0.005, off=()):
    """A table of models whose log ratio grows from 1 to 2.5 + law; those named in `off` end three times as high."""
    rng = np.random.default_rng(0)
    subjects, curves = {}, []
    for width, heads, layers in shapes:
        name = f"w{width}_h{heads}_l{layers}"
        shape = Architecture(num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads)
        subjects[name] = Subject(shape, Training(STEPS[-1], 0.01, 512))
        for depth in np.linspace(0, 1, layers):
            top = 2.5 + law(width, depth) + (np.log(3) if name in off else 0)
            curves.append(1 + (top - 1) * GROWTH + rng.normal(0, noise, len(STEPS)))
    return table_of(subjects, np.array(curves), GROWTH, {}, {})


ALL = list(product(WIDTHS, HEADS, LAYERS))


@pytest.fixture(scope="module")
def predictor():
    return Predictor().fit_table(curves_of(additive, ALL))


@pytest.fixture(scope="module")
def product_law():
    return Predictor().fit_table(curves_of(multiplied, ALL))


# --- Shapley values


@pytest.mark.parametrize("approach", ["gaussian_process", "mixture", "nearest"])
def test_shapley_values_lead_from_the_mean_to_each_prediction(approach):
    predictor = Predictor(approach).fit_table(curves_of(multiplied, [(w, h, 3) for w in WIDTHS for h in (1, 4)]))
    rows = predictor.state.table.averaged().rows
    curves = predictor.state.fitted.predict(rows)[0]
    for quantity, expected in {"final ratio": curves[:, -1], "ratio at 10": curves[:, 2]}.items():
        found = shapley_values(predictor, quantity)
        assert found.quantity == quantity
        assert found.prediction.to_numpy() == pytest.approx(expected, abs=1e-9)
        assert found.base_value == pytest.approx(expected.mean())
        assert found.factors.prod(axis=1).to_numpy() == pytest.approx(np.exp(expected - expected.mean()))
        assert list(found.features["hidden size"]) == list(np.rint(2 ** rows["hidden size"]))
        assert list(found.features["depth"]) == list(rows["depth"])


def test_under_an_additive_law_each_shapley_value_is_its_own_term(predictor):
    found = shapley_values(predictor, "final ratio")
    assert list(found.values) == features_of(predictor) == ["hidden size", "layers", "heads", "depth"]
    width = np.log2(found.features["hidden size"].to_numpy(float))
    assert found.values["hidden size"].to_numpy() == pytest.approx(SLOPE * (width - width.mean()), abs=0.03)
    assert np.abs(found.values["heads"].to_numpy()).max() < 0.02
    depth = found.features["depth"].to_numpy(float)
    assert found.values["depth"].to_numpy() == pytest.approx(0.6 * (depth - depth.mean()), abs=0.03)


def test_a_step_is_explained_where_the_curve_is_largest_even_without_a_peak():
    rise = table_of(*_parts(curves_of(additive, ALL[::3])))
    found = shapley_values(Predictor("nearest").fit_table(rise), "peak step")
    assert found.prediction.to_numpy() == pytest.approx(np.log1p(STEPS[-1]))
    assert found.values.abs().to_numpy().max() < 1e-9


def _parts(table):
    """A table's parts with its noise taken out, so that every curve ends at its largest value."""
    return table.subjects, np.sort(table.curves, axis=1), table.positions, {}, {}


def test_the_predictor_explains_a_layer_as_all_layers_are_explained(predictor):
    found = predictor.explain(predictor.architecture(num_hidden_layers=3, hidden_size=128, num_attention_heads=2), 1)
    every = shapley_values(predictor, "final ratio")
    rows = predictor.state.table.averaged().rows
    (place,) = np.flatnonzero((rows["model"] == "w128_h2_l3") & (rows["layer"] == 1))
    assert found.features.to_dict("records") == [{"hidden size": 128, "layers": 3, "heads": 2, "depth": 0.5}]
    assert found.values.to_numpy()[0] == pytest.approx(every.values.to_numpy()[place])
    assert found.base_value == every.base_value


@pytest.mark.parametrize("layer", [-1, 3, 0.5])
def test_a_layer_that_is_not_there(predictor, layer):
    shape = predictor.architecture(num_hidden_layers=3, hidden_size=64, num_attention_heads=2)
    with pytest.raises(UsageError, match="layers 0 to 2"):
        explain_layer(predictor, shape, layer, "final ratio")


def test_a_model_that_lacks_what_all_others_have():
    bases = [1e4, 1e5, 1e4, 1e5, 1e4, 1e5]
    shapes = [
        Architecture(num_hidden_layers=2, hidden_size=32 * (1 + i // 2), num_attention_heads=1, rotary_emb_base=base)
        for i, base in enumerate(bases)
    ]
    subjects = {f"m{i}": Subject(shape, Training(100)) for i, shape in enumerate(shapes)}
    curves = 2 + np.random.default_rng(0).random((2 * len(shapes), 3))
    fitted = Predictor("nearest").fit_table(table_of(subjects, curves, np.array([0, 0.5, 1]), {}, {}))
    without = Architecture(num_hidden_layers=2, hidden_size=32, num_attention_heads=1, rotary_emb_base=None)
    with pytest.raises(UsageError, match="rotary base"):
        explain_layer(fitted, without, 0, "final ratio")


@pytest.mark.parametrize("explain", [shapley_values, importances, interactions, residuals])
def test_unknown_quantities_and_unfitted_predictors_are_told(predictor, explain):
    with pytest.raises(UsageError, match="there is no quantity 'loss'"):
        explain(predictor, "loss")
    with pytest.raises(UsageError, match="not fitted"):
        explain(Predictor(), "final ratio")


def test_unknown_features_are_told_with_those_that_are_there(predictor):
    for ask in (lambda: dependence(predictor, "final ratio", "rotary base"),
                lambda: interaction(predictor, "final ratio", "depth", "rotary base")):  # fmt: skip
        with pytest.raises(UsageError, match="'rotary base'; the features are hidden size, layers, heads, depth"):
            ask()
    with pytest.raises(UsageError, match="no pair"):
        interaction(predictor, "final ratio", "depth", "depth")


def test_without_shap_the_extra_is_named(predictor, monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(MissingDependencyError, match=r'shap is not installed: pip install "madyn\[predict\]"'):
        shapley_values(predictor, "final ratio")


# --- partial dependence and interactions


def test_partial_dependence_recovers_the_law_in_peoples_units(predictor):
    of_width = dependence(predictor, "final ratio", "hidden size")
    assert list(of_width["value"]) == list(WIDTHS)
    per_doubling = of_width["prediction"].to_numpy()[1:] / of_width["prediction"].to_numpy()[:-1]
    assert per_doubling == pytest.approx(np.exp(SLOPE), rel=0.03)
    assert np.ptp(np.log(dependence(predictor, "final ratio", "heads")["prediction"])) < 0.03
    halfway = dependence(predictor, "ratio at 10", "hidden size")["prediction"].to_numpy()
    assert halfway[1:] / halfway[:-1] == pytest.approx(np.exp(SLOPE * GROWTH[2]), rel=0.03)


def test_the_band_holds_how_far_layers_differ(product_law):
    """The width's effect on the first layer is the opposite of that on the last one, and the mean hides both."""
    of_width = dependence(product_law, "final ratio", "hidden size")
    assert np.ptp(np.log(of_width["prediction"])) < 0.05
    widest = of_width.to_dict("records")[-1]
    assert np.log(widest["upper"] / widest["lower"]) == pytest.approx(4 * SLOPE, rel=0.1)


def test_many_values_are_thinned_to_twenty_in_equal_doublings():
    shapes = [(width, 1, 2) for width in range(32, 132, 4)]
    found = dependence(Predictor("ridge").fit_table(curves_of(additive, shapes)), "final ratio", "hidden size")
    values = found["value"].to_numpy()
    assert len(values) == 20
    assert (values[0], values[-1]) == (32, 128)
    assert np.diff(np.log2(values)) == pytest.approx(2 / 19)


def test_h2_is_none_under_an_additive_law(predictor):
    found = interactions(predictor, "final ratio").set_index(["feature", "other"])
    assert len(found) == 6
    assert found.loc[PAIR, "h2"].to_numpy()[0] < 0.005
    assert (found["strength"].to_numpy() < 1.03).all()


def test_h2_is_all_where_there_is_nothing_but_an_interaction(product_law):
    found = interactions(product_law, "final ratio")
    assert tuple(found.loc[0, ["feature", "other"]]) == PAIR[0]
    # The root mean square of the law over the layers that were learned from.
    rows = product_law.state.table.rows
    law = multiplied(2 ** rows["hidden size"].to_numpy(), rows["depth"].to_numpy())
    strongest = found.to_dict("records")[0]
    assert strongest["h2"] > 0.95
    assert np.log(strongest["strength"]) == pytest.approx(np.sqrt(np.square(law).mean()), rel=0.1)


def test_the_two_way_grid_is_the_law_and_knows_what_was_seen(product_law):
    found = interaction(product_law, "final ratio", "layers", "depth")
    assert list(found.grid.index) == list(LAYERS)
    assert list(found.grid.columns) == [0, 0.25, 0.5, 0.75, 1]
    assert found.seen.to_numpy().tolist() == [[True, False, True, False, True], [True] * 5]
    both = interaction(product_law, "final ratio", *PAIR[0])
    expected = [[2.5 + multiplied(w, d) for d in both.grid.columns] for w in WIDTHS]
    assert np.log(both.grid.to_numpy()) == pytest.approx(np.array(expected), abs=0.1)
    assert (both.h2, both.strength) == tuple(interactions(product_law, "final ratio").loc[0, ["h2", "strength"]])


# --- importances


def test_what_acts_is_important_and_what_does_not_is_not(predictor):
    found = importances(predictor, "final ratio", resamples=6)
    by_feature = found.set_index("feature").to_dict("index")
    assert found["feature"].to_list()[0] == "hidden size"
    assert by_feature["hidden size"]["lower"] > 0.5
    assert by_feature["depth"]["lower"] > 0.2
    for name in ("heads", "layers"):
        assert -0.01 < by_feature[name]["lower"] <= by_feature[name]["upper"] < 0.02
    assert (found["r2"].to_numpy() > 0.98).all()
    assert (np.diff(found[["lower", "importance", "upper"]].to_numpy(), axis=1) >= 0).all()


def test_the_fall_is_that_of_a_law_whose_terms_are_exchanged(predictor):
    """Exchanging a term that is independent of the others doubles its variance as an error: R2 falls by twice its share
    of the variance."""
    rows = predictor.state.table.rows
    width = SLOPE * rows["hidden size"].to_numpy()
    share = np.var(width) / np.var(width + 0.6 * rows["depth"].to_numpy())
    found = importances(predictor, "final ratio", resamples=30).set_index("feature")
    assert float(found.to_dict("index")["hidden size"]["importance"]) == pytest.approx(2 * share, rel=0.25)


def test_scores_are_those_of_architectures_that_were_not_learned_from():
    """Where every architecture does something of its own, the nearest one's curve is right only of itself."""
    chance = np.random.default_rng(0)
    own = {shape: chance.normal(0, 1) for shape in product(WIDTHS, LAYERS)}
    shapes = [(w, 1, layers) for w, layers in own]
    table = curves_of(additive, shapes)
    sizes = zip(np.rint(2 ** table.rows["hidden size"]), np.rint(2 ** table.rows["layers"]), strict=True)
    offsets = np.array([own[int(w), int(layers)] for w, layers in sizes])
    table.curves[:, -1] = 2 + offsets
    assert (importances(Predictor("nearest").fit_table(table), "final ratio")["r2"].to_numpy() < 0.3).all()


def test_importances_depend_on_the_seed_alone(predictor):
    first = importances(predictor, "final ratio", resamples=2, seed=3)
    pd.testing.assert_frame_equal(first, importances(predictor, "final ratio", resamples=2, seed=3))
    assert not first.equals(importances(predictor, "final ratio", resamples=2, seed=4))


def test_importances_need_architectures_to_leave_out(predictor):
    few = Predictor("ridge").fit_table(curves_of(additive, ALL[:4]))
    with pytest.raises(DatasetError, match="4 architectures"):
        importances(few, "final ratio")
    with pytest.raises(UsageError, match="resamples is 0"):
        importances(predictor, "final ratio", resamples=0)


def test_importances_of_a_step_need_layers_with_a_peak():
    rise = table_of(*_parts(curves_of(additive, ALL[::3])))
    with pytest.raises(DatasetError, match="R2 of the peak step"):
        importances(Predictor("ridge").fit_table(rise), "peak step", resamples=2)


# --- residuals


def test_residuals_are_those_of_architectures_left_out():
    """One architecture ends three times as high as the law says. A predictor that had seen it would know."""
    table = curves_of(additive, ALL, off=["w64_h2_l3"])
    found = residuals(Predictor().fit_table(table), "final ratio")
    assert list(found["model"]) == list(table.rows["model"])
    assert list(found["layer"]) == list(table.rows["layer"])
    assert found["observed"].to_numpy() == pytest.approx(np.exp(table.curves[:, -1]))
    off = (found["model"] == "w64_h2_l3").to_numpy()
    low, middle, high, observed = found[["lower", "predicted", "upper", "observed"]].to_numpy(float).T
    assert observed[off] / middle[off] == pytest.approx(3, rel=0.15)
    assert (observed > high)[off].all()
    assert ((low <= observed) & (observed <= high))[~off].mean() > 0.85
    assert (low <= middle).all()
    assert (middle <= high).all()


def test_no_residual_of_an_architecture_makes_its_own_interval():
    """Without the law's noise, only the one that is off could widen its own interval."""
    table = curves_of(additive, [(w, 1, layers) for w in WIDTHS for layers in LAYERS], noise=1e-3, off=["w64_h1_l3"])
    found = residuals(Predictor("mean_curve").fit_table(table), "final ratio")
    off = (found["model"] == "w64_h1_l3").to_numpy()
    times = (found["upper"] / found["predicted"]).to_numpy()
    # The others' intervals hold its residual, three times what they are; its own does not.
    assert times[off].max() < times[~off].min()


def test_residuals_of_a_step_are_missing_where_the_curve_has_no_peak():
    parts = _parts(curves_of(additive, ALL[::3]))
    parts[1][:3, 3] = parts[1][:3, 4] + 0.5
    found = residuals(Predictor("nearest").fit_table(table_of(*parts)), "peak step")
    assert list(np.isfinite(found["observed"])) == [True] * 3 + [False] * (len(found) - 3)
    assert found["observed"].to_numpy()[:3] == pytest.approx(100)


# --- pictures


@dataclass(frozen=True)
class Fitted:
    """What the pictures ask of a source once its predictor is fitted."""

    curve_predictor: Predictor


def prediction_figures(predictor):
    """Every picture of the room, with the data that a dataset's pictures are drawn from."""
    source, found = Fitted(predictor), {}
    for path in FIGURES:
        entry = PICTURES[path]
        for case in entry.cases(source):  # pyright: ignore[reportArgumentType]
            assert entry.derive is not None
            found[path.format(**case)] = entry.draw(**entry.derive(source, **case))
    return found


@pytest.fixture(scope="module")
def figures(predictor):
    return prediction_figures(predictor)


def test_there_is_a_picture_of_each_kind_for_both_ratios(figures):
    kinds = ("shap", "waterfall", "dependence", "interaction", "residuals")
    names = {f"analysis/prediction_{kind}_{q}_ratio.png" for kind in kinds for q in ("final", "largest")}
    assert set(figures) == {*names, "analysis/prediction_importances.png"}


def test_axes_are_labelled_and_nothing_is_cut_off(figures):
    for name, figure in figures.items():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box = figure.get_tightbbox(canvas.get_renderer())
        width, height = figure.get_size_inches()
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.01, name
        for ax in figure.axes:
            if not ax.get_visible() or ax.get_label() == "colour bar":
                continue
            assert ax.get_xlabel(), name
            assert ax.get_ylabel(), name
            labels = [t for t in ax.get_xticklabels() if t.get_text() and t.get_visible()]
            extents = sorted((t.get_window_extent() for t in labels), key=lambda e: e.x0)
            assert len(labels) > 1, name
            assert all(a.x1 < b.x0 for a, b in pairwise(extents)), name


def texts(figure):
    return [[t.get_text() for t in ax.get_xticklabels()] for ax in figure.axes]


def test_sizes_and_factors_stand_on_the_axes_and_no_logarithms(figures):
    assert texts(figures["analysis/prediction_dependence_final_ratio.png"])[0] == ["32", "64", "128"]
    assert "×1" in texts(figures["analysis/prediction_shap_final_ratio.png"])[0]
    layers = [t.get_text() for t in figures["analysis/prediction_waterfall_final_ratio.png"].axes[0].get_yticklabels()]
    assert any(text in ("hidden size = 128", "hidden size = 32") for text in layers)


def test_the_waterfall_goes_from_the_mean_to_the_prediction(predictor):
    found = shapley_values(predictor, "final ratio")
    figure = prediction_waterfall(found.values.iloc[4], found.features.iloc[4], found.base_value, "final ratio")
    bars = [bar for bar in figure.axes[0].patches if isinstance(bar, Rectangle)]
    assert bars[0].get_x() == pytest.approx(np.exp(found.base_value))
    assert bars[-1].get_x() + bars[-1].get_width() == pytest.approx(np.exp(found.prediction.iloc[4]))
    for before, after in pairwise(bars):
        assert before.get_x() + before.get_width() == pytest.approx(after.get_x())


def test_the_heat_map_marks_the_cells_that_the_data_have(product_law):
    found = interaction(product_law, "final ratio", "layers", "depth")
    figure = prediction_interaction(found.grid, found.seen, "final ratio")
    marks = np.asarray(figure.axes[0].collections[1].get_offsets())
    assert len(marks) == found.seen.to_numpy().sum() == 8
    assert [0.5, 0.5] in marks.tolist()
    assert [1.5, 0.5] not in marks.tolist()


def test_the_model_that_is_off_is_named_first(predictor):
    off = Predictor().fit_table(curves_of(additive, ALL, off=["w64_h2_l3"]))
    figure = prediction_residuals(residuals(off, "final ratio"), "final ratio")
    names = [t.get_text() for t in figure.axes[1].get_yticklabels()]
    assert names[0] == "w64_h2_l3"
    assert len(names) == 16
    assert figure.axes[1].get_title(loc="left") == "the 16 farthest off of 18 models"


def test_intervals_of_residuals_are_whole(figures):
    ax = figures["analysis/prediction_residuals_final_ratio.png"].axes[0]
    low, high = ax.get_ylim()
    ends = np.concatenate([line[:, 1] for line in ax.collections[0].get_segments()])
    assert low < ends.min()
    assert high > ends.max()


def test_with_too_few_architectures_the_reason_is_given(tmp_path):
    source = Source(open_dataset(write_dataset(tmp_path)))
    for path in FIGURES:
        entry = PICTURES[path]
        for case in entry.cases(source):
            with pytest.raises(DatasetError, match="2 architectures: with fewer than 5"):
                entry.data(source, **case)


def test_pictures_are_known_by_the_statistics(tmp_path):
    names = ("pythia_14m", "pythia_70m", "pythia_160m", "pythia_410m", "pythia_1b")
    dataset = open_dataset(write_dataset(tmp_path, models=names, steps=(0, 10, 100)))
    entry = PICTURES["analysis/prediction_residuals_{quantity}.png"]
    before = entry.data(Source(dataset), quantity="final_ratio")
    assert before == entry.data(Source(dataset), quantity="final_ratio")
    assert before != entry.data(Source(dataset), quantity="largest_ratio")
    write_dataset(tmp_path, models=names[:1], steps=(0, 10, 100), seed=1)
    assert before != entry.data(Source(open_dataset(tmp_path)), quantity="final_ratio")
