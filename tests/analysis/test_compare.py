"""`madyn compare`: which hypothesis describes a dataset best."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from madyn import compare, fit_curves, open_dataset
from madyn.curves import SeparableModel, kfold_scores
from madyn.dataset import layout
from madyn.dataset.statistics import write_statistics
from madyn.errors import SeriesError, UsageError
from madyn.figures.pictures.comparison import comparison_figure
from tiny import write_dataset

SOME = ["original", "reparam", "reparam_regularized", "step1", "logistic_log"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("compare") / "runs")


@pytest.fixture(scope="module")
def comparison(dataset):
    return compare(dataset, hypotheses=SOME)


def test_scores_are_those_of_the_fits(dataset, comparison):
    series = open_dataset(dataset).trajectories("pythia_70m", "ratio").transpose("layer", "step")
    fits = fit_curves(series["step"], series.values, "logistic_log")
    rows = comparison.layers.query("model == 'pythia_70m' and hypothesis == 'logistic_log'")
    np.testing.assert_allclose(rows[["r2", "aicc", "bic"]].T, [fits.r2, fits.aicc, fits.bic], rtol=1e-9)
    kfold = kfold_scores(series["step"].values, series.values, "logistic_log")
    np.testing.assert_allclose(rows["kfold_error"], kfold.error, rtol=1e-6)


def test_the_curve_that_made_the_data_wins(comparison):
    overall = comparison.overall.set_index("hypothesis")
    assert overall["wins"].idxmax() == "reparam"
    assert overall.loc["reparam", "akaike_weight"] > 0.9
    assert overall.loc["step1", "last20_error"] > overall.loc["reparam", "last20_error"]


def test_weights_add_up_in_each_layer_and_one_hypothesis_wins_it(comparison):
    layers = comparison.layers.groupby(["model", "layer"])
    np.testing.assert_allclose(layers["akaike_weight"].sum(), 1.0)
    assert layers["best"].sum().tolist() == [1] * 6
    assert comparison.overall["wins"].sum() == 6


def test_akaike_weights_by_their_definition(comparison):
    one = comparison.layers.query("model == 'pythia_14m' and layer == 1 and akaike_weight == akaike_weight")
    above = one["aicc"] - one["aicc"].min()
    np.testing.assert_allclose(one["aicc_above_best"], above)
    np.testing.assert_allclose(one["akaike_weight"], np.exp(-above / 2) / np.exp(-above / 2).sum())


def test_a_curve_in_other_parameters_counts_once(dataset, comparison):
    assert set(comparison.not_ranked) == {"original", "reparam_regularized"}
    by = comparison.layers.set_index(["hypothesis", "model", "layer"]).sort_index()
    for column in ("r2", "aicc", "kfold_error", "last20_error"):
        np.testing.assert_array_equal(by.loc["original", column], by.loc["reparam", column])
    assert by.loc["original", "akaike_weight"].tolist() != by.loc["reparam", "akaike_weight"].tolist()
    assert not by.loc["original", "best"].to_numpy().any()
    alone = compare(dataset, hypotheses=["original", "step1"])
    assert alone.not_ranked == {}
    assert alone.overall.set_index("hypothesis").loc["original", "wins"] == 6


def test_sums_are_over_layers(comparison):
    rows = comparison.layers.query("model == 'pythia_14m' and hypothesis == 'step1'")
    summed = comparison.by_model.query("model == 'pythia_14m' and hypothesis == 'step1'").iloc[0]
    assert summed["layers"] == 3
    assert summed["bic"] == pytest.approx(rows["bic"].mean())
    assert summed["last20_error"] == pytest.approx(rows["last20_error"].median())
    assert list(comparison.by_model["model"].unique()) == ["pythia_14m", "pythia_70m"]


def test_models_of_other_lengths_and_own_hypotheses(tmp_path):
    write_dataset(tmp_path, models=("a",))
    write_dataset(tmp_path, models=("b",), steps=tuple(range(0, 9000, 300)), seed=1)
    line = SeparableModel(
        lambda x, bend: np.stack([np.abs(x - np.asarray(bend)[..., None]), x + 0 * np.asarray(bend)[..., None]], -1),
        nonlinear={"bend": (1.0, 2e4)},
        linear=("slope", "tilt"),
        name="bent line",
    )
    found = compare(tmp_path, hypotheses=[line, "reparam"])
    assert found.hypotheses == ["bent line", "reparam"]
    assert found.by_model["layers"].tolist() == [3] * 4
    alone = compare(tmp_path, hypotheses=[line, "reparam"], models="b").layers
    together = found.layers.query("model == 'b'").reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, together, rtol=1e-6)


def test_a_layer_that_cannot_be_fitted_is_told_and_the_others_count(tmp_path):
    write_dataset(tmp_path, models=("a",))
    for step, path in layout.statistics_files(tmp_path, "a").items():
        values = open_dataset(tmp_path).statistics("a").sel(step=step).values.copy()
        values[:, 0, 0] = 5 * values[:, 3, 0]  # the first layer's ratio is 5 throughout
        write_statistics(path, values)
    found = compare(tmp_path, hypotheses=["reparam", "step1"])
    first = found.layers.query("layer == 0")
    assert not np.isfinite(first["r2"].to_numpy(float)).any()
    assert ["constant" in message for message in first["message"].to_list()] == [True, True]
    assert found.overall["failed"].tolist() == [1, 1]
    assert found.overall["wins"].to_list() == [2, 0]


def test_what_cannot_be_compared_is_refused(dataset, tmp_path):
    with pytest.raises(UsageError, match="unknown hypothesis: cubic"):
        compare(dataset, hypotheses=["cubic"])
    with pytest.raises(UsageError, match="one name"):
        compare(dataset, hypotheses=["step1", "step1"])
    with pytest.raises(UsageError, match="no model 'gpt2'"):
        compare(dataset, models="gpt2")
    with pytest.raises(UsageError, match="it is one of top1, top2"):
        compare(dataset, quantity="top9")
    write_dataset(tmp_path, models=("a",), steps=(0, 1, 2))
    with pytest.raises(SeriesError, match="points"):
        compare(tmp_path, hypotheses=["reparam"])


def test_the_command_prints_the_tables_and_writes_table_and_figure(run, tmp_path):
    write_dataset(tmp_path)
    arguments = ["compare", tmp_path, *(f"--hypothesis={name}" for name in SOME), "--model=pythia_14m"]
    code, out, err = run(*arguments, "--verbose", "--out", tmp_path / "analysis")
    assert code == 0, err
    for words in ("ratio: 3 layers of 1 models", "R2 by model", "AICc by model", "BIC by model", "layers won by model",
                  "Akaike weight by model", "K-fold error by model", "last-20 % error by model",
                  "original: the same curves as reparam"):  # fmt: skip
        assert words in out
    table = pd.read_csv(tmp_path / "analysis" / "comparison_ratio.csv")
    assert len(table) == 15
    assert set(table["model"]) == {"pythia_14m"}
    assert (tmp_path / "analysis" / "comparison_ratio.png").stat().st_size > 10_000
    code, _, err = run("compare", tmp_path, "--hypothesis", "cubic")
    assert code == 2
    assert "cubic" in err


def test_the_figure_shows_every_hypothesis_and_says_which_are_not_ranked(comparison):
    figure = comparison_figure(comparison.layers)
    first, *_, weights = figure.get_axes()
    assert [label.get_text() for label in first.get_yticklabels()] == SOME
    assert [text.get_text() for text in weights.texts] == ["not ranked"] * 2


def test_the_figure_shows_the_numbers_of_the_table_and_says_how_they_are_summed_up(comparison):
    figure = comparison_figure(comparison.layers)
    table = comparison.overall.set_index("hypothesis").loc[SOME]
    expected = {"mean": (1 - table["r2"], table["akaike_weight"]),
                "median": (table["kfold_error"], table["last20_error"])}  # fmt: skip
    for i, ax in enumerate(figure.get_axes()):
        large = {
            y: x for line in ax.get_lines() if line.get_markersize() == 6 for x, y in np.asarray(line.get_xydata())
        }
        summed = "mean" if i in (0, 3) else "median"
        values = expected[summed][i > 1 if summed == "mean" else i - 1].dropna()
        least = 0 if ax.get_xscale() == "linear" else 1e-4
        assert large == pytest.approx({SOME.index(name): max(value, least) for name, value in values.items()})
        assert ax.get_xlabel().endswith(f"\n{summed}, {'more' if i == 3 else 'less'} is better")
    assert len(figure.get_axes()[1].xaxis.get_minorticklocs()) > 3
    FigureCanvasAgg(figure).draw()
    labels = [ax.xaxis.label.get_window_extent() for ax in figure.get_axes()]
    assert all(a.x1 < b.x0 for a, b in pairwise(labels))


def test_what_lies_beyond_the_axis_is_an_arrowhead_at_its_edge(comparison):
    away = comparison.layers.assign(last20_error=1e9)
    marks = {str(line.get_marker()) for line in comparison_figure(away).get_axes()[2].get_lines()}
    assert marks == {">"}
    alone = comparison.layers[comparison.layers["model"] == comparison.layers["model"].iloc[0]]
    (legend,) = comparison_figure(alone).legends
    assert "the layers of one model" not in [t.get_text() for t in legend.get_texts()]
