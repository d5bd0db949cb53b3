"""Forecasts of a run from a dataset: priors learned from finished runs, no look ahead, the command and its picture."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import madyn
from madyn.analysis import forecasting, kept
from madyn.analysis.forecasting import finished_runs
from madyn.curves.bayes.learning import learn_prior, levels
from madyn.curves.bayes.posteriors import posterior
from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.dataset import layout, open_dataset
from madyn.errors import SeriesError, UsageError
from madyn.figures.pictures.forecasts import forecast_figure
from tiny import write_dataset

STEPS = np.array([0, 1, 2, 4, 8, 16, 32, *range(60, 1201, 60)], float)
LAYERS = 3


def family(runs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Runs of one kind: they rise, peak about half-way and fall; each in three layers of its own size."""
    rng = np.random.default_rng(seed)
    y, labels = [], []
    for i in range(runs):
        beta, tau0 = np.exp(rng.normal(np.log(2.5 / 1200), 0.15)), np.exp(rng.normal(np.log(60), 0.3))
        size = np.exp(rng.normal(3, 1))
        for layer in range(LAYERS):
            clean = HYPOTHESES["reparam"].values(STEPS, [beta, tau0, 1.0, -np.log(tau0), 0.05])
            noise = 0.02 * np.max(clean) * rng.normal(size=STEPS.size)
            y.append(size * (1 + 0.2 * layer) * (clean + noise))
            labels.append(f"run{i}")
    return STEPS, np.array(y), labels


@pytest.fixture(scope="module")
def learned():
    t, y, runs = family(10)
    return learn_prior(t, y, runs=runs, seen=400)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("runs"), models=tuple(f"m{i}" for i in range(6)))


def test_a_learned_prior_has_what_the_runs_have_in_common(learned):
    assert learned.source == "learned from 10 finished runs"
    assert learned.units == "level"
    assert learned.mean[0] == pytest.approx(np.log(2.5), abs=0.4)
    assert learned.widening >= 1
    assert np.linalg.det(learned.cov) < 0.01 * np.linalg.det(madyn.curves.Prior.default().cov)


def test_a_young_run_borrows_from_old_ones(learned):
    t, y, _ = family(12, seed=9)
    seen = t <= 400
    young = y[:, seen]
    borrowed = posterior(t[seen], young, prior=learned, last_step=1200).forecast(t[~seen])
    alone = posterior(t[seen], young, last_step=1200).forecast(t[~seen])
    truth = y[:, ~seen]
    error = lambda bands: np.median(np.abs(bands["median"] - truth) / truth)  # noqa: E731
    assert error(borrowed) < 0.5 * error(alone)
    assert error(borrowed) < np.median(np.abs(young[:, -1:] - truth) / truth)
    inside = (borrowed["lower"] <= truth) & (truth <= borrowed["upper"])
    assert 0.8 < float(inside.mean()) < 0.99
    width = lambda bands: np.median(bands["upper"] - bands["lower"])  # noqa: E731
    assert width(borrowed) < 0.7 * width(alone)


def test_units_are_the_level_of_the_last_points_seen():
    y = np.array([[1.0, 2.0, np.nan, -4.0, 6.0, 80.0], [np.nan] * 6])
    found = levels(np.broadcast_to(np.arange(6.0), y.shape), y, seen=4)
    assert found[0] == 4.0
    assert np.isnan(found[1])


def test_a_prior_is_learned_from_four_runs_at_least():
    t, y, runs = family(3)
    with pytest.raises(SeriesError, match="at least 4 finished runs, and there are 3"):
        learn_prior(t, y, runs=runs)
    with pytest.raises(UsageError, match="2 labels of runs for 9 series"):
        learn_prior(t, y, runs=["a", "b"])
    with pytest.raises(UsageError, match=r"expected \(series, steps\)"):
        learn_prior(t, y[0])


def test_a_forecast_has_bands_peaks_and_what_came(root):
    found = madyn.forecast(root, "m2", at=5000)
    assert found["median"].dims == ("layer", "step")
    assert found["step"].values[0] == 6000
    assert found["step"].values[-1] == 20_000
    assert found["seen_step"].values[-1] == 5000
    assert (found["lower"] < found["median"]).all()
    assert (found["median"] < found["upper"]).all()
    assert found.attrs["prior"] == "learned from 5 finished runs"
    measured = open_dataset(root).trajectories("m2", "ratio").sel(step=slice(6000, None)).transpose("layer", "step")
    np.testing.assert_array_equal(found["measured"], measured)
    inside = (found["lower"] <= found["measured"]) & (found["measured"] <= found["upper"])
    assert inside.mean() > 0.7
    assert ((found["peak_ahead"] <= found["peak_inside"]) | found["peak_inside"].isnull()).all()


def test_any_steps_ahead_can_be_asked_for(root):
    every = madyn.forecast(root, "m2", at=5000)
    some = madyn.forecast(root, "m2", at=5000, steps=[20_000, 6000, 7500])
    assert some["step"].values.tolist() == [6000, 7500, 20_000]
    np.testing.assert_allclose(some["upper"].sel(step=6000), every["upper"].sel(step=6000))
    np.testing.assert_array_equal(some["measured"].isnull().all("layer"), [False, True, False])
    with pytest.raises(UsageError, match="lie after step 5000 and up to the last one, 20000"):
        madyn.forecast(root, "m2", at=5000, steps=[5000, 6000])


def test_nothing_after_the_step_and_nothing_of_the_model_itself_is_looked_at(tmp_path):
    root = write_dataset(tmp_path, models=tuple(f"m{i}" for i in range(5)))
    before = madyn.forecast(root, "m0", at=5000)
    for step, path in layout.statistics_files(root, "m0").items():
        if step > 5000:
            path.write_text(json.dumps((100 * np.array(json.loads(path.read_text()))).tolist()))
    after = madyn.forecast(root, "m0", at=5000)
    for name in ("median", "lower", "upper", "peak_step"):
        np.testing.assert_array_equal(after[name], before[name])
    assert (after["measured"] == before["measured"]).sum() == 0 or not np.array_equal(
        after["measured"], before["measured"]
    )


def test_runs_of_another_length_count_by_their_share(tmp_path):
    root = write_dataset(tmp_path, models=("a", "b"))
    write_dataset(root, models=("long",), steps=tuple(range(0, 40_001, 4000)))
    t, y, runs = finished_runs(open_dataset(root), "ratio", "sequences", 20_000.0, without="a")
    assert sorted(set(runs)) == ["b", "long"]
    assert t.max() == 20_000
    long = t[runs.index("long")]
    assert np.isin(np.arange(0, 20_001, 2000), long).all()
    assert np.isfinite(y[runs.index("long")]).sum() == 11
    assert set(finished_runs(open_dataset(root), "ratio", "sequences", 30_000.0)[2]) == {"long"}


def test_too_few_runs_fall_back_and_say_so(tmp_path):
    root = write_dataset(tmp_path, models=("a", "b"))
    write_dataset(tmp_path, models=("young",), steps=(0, 10, 100))
    found = madyn.forecast(root, "a", at=5000, last_step=30_000)
    assert re.fullmatch(
        r"learned from tiny-suite's 162 runs and \d+ of other recipes, as only 1 other run is finished",
        found.attrs["prior"],
    )
    assert found["step"].values[-1] == 20_000
    at_the_end = madyn.forecast(root, "a", at=20_000, last_step=30_000, prior="default")
    assert at_the_end.sizes["step"] == 12
    assert at_the_end["measured"].isnull().all()
    other = madyn.forecast(root, "a", at=5000, last_step=30_000, hypothesis="double_exponential")
    assert other.attrs["prior"] == (
        "default, as only 1 other run is finished and no prior comes with madyn for double_exponential"
    )
    with pytest.raises(UsageError, match="this prior is no curve, and peaks are read off reparam"):
        madyn.forecast(root, "a", at=5000, hypothesis="double_exponential", prior="tiny-suite")
    with pytest.raises(SeriesError, match="at least 4 finished runs"):
        madyn.forecast(root, "a", at=5000, prior="learn")


def test_wrong_questions_are_answered_with_what_to_ask(root):
    with pytest.raises(UsageError, match="no model 'x'; it has m0, m1"):
        madyn.forecast(root, "x", at=100)
    with pytest.raises(UsageError, match="nothing is left to forecast"):
        madyn.forecast(root, "m0", at=20_000)
    with pytest.raises(SeriesError, match="1 measured steps up to step 0; a forecast needs 2"):
        madyn.forecast(root, "m0", at=0)
    with pytest.raises(UsageError, match="unknown prior 'flat'"):
        madyn.forecast(root, "m0", at=5000, prior="flat")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="it is one of top1, top2"):
        madyn.forecast(root, "m0", at=5000, quantity="mean")


def test_the_command_prints_a_row_a_layer_and_writes_its_files(root, tmp_path, run):
    table, picture = tmp_path / "bands.csv", tmp_path / "bands.png"
    code, out, _ = run("forecast", str(root), "--at", "5000", "--model", "m1", "--out", str(table),
                       "--figure", str(picture))  # fmt: skip
    assert code == 0
    assert len(re.findall(r"^ +[012] .*\(.* to .*\)", out, re.MULTILINE)) == LAYERS
    assert "learned from 5 finished runs" in out
    assert re.search(r"measured later: \d+ of 45 points lie in their bands", out)
    assert table.read_text().splitlines()[0] == "layer,step,median,lower,upper,measured"
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, _, err = run("forecast", str(root), "--at", "5000", "--model", "m1", "--figure", str(tmp_path / "x.doc"))
    assert code == 2
    assert "not supported" in err


def test_a_picture_of_many_layers_shows_twelve_of_them(root):
    import xarray as xr

    one = madyn.forecast(root, "m1", at=5000, prior="default")
    many = xr.concat([one] * 6, dim="layer", data_vars="minimal").assign_coords(layer=np.arange(18))
    many.attrs = one.attrs
    titles = [ax.get_title(loc="left") for ax in forecast_figure(many).axes if ax.get_visible()]
    assert len(titles) == 12
    assert titles[0] == "layer 0"
    assert titles[-1] == "layer 17"


def test_what_cannot_be_negative_is_not_forecast_to_be(root):
    """A value that falls: with the wide prior a fifth of the bands would end below 0."""
    data = madyn.open_dataset(root)
    rng = np.random.default_rng(0)
    t = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512], float)
    falling = 30 * np.exp(-t / 100) * (1 + 0.05 * rng.standard_normal((3, t.size))) + 0.5
    wide = posterior(t, falling, last_step=5000.0).forecast([1000.0, 5000.0])
    assert (wide["lower"] < 0).any()
    kept = posterior(t, falling, prior=replace(madyn.curves.Prior.default(), positive=True), last_step=5000.0)
    for found in (kept.forecast([1000.0, 5000.0]), kept.value([1000.0, 5000.0]), kept.plateau()):
        assert (found["lower"] >= 0).all()
        assert (found["lower"] <= found["median"]).all()
        assert (found["median"] <= found["upper"]).all()
    for prior in ("default", "learn", madyn.curves.Prior.default()):
        found = madyn.forecast(data, "m1", at=300, quantity="median", prior=prior)  # pyright: ignore[reportArgumentType]
        assert (found["lower"] > 0).all()
        assert (found["plateau"].sel(bound="lower") >= 0).all()


def test_a_learned_prior_is_kept_for_the_next_forecast(root, monkeypatch):
    first = madyn.forecast(root, "m1", at=5000)
    (path,) = kept.folder().iterdir()
    calls = []
    monkeypatch.setattr(forecasting, "learn_prior", lambda *a, **k: calls.append(a) or learn_prior(*a, **k))
    assert madyn.forecast(root, "m1", at=5000).equals(first)
    assert not calls
    assert len(madyn.forecast(root, "m2", at=5000)["layer"]) == LAYERS  # learned from other runs
    assert len(calls) == 1
    madyn.forecast(root, "m1", at=6000)
    assert len(calls) == 2
    assert len(list(kept.folder().iterdir())) == 3
    monkeypatch.setattr(madyn, "__version__", "another")
    madyn.forecast(root, "m1", at=5000)
    assert len(calls) == 3
    assert path.exists()


@pytest.mark.parametrize("spoil", [
    lambda text: text[: len(text) // 2],
    lambda text: "[1, 2]",
    lambda text: text.replace('"format": 1', '"format": 2'),
    lambda text: text.replace('"key": "', '"key": "0'),
    lambda text: json.dumps({**json.loads(text), "mean": [0.0]}),
    lambda text: json.dumps({**json.loads(text), "cov": [[1.0, 0.0], [0.0, -1.0]]}),
    lambda text: json.dumps({**json.loads(text), "units": "miles"}),
    lambda text: json.dumps({**json.loads(text), "widening": "wide"}),
    lambda text: json.dumps({**json.loads(text), "more": 1}),
    lambda text: text.replace('"growth": 0.', '"growth": NaN, "x": 0.'),
])  # fmt: skip
def test_a_damaged_or_foreign_prior_is_learned_again(spoil):
    t, y, runs = family(4)
    prior = learn_prior(t, y[:, :], runs=runs, seen=400)

    def once() -> kept.Prior:
        return kept.learned_once(lambda: prior, HYPOTHESES["reparam"], [t, y], {"seen": 400})

    assert once() is prior
    (path,) = kept.folder().iterdir()
    sound = path.read_text()
    again = once()
    assert again is not prior
    np.testing.assert_array_equal(again.cov, prior.cov)
    assert (again.lengths, again.log_sigma, again.widening) == (prior.lengths, prior.log_sigma, prior.widening)
    path.write_text(spoil(sound))
    assert once() is prior
    assert path.read_text() == sound


def test_a_kept_prior_has_the_names_that_files_have_always_had():
    """What is `proportional_share` in code is "growth" in files, so that those of before are read."""
    prior = madyn.curves.Prior.default("step1")
    assert kept.learned_once(lambda: prior, HYPOTHESES["step1"], [STEPS], {}) is prior
    (path,) = kept.folder().iterdir()
    content = json.loads(path.read_text())
    assert set(content) == {
        "format", "key", "mean", "cov", "linear_mean", "linear_slope", "linear_cov", "log_sigma", "lengths", "growth",
        "units", "center", "scale", "widening", "positive", "source",
    }  # fmt: skip
    path.write_text(json.dumps({**content, "growth": 0.25}))
    again = kept.learned_once(lambda: prior, HYPOTHESES["step1"], [STEPS], {})
    assert again.proportional_share == 0.25


def test_a_prior_that_cannot_be_kept_is_used(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept, "folder", lambda: tmp_path / "file" / "priors")
    prior = madyn.curves.Prior.default("step1")
    assert kept.learned_once(lambda: prior, HYPOTHESES["step1"], [STEPS], {}) is prior


def test_no_band_of_a_forecast_is_clipped_and_no_layer_stands_alone(root):
    import xarray as xr

    one = madyn.forecast(root, "m1", at=5000, prior="default")
    many = one.isel(layer=[0, 1, 2, 0, 0]).assign_coords(layer=np.arange(5))
    larger = xr.DataArray([1.0, 7.0, 3.0, 1.0, 1.0], {"layer": np.arange(5)}, ("layer",))  # not in the first panel
    many = many.assign({name: many[name] * larger for name in ("lower", "median", "upper", "seen", "measured")})
    many.attrs = one.attrs
    panels = [ax for ax in forecast_figure(many).axes if ax.get_visible()]
    for ax, layer in zip(panels, many["layer"].values, strict=True):
        low, high = ax.get_ylim()
        drawn = many.sel(layer=layer)
        assert low <= min(0, float(drawn["lower"].min()))
        assert high > float(np.nanmax([drawn["upper"].max(), drawn["measured"].max()]))
    heights = [round(ax.get_position().y0, 3) for ax in panels]
    assert [heights.count(height) for height in dict.fromkeys(heights)] == [3, 2]
