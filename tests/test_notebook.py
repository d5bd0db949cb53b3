"""What objects look like in a notebook: tables in HTML, the obvious picture, tidy tables; scikit-learn's manners."""

import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import madyn
from madyn.analysis.comparison import Comparison
from madyn.control.study import MEASURED, Control
from madyn.dataset import layout
from madyn.dataset.statistics import write_statistics
from madyn.effects.study import study_effects
from madyn.notebook import MOST_ROWS, Shown
from tiny import write_dataset, write_family

T = np.arange(0, 30_000, 1000.0)
RISE = 7 * (1 - np.exp(-T / 5000)) + 0.1 * np.sin(T)


class Page(HTMLParser):
    """The tags of a page, its cells by row, and all of its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.rows, self.text, self.open = [], [], "", None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.open = tag

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        self.text += data
        if self.open in ("td", "th"):
            self.rows[-1][-1] += data


def check(value, rows=None):
    """The page of an object, once its manners are those of a notebook."""
    said = value._repr_html_()
    page = Page(said)
    assert set(page.tags) <= {"div", "p", "strong", "br", "table", "thead", "tbody", "tr", "th", "td"}
    assert "color" not in said, "it takes the notebook's, light or dark"
    assert type(value).__name__ in page.text
    assert len(page.rows) <= MOST_ROWS + 1
    if rows is not None:
        assert len(page.rows) == rows + 1
    return page


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return madyn.open_dataset(write_family(tmp_path_factory.mktemp("family"), count=8, repeated=0))


@pytest.fixture(scope="module")
def predictor(family):
    return madyn.Predictor().fit(family)


def test_a_dataset_shows_a_line_a_model_and_says_how_many_more_there_are(tmp_path):
    names = tuple(f"net_{number:02}" for number in range(23))
    dataset = madyn.open_dataset(write_dataset(tmp_path, models=names, steps=(0, 1, 2000)))
    page = check(dataset, MOST_ROWS)
    last = dataset.trajectories("net_00", "ratio").isel(step=-1)
    assert page.rows[0] == ["model", "steps", "last step", "sequences", "layers", "largest ratio", "in layer"]
    found = f"{float(last.max()):.4g}"
    assert page.rows[1] == ["net_00", "3", "2,000", "4", "3", found, str(int(last.values.argmax()))]
    assert "... and 3 more rows" in page.text


def test_a_damaged_file_or_none_leaves_its_cells_empty(tmp_path):
    dataset = madyn.open_dataset(write_dataset(tmp_path, models=("net", "other"), steps=(0, 8)))
    layout.statistics_path(tmp_path, "net", 8).write_text("[[")
    assert check(dataset, 2).rows[1] == ["net", "2", "8", "-", "-", "-", "-"]


def test_names_are_text_whatever_they_hold(tmp_path):
    layers = pd.DataFrame({"model": "m", "layer": 0, "hypothesis": ["<script>alert(1)</script>", "a & b", "$x$"]})
    scores = ("r2", "aicc", "bic", "aicc_above_best", "akaike_weight", "kfold_error", "last20_error")
    layers = layers.assign(best=False, at_edge=False, message="", **dict.fromkeys(scores, 0.5))
    page = check(Comparison(layers, "<b>ratio</b>", {}), 3)
    assert [row[0] for row in page.rows[1:]] == ["<script>alert(1)</script>", "a & b", "$x$"]
    assert "Comparison of the <b>ratio</b>" in page.text
    labelled = madyn.fit_curves(None, pd.DataFrame({"<i>": RISE}, index=pd.Index(T, name="step")).T, hypothesis="step1")
    assert "<i>" in check(labelled, 1).rows[1]


def test_fits_show_parameters_by_name_and_are_a_row_a_series_and_parameter():
    fits = madyn.fit_curves(T, np.stack([RISE, 2 * RISE, np.full_like(RISE, np.nan)]), hypothesis="step1")
    page = check(fits, 3)
    assert page.rows[0] == ["series", "tau", "K", "r2", "message"]
    assert page.rows[3][:4] == ["2", "-", "-", "-"]
    assert "too few points" in page.rows[3][4]
    table = fits.to_dataframe()
    assert list(table.columns[:5]) == ["series", "hypothesis", "parameter", "value", "standard_error"]
    assert table["parameter"].tolist() == ["tau", "K"] * 3
    assert table["value"].to_numpy() == pytest.approx(fits.popt.ravel(), nan_ok=True)
    error = np.sqrt(fits.pcov[1, 1, 1])
    assert table["standard_error"].tolist()[3] == pytest.approx(error)
    assert table["success"].tolist() == [True] * 4 + [False] * 2
    single = madyn.fit_curves(T, RISE, hypothesis="step1")
    assert check(single, 1).rows[0] == ["tau", "K", "r2", "message"]
    assert list(single.to_dataframe()["parameter"]) == ["tau", "K"]


def test_of_labelled_series_the_tables_have_the_labels(tmp_path):
    dataset = madyn.open_dataset(write_dataset(tmp_path, models=("net",)))
    fits = madyn.fit_curves(None, dataset.trajectories("net", "ratio"), hypothesis="step1")
    assert fits.to_dataframe()["layer"].tolist() == [0, 0, 1, 1, 2, 2]
    assert [row[0] for row in check(fits, 3).rows] == ["layer", "0", "1", "2"]
    assert [ax.get_title(loc="left") for ax in fits.plot().axes] == ["layer 0", "layer 1", "layer 2"]
    found = fits.to_dataset()
    assert found["popt"].attrs["long_name"] == "fitted parameter"
    assert found["layer"].attrs["units"] == "1"


def test_a_picture_of_fits_shows_the_points_and_the_curve():
    fits = madyn.fit_curves(T, np.stack([RISE] * 30), hypothesis="step1")
    figure = fits.plot()
    assert len(figure.axes) == 12
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx(RISE)
    assert figure.axes[-1].get_title(loc="left") == "series 29"
    one = fits.plot(3)
    top, bottom = one.axes
    assert top.get_title(loc="left") == "series 3"
    assert bottom.lines[-1].get_ydata() == pytest.approx(fits.residuals[3])
    assert isinstance(madyn.fit_curves(T, RISE).plot(), Figure)
    with pytest.raises(madyn.MadynError, match="index"):
        fits.plot(30)
    with pytest.raises(madyn.MadynError, match="no series"):
        madyn.fit_curves(T, np.empty((0, len(T)))).plot()
    assert isinstance(madyn.fit_curves(T, np.full_like(T, np.nan)).plot(), Figure)
    assert isinstance(madyn.fit_curves(T, np.stack([RISE, np.full_like(T, np.nan)])).plot(), Figure)


def test_posteriors_show_intervals_and_the_run_to_its_planned_end():
    found = madyn.posterior(T[:12], np.stack([RISE[:12], np.full(12, np.nan)]), hypothesis="step1", last_step=60_000)
    page = check(found, 4)
    assert page.rows[0] == ["series", "parameter", "median", "lower", "upper"]
    assert page.rows[3] == ["1", "tau", "-", "-", "-"]
    table, interval = found.to_dataframe(0.5), found.interval(0.5)
    assert table["upper"].to_numpy() == pytest.approx(interval["upper"].values.ravel(), nan_ok=True)
    assert interval["median"].attrs["long_name"] == "median of the value"
    assert interval["lower"].attrs["units"]
    ax = found.plot().axes[0]
    assert ax.lines[0].get_ydata() == pytest.approx(RISE[:12])
    assert np.max(ax.lines[1].get_xdata()) == 60_000


def test_of_many_series_a_posterior_shows_the_first_ones_without_working_out_all():
    found = madyn.posterior(T, np.stack([RISE] * 100), hypothesis="step1")
    assert len(found.parts) > 2
    asked = []
    replaced = replace(found, parts=tuple(Counted(part, asked) for part in found.parts))
    page = check(replaced, MOST_ROWS)
    assert "... and 180 more rows" in page.text
    assert page.rows[1][2] == f"{float(found.interval()['median'][0, 0]):,.0f}"
    assert len(set(asked)) < len(found.parts)


class Counted:
    """A part that says when its draws are asked for."""

    def __init__(self, part, asked):
        self.part, self.asked, self.rows = part, asked, part.rows

    def quasi_draws(self):
        self.asked.append(id(self))
        return self.part.quasi_draws()


def test_predictors(predictor, family):
    assert check(madyn.Predictor()).rows == []
    page = check(predictor, 8)
    model = page.rows[1][0]
    last = family.trajectories(model, "ratio").isel(step=-1)
    assert page.rows[1][2] == f"{float(last.max()):.4g}"
    table = predictor.to_dataframe()
    assert list(table.columns) == ["model", "layer", "step", "measured", "predicted"]
    row = table.loc[(table["model"] == model) & (table["layer"] == 1)].iloc[-1]
    assert row["step"] == pytest.approx(100)
    assert row["measured"] == pytest.approx(float(last.sel(layer=1)))
    assert isinstance(predictor.plot(), Figure)
    shape = family.architecture(model)
    predicted = predictor.predict(shape)
    figure = predictor.plot(shape)
    assert figure.axes[1].lines[0].get_ydata() == pytest.approx(predicted.sel(layer=1, quantile=0.5).values)
    assert predicted["step"].attrs["units"] == "step"
    with pytest.raises(madyn.MadynError, match="not fitted"):
        madyn.Predictor().plot()
    with pytest.raises(madyn.MadynError, match="not fitted"):
        madyn.Predictor().to_dataframe()


def test_designs_and_evaluations(predictor, family):
    designs = madyn.design(predictor, minimize="max ratio")
    assert check(designs, min(MOST_ROWS, len(designs.table))).rows[0][0] == designs.table.columns[0]
    assert designs.to_dataframe().equals(designs.table)
    ax = designs.plot().axes[0]
    drawn = sorted(np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines]))
    assert drawn == pytest.approx(sorted(designs.table["objective"]))
    evaluation = madyn.evaluate(family, approaches=["nearest", "mean_curve"], jobs=1)
    check(evaluation, len(evaluation.scores))
    assert evaluation.to_dataframe().equals(evaluation.scores)
    assert len(evaluation.plot().axes) == 3


def test_comparisons_and_studies(tmp_path):
    compared = madyn.compare(write_dataset(tmp_path / "d", models=("net",)), hypotheses=["step1", "reparam"])
    assert [row[0] for row in check(compared, 2).rows] == ["hypothesis", "step1", "reparam"]
    assert compared.to_dataframe().equals(compared.layers)
    assert isinstance(compared.plot(), Figure)
    study = study_effects(write_family(tmp_path / "f", count=20, repeated=4))
    assert "Study of 28 models of 20 architectures" in repr(study)
    assert repr(study).count("\n") < 3
    assert check(study).rows[0][:2] == ["response", "factor"]
    assert study.to_dataframe().equals(study.responses)
    assert study.to_dataframe("sizes").equals(study.tables()["sizes"])
    with pytest.raises(madyn.MadynError, match="table is 'x'; it is one of responses, layers"):
        study.to_dataframe("x")
    assert isinstance(study.plot(), Figure)
    study.sizes.clear()
    with pytest.raises(madyn.MadynError, match="no effect sizes"):
        study.plot()


def test_controls():
    columns = {name: [1.0, 0.5] for name in ("ratio", "loss", "bits", "speed", "ratio_p", "loss_p")}
    for name in MEASURED:
        columns |= {f"{name}_{end}": [1.0, 0.6] for end in ("more" if name == "bits" else "times", "lower", "upper")}
    table = pd.DataFrame({"remedy": ["plain", "<gate>"], "seeds": 2, "diverged": 0, "front": True, **columns})
    control = Control(table, pd.DataFrame(), {})
    assert check(control, 2).rows[2][0] == "<gate>"
    assert control.to_dataframe().equals(table)
    assert isinstance(control.plot(), Figure)
    assert isinstance(control.plot(against_loss=True), Figure)


def test_a_dataset_draws_a_model_or_all(tmp_path):
    dataset = madyn.open_dataset(write_dataset(tmp_path))
    assert dataset.plot("pythia_14m", "median").axes[0].get_ylabel() == "median |h|"
    assert dataset.select("pythia_14m").plot().axes[0].get_ylabel() == "top 1 / median"
    assert dataset.plot().axes[0].get_xlabel() == "parameters"
    with pytest.raises(madyn.MadynError, match="no model to draw"):
        dataset.select([]).plot()
    write_statistics(layout.statistics_path(tmp_path, "unknown", 0), np.ones((1, 4, 2)))
    with pytest.raises(madyn.MadynError, match=r"plot\(model\) draws one model"):
        madyn.open_dataset(tmp_path).plot()


def test_what_has_no_picture_says_so():
    class Thing(Shown):
        def _shown(self, most):
            raise madyn.MadynError("nothing <is> known")

        def __repr__(self):
            return "<madyn Thing>"

    assert "nothing <is> known" in check(Thing()).text
    with pytest.raises(madyn.MadynError, match="no picture of a Thing"):
        Thing()._drawn()


def test_figures_are_shown_without_pyplot():
    figure: Any = madyn.fit_curves(T, RISE).plot()
    data, size = figure._repr_png_()
    assert data.startswith(b"\x89PNG")
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    assert (width / size["width"], height / size["height"]) == pytest.approx((2, 2), rel=0.01)


def test_in_ipython_a_table_and_a_picture_are_what_is_displayed():
    formatters = pytest.importorskip("IPython.core.formatters")
    display = formatters.DisplayFormatter()
    fits = madyn.fit_curves(T, RISE, hypothesis="step1")
    data, _ = display.format(fits)
    assert data["text/html"] == fits._repr_html_()
    assert data["text/plain"] == repr(fits)
    data, metadata = display.format(fits.plot())
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["width"] > 100


def test_no_room_loads_the_pictures_until_one_is_drawn(tmp_path):
    write_dataset(tmp_path, models=("net",))
    code = f"""
import sys, madyn
dataset = madyn.open_dataset({str(tmp_path)!r})
dataset._repr_html_()
before = "matplotlib" in sys.modules, "madyn.figures.obvious" in sys.modules
dataset.plot()
print(before, "madyn.figures.obvious" in sys.modules, "matplotlib.pyplot" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "(False, False) True False\n"


def test_a_predictor_has_scikit_learns_manners(predictor):
    sklearn_base = pytest.importorskip("sklearn.base")
    given = madyn.Predictor("mean_curve", seed=3)
    copy = sklearn_base.clone(given)
    assert copy is not given
    assert copy.get_params() == {"approach": "mean_curve", "seed": 3}
    fresh = sklearn_base.clone(predictor)
    with pytest.raises(madyn.MadynError, match="not fitted"):
        _ = fresh.state
    assert fresh.set_params(approach="mean_curve") is fresh
    assert fresh.approach == "mean_curve"
    with pytest.raises(madyn.MadynError, match="one of approach, seed"):
        fresh.set_params(depth=3)
    with pytest.raises(madyn.MadynError, match="seed"):
        fresh.set_params(seed=-1)
    assert fresh.seed == 0


def test_other_parameters_than_it_learned_with_unfit_a_predictor(family):
    learned = madyn.Predictor("mean_curve").fit(family)
    assert learned.set_params(approach="mean_curve").state is not None
    learned.set_params(seed=4)
    with pytest.raises(madyn.MadynError, match="not fitted"):
        _ = learned.state


def test_what_is_read_off_curves_and_forecasts_says_what_it_is(tmp_path):
    fits = madyn.fit_curves(T, np.stack([RISE, 2 * RISE]), hypothesis="step1")
    runs = write_dataset(tmp_path, models=("net",))
    found = {
        "quantities": madyn.curves.curve_quantities(fits, at=[1000]),
        "intervals": madyn.curves.quantity_intervals(fits, at=[1000]),
        "forecast": madyn.forecast(runs, "net", 10_000, prior="default"),
        "population": madyn.forecast(runs, "net", 10_000, prior="tiny-suite"),
    }
    for name, dataset in found.items():
        for key, part in {**dataset.coords, **dataset.data_vars}.items():
            assert set(part.attrs) >= {"long_name", "units"}, (name, key)
    assert found["forecast"]["median"].attrs == {"long_name": "median of what will be measured", "units": "1"}
