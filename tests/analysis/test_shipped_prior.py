"""The prior that comes with madyn: what made it, how it does on real young runs, and damaged files."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import madyn
from madyn.analysis.shipped_prior import PATH, shipped_population, write_shipped
from madyn.curves.population.learning import learn_population
from madyn.curves.population.outlook import look_ahead
from madyn.dataset import open_dataset
from madyn.errors import DatasetError, UsageError
from madyn.summaries.forecasting import decided

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def maker():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import default_prior
    finally:
        sys.path.remove(str(BENCHMARKS))
    return default_prior


@pytest.fixture(scope="module")
def suite():
    return open_dataset("tiny-suite")


def test_the_shipped_numbers_are_those_that_are_made_of_the_runs(maker, suite):
    groups = [maker.architectures(suite, "ratio"), maker.recipes("ratio")]
    known = [[replace(run, kinds=()) for run in group] for group in groups]  # the widths take a minute
    made, shipped = learn_population(groups[0][0].steps / 3000, known), shipped_population("ratio")
    for name in ("shares", "mean", "cov"):
        np.testing.assert_allclose(getattr(shipped, name), getattr(made, name), rtol=1e-5, atol=1e-9)
    assert shipped.source == f"learned from tiny-suite's 162 runs and {len(groups[1])} of other recipes"


def test_a_young_run_of_tiny_suite_is_covered_by_what_the_others_say(maker, suite):
    every = maker.architectures(suite, "top1")
    inside, errors, carried = [], [], []
    left_out = range(0, 162, 18)
    for i in left_out:
        others = [replace(run, kinds=()) for j, run in enumerate(every) if j // 3 != i // 3]  # three seeds of each
        own = learn_population(every[0].steps / 3000, [others])
        shipped = shipped_population("top1")
        own = replace(own, dof=shipped.dof, firmness=shipped.firmness, widening=shipped.widening, growth=shipped.growth)
        t, y = every[i].steps, every[i].values
        seen = t <= 900
        bands = look_ahead(own, t[seen], y[:, seen], 3000).forecast(t[~seen])
        inside.append(((bands["lower"] <= y[:, ~seen]) & (y[:, ~seen] <= bands["upper"])).values.mean())
        errors.append(np.median(np.abs(bands["median"] / y[:, ~seen] - 1)))
        carried.append(np.median(np.abs(y[:, seen][:, -1:] / y[:, ~seen] - 1)))
    assert np.mean(inside) > 0.8
    assert np.mean(errors) < 0.3 * np.mean(carried)


@pytest.mark.parametrize("quantity", ["ratio", "top1", "median"])
def test_small_runs_are_forecast_better_than_by_their_last_value(quantity):
    table = pd.read_csv(BENCHMARKS / "data" / "small_runs.csv")
    errors, carried, inside = [], [], []
    for _, rows in table.groupby("model"):
        series = rows.pivot_table(index="layer", columns="step", values=quantity)
        t, y = series.columns.to_numpy(float), series.to_numpy()
        seen = t <= 0.3 * t[-1]
        bands = look_ahead(shipped_population(quantity), t[seen], y[:, seen], t[-1]).forecast(t[~seen])
        errors.append(np.abs(bands["median"].values / y[:, ~seen] - 1).ravel())
        carried.append(np.abs(y[:, seen][:, -1:] / y[:, ~seen] - 1).ravel())
        inside.append(((bands["lower"] <= y[:, ~seen]) & (y[:, ~seen] <= bands["upper"])).values.ravel())
    assert np.median(np.concatenate(errors)) < np.median(np.concatenate(carried))
    assert np.mean(np.concatenate(inside)) > 0.8


def test_a_dataset_without_finished_runs_is_forecast_from_it(tmp_path, suite, run):
    found = madyn.forecast(
        suite, "neox_2x128_h1_m256_s0", 600, prior="tiny-suite", thresholds=[15, 25, 1000], level=0.99
    )
    assert found.attrs["prior"].startswith("learned from tiny-suite's 162 runs")
    assert (found["lower"] < found["median"]).all()
    assert found["exceed"].dims == ("layer", "threshold")
    assert (found["exceed"].diff("threshold") <= 0).all()
    assert found["exceed"].sel(threshold=15).values.tolist() == [1.0, 1.0]  # it has been above
    assert (found["exceed_any"] >= found["exceed"].max("layer") - 1e-9).all()
    assert float(found["exceed_any"].sel(threshold=1000)) < 0.001
    for name in ("peak_step", "peak_height", "plateau", "peak_inside"):
        assert np.isfinite(found[name]).any()
    assert decided(found)[0] == "layers 0, 1: ratio has been above 15 already"
    assert decided(found)[2] == "no layer's ratio will pass 1000 in this run: more than 99.9 %"
    code, out, _ = run("forecast", "tiny-suite", "--model", "neox_2x128_h1_m256_s0", "--at", "600",
                       "--prior", "tiny-suite", "--quantity", "top1", "--threshold", "1e6")  # fmt: skip
    assert code == 0
    assert "no layer's top1 will pass 1e+06 in this run: more than 99.9 %" in " ".join(out.split())


def test_top2_and_top3_go_by_top1_and_others_are_refused():
    assert shipped_population("top3") is shipped_population("top1")
    with pytest.raises(UsageError, match="no prior comes with madyn for loss; there is one for ratio, top1, median"):
        shipped_population("loss")


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda content: content.pop("shares"), "shares"),
    (lambda content: content.update(format=2), "format"),
    (lambda content: content["shares"].reverse(), "ascend from 0 to 1"),
    (lambda content: content["quantities"]["top1"].update(mean=["a"]), "mean"),
    (lambda content: content["quantities"]["top1"].update(dof="5"), "dof"),
    (lambda content: content["quantities"]["top1"].update(dof=1.0), "dof is 1, which is out of its range"),
    (lambda content: content["quantities"]["top1"]["cov"].pop(), "not 37 rows"),
    (lambda content: content["quantities"]["top1"]["cov"][5].append(1.0), "not 37 rows"),
    (lambda content: content["quantities"].update(loss={}), "loss"),
])  # fmt: skip
def test_a_damaged_file_is_refused_in_one_line(tmp_path, spoil, said):
    content = json.loads(PATH.read_text())
    spoil(content)
    path = tmp_path / "young-runs.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=said) as caught:
        shipped_population("top1", path)
    assert "\n" not in str(caught.value)


def test_what_is_written_is_read(tmp_path):
    own = {name: shipped_population(name) for name in ("ratio", "top1", "median")}
    write_shipped(tmp_path / "again.json", own)
    assert (tmp_path / "again.json").read_bytes() == PATH.read_bytes()
    assert PATH.stat().st_size < 50_000


def test_a_run_that_falls_ever_faster_has_no_plateau_and_a_forecast():
    t = np.linspace(0, 2900, 30)
    found = look_ahead(shipped_population("top1"), t, np.array([10 - 9.9 * (t / 2900) ** 4]), 3000.0)
    assert np.isnan(found.plateau()["median"]).all()
    assert 0 < found.forecast([3000.0])["median"].item() < 1
