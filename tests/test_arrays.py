"""Arrays as users have them: masks, labels, types and byte orders, each against the plain float64 array it is."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.optimize import least_squares

import madyn
from madyn import arrays
from madyn.curves.bayes.learning import learn_prior
from madyn.curves.bayes.priors import Prior
from madyn.errors import UsageError
from madyn.prediction.inputs import as_steps

STEPS = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(1000, 10_001, 1000)], float)
N = STEPS.size  # 21 steps


def series(count: int = N, seed: int = 0) -> np.ndarray:
    """(count, N) noisy step responses; as many as steps by default, so that only names tell the axes apart."""
    rng = np.random.default_rng(seed)
    tau, height = np.exp(rng.uniform(4, 8, (count, 1))), np.exp(rng.uniform(0, 3, (count, 1)))
    return height * (1 - np.exp(-STEPS / tau)) + 0.02 * height * rng.standard_normal((count, N))


def same(found, expected) -> None:
    """Two fits, in every number."""
    for name in ("popt", "pcov", "r2", "residuals", "weights", "steps"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def square() -> xr.DataArray:
    """As many layers as steps, in the order of `Dataset.trajectories`."""
    return xr.DataArray(series().T, {"step": STEPS.astype(int), "layer": np.arange(N)}, ("step", "layer"))


def brute(t: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(tau, K) of the step response by SciPy, from a start near the answer."""
    start = [np.interp(0.63 * y[-1], y, t) if y[-1] > 0 else 100.0, y[-1]]
    found = least_squares(lambda p: p[1] * (1 - np.exp(-t / p[0])) - y, start, x_scale=np.abs(start), xtol=1e-14,
                          ftol=1e-14, gtol=1e-14)  # fmt: skip
    return found.x


def test_a_masked_point_is_left_out():
    y, gone = series(4), np.random.default_rng(1).random((4, N)) < 0.2
    masked = np.ma.array(np.where(gone, 1e6, y), mask=gone)
    fits = madyn.fit_curves(STEPS, masked, "step1")
    same(fits, madyn.fit_curves(STEPS, np.where(gone, np.nan, y), "step1"))
    for i in range(4):
        kept = ~gone[i]
        np.testing.assert_allclose(fits.popt[i], brute(STEPS[kept], y[i][kept]), rtol=1e-5)
        assert fits.num_points[i] == kept.sum()


def test_a_list_of_masked_rows_keeps_their_masks():
    y, gone = series(2), np.zeros((2, N), bool)
    gone[:, 3] = True
    rows = [np.ma.array(np.where(g, 1e6, row), mask=g) for row, g in zip(y, gone, strict=True)]
    same(madyn.fit_curves(STEPS, rows, "step1"), madyn.fit_curves(STEPS, np.where(gone, np.nan, y), "step1"))


def test_a_masked_step_is_a_missing_point():
    y, gone = series(3), np.isin(np.arange(N), [2, 20])
    fits = madyn.fit_curves(np.ma.array(np.where(gone, -7, STEPS), mask=gone), y, "step1")
    same_data = madyn.fit_curves(STEPS, np.where(gone, np.nan, y), "step1")
    np.testing.assert_array_equal(fits.popt, same_data.popt)
    np.testing.assert_allclose(fits.popt[0], brute(STEPS[~gone], y[0][~gone]), rtol=1e-5)
    assert np.isnan(fits.residuals[:, gone]).all()
    assert fits.predict(np.ma.array([5.0, 9.0], mask=[False, True])).shape == (3, 2)


def test_a_masked_weight_is_no_weight():
    y, weights, gone = series(3), np.ones(N), np.isin(np.arange(N), [4, 5])
    masked = np.ma.array(np.where(gone, 1e9, weights), mask=gone)
    same(
        madyn.fit_curves(STEPS, y, "step1", weights=masked),
        madyn.fit_curves(STEPS, y, "step1", weights=np.where(gone, 0.0, weights)),
    )
    kept = ~gone
    same(
        madyn.fit_curves(STEPS, y, "step1", weights=kept),
        madyn.fit_curves(STEPS, y, "step1", weights=kept.astype(float)),
    )


def test_a_square_labelled_array_is_read_by_its_names():
    y = square()
    expected = madyn.fit_curves(STEPS, y.values.T, "step1")
    assert np.median(expected.r2) > 0.9
    for t in (None, STEPS, STEPS.astype(np.int32), y["step"], list(STEPS)):
        same(madyn.fit_curves(t, y, "step1"), expected)
        same(madyn.fit_curves(t, y.transpose("layer", "step"), "step1"), expected)
    np.testing.assert_allclose(expected.popt[0], brute(STEPS, y.values[:, 0]), rtol=1e-5)


@pytest.mark.parametrize("call", [
    lambda t, y: madyn.curves.kfold_scores(t, y, "step1").error,
    lambda t, y: madyn.curves.holdout_scores(t, y, "step1").error,
    lambda t, y: madyn.posterior(t, y, "step1").value([300.0])["median"].values,
])  # fmt: skip
def test_every_reader_of_series_reads_labels_and_masks(call):
    y = square()[:, :4]
    expected = call(STEPS, y.values.T)
    np.testing.assert_array_equal(call(None, y), expected)
    np.testing.assert_array_equal(call(STEPS, y.to_pandas()), expected)
    gone = np.zeros(y.shape, bool)
    gone[3:5] = True
    holes = call(STEPS, np.where(gone, np.nan, y.values).T)
    assert not np.array_equal(holes, expected)
    np.testing.assert_array_equal(call(STEPS, np.ma.array(np.where(gone, 1e6, y), mask=gone).T), holes)


def test_other_dimensions_lead_and_are_given_back_by_name():
    y = square().expand_dims(seed=["a", "b"], axis=1).assign_coords(width=("layer", np.arange(N) * 2))
    y = y[:, :, :3]
    fits = madyn.fit_curves(None, y, "step1")
    assert fits.popt.shape == (2, 3, 2)
    labelled = fits.to_dataset()
    assert labelled["r2"].dims == ("seed", "layer")
    assert labelled["seed"].values.tolist() == ["a", "b"]
    assert labelled["width"].dims == ("layer",)
    np.testing.assert_array_equal(labelled["residuals"].sel(seed="a", layer=2), fits.residuals[0, 2])
    assert fits.to_dataset(dims=("x", "y"))["r2"].dims == ("x", "y")
    assert madyn.fit_curves(STEPS, series(2), "step1").to_dataset()["r2"].dims == ("series",)
    belief = madyn.posterior(None, y.isel(seed=0), "step1")
    assert belief.forecast([20_000.0])["median"].dims == ("layer", "step")


def test_a_dimension_called_as_the_results_own_gives_way():
    y = square()[:, :2].rename(layer="quantity").assign_coords(quantity=["top1", "ratio"])
    assert madyn.fit_curves(None, y, "step1").to_dataset()["r2"].dims == ("quantity",)
    peak = madyn.posterior(None, y).peak()
    assert peak["median"].dims == ("series_quantity", "quantity")
    assert peak["series_quantity"].values.tolist() == ["top1", "ratio"]


def test_pandas_goes_by_the_name_of_an_index():
    y = series(N)
    expected = madyn.fit_curves(STEPS, y, "step1")
    wide = pd.DataFrame(y, columns=pd.Index(STEPS, name="step"))
    same(madyn.fit_curves(None, wide, "step1"), expected)
    same(madyn.fit_curves(None, wide.T, "step1"), expected)
    same(madyn.fit_curves(STEPS, wide.T, "step1"), expected)
    unnamed = pd.DataFrame(y.T, index=STEPS, columns=[f"layer {i}" for i in range(N)])
    same(madyn.fit_curves(STEPS, unnamed, "step1"), expected)
    assert madyn.fit_curves(STEPS, unnamed, "step1").to_dataset()["series"].values[0] == "layer 0"
    one = pd.Series(y[0], index=pd.Index(STEPS, name="step"))
    same(madyn.fit_curves(None, one, "step1"), madyn.fit_curves(STEPS, y[0], "step1"))
    table = pd.DataFrame({"tokens": STEPS, "ratio": y[0]})
    same(madyn.fit_curves(table["tokens"], table["ratio"], "step1"), madyn.fit_curves(STEPS, y[0], "step1"))
    pivot = wide.set_axis(pd.MultiIndex.from_tuples([("m", i) for i in range(N)], names=["model", "layer"]))
    labels = madyn.fit_curves(None, pivot, "step1").to_dataset()
    assert labels["model"].dims == labels["layer"].dims == ("series",)


def test_weights_follow_their_labels():
    y = square()
    weights = np.random.default_rng(3).random((N, N))
    expected = madyn.fit_curves(STEPS, y.values.T, "step1", weights=weights.T)
    labelled = xr.DataArray(weights, y.coords, y.dims)
    same(madyn.fit_curves(None, y, "step1", weights=labelled.T), expected)
    same(madyn.fit_curves(None, y, "step1", weights=weights), expected)  # in the axes' order, as y was given
    same(madyn.fit_curves(None, y.to_pandas(), "step1", weights=labelled.to_pandas().T), expected)
    by_layer = xr.DataArray(np.arange(1.0, N + 1), {"layer": np.arange(N)}, ("layer",))
    np.testing.assert_array_equal(madyn.fit_curves(None, y, "step1", weights=by_layer).weights[:, 0], by_layer)
    with pytest.raises(UsageError, match="different labels along step"):
        madyn.fit_curves(None, y, "step1", weights=labelled.assign_coords(step=STEPS + 1))


def test_steps_of_their_own_follow_their_labels():
    y = square()[:, :3]
    t = xr.DataArray(STEPS[:, None] * [1.0, 2.0, 3.0], y.coords, y.dims)
    same(madyn.fit_curves(t.T, y, "step1"), madyn.fit_curves(t.values.T, y.values.T, "step1"))
    same(madyn.fit_curves(t.values, y, "step1"), madyn.fit_curves(t.values.T, y.values.T, "step1"))


@pytest.mark.parametrize(("t", "y", "said"), [
    (STEPS, lambda: xr.DataArray(series(), dims=("a", "b")), "which of them are the steps cannot be told"),
    (STEPS, lambda: pd.DataFrame(series()), "which of them are the steps cannot be told"),
    (None, lambda: series(), "no steps: give them as t"),
    (None, lambda: pd.Series(series()[0], index=STEPS), "no steps: give them as t"),
    (STEPS[::-1], square, "in another order"),
    (lambda: square()["step"][::-1], square, "different labels along step"),
    (lambda: pd.Series(STEPS, [*"bcdefghijklmnopqrstua"]), lambda: pd.Series(series()[0], [*"abcdefghijklmnopqrstu"]),
     "in another order"),
    (STEPS, lambda: [pd.Series(row) for row in series(2)], "a list of labelled arrays"),
    (STEPS, lambda: square().to_dataset(name="ratio"), "are a Dataset"),
    (STEPS, lambda: square().stack(place=("step", "layer")), "unstack"),
    (STEPS, lambda: series() + 1j, "complex numbers"),
    (STEPS, lambda: series().astype(str), "are text"),
    (STEPS, lambda: series(2).astype(str).tolist(), "are text"),
    (STEPS, lambda: series() > 1, "truth values"),
    (STEPS.astype("M8[s]"), series, "dates"),
    (STEPS, lambda: np.array([1.0, "2", *range(N - 2)], object), "'2'"),
    (STEPS, lambda: [10**400, *range(N - 1)], "beyond the largest number"),
    (STEPS, lambda: [[1.0] * N, [1.0] * (N - 1)], "array of numbers"),
    (STEPS[:-1], square, "the last axis must have one value for each of 20 steps"),
])  # fmt: skip
def test_what_cannot_be_told_or_read_is_refused(t: Any, y, said):
    given: Any = t() if callable(t) else t
    with pytest.raises(UsageError, match=said):
        madyn.fit_curves(given, y(), "step1")


@pytest.mark.parametrize("kind", [">f8", "<f4", ">f4", "f2", "i4", ">i2", "u1", "O", "longdouble"])
def test_number_types_and_byte_orders_are_those_of_float64(kind):
    t, y = np.arange(N) * 10, np.round(series(3) * 4)
    t, y = t.astype(kind), np.abs(y).astype(kind)
    t.flags.writeable = y.flags.writeable = False
    same(madyn.fit_curves(t, y, "step1"), madyn.fit_curves(t.astype(float), y.astype(float), "step1"))
    strided = np.repeat(np.asfortranarray(y), 2, axis=1)[:, ::2]
    same(madyn.fit_curves(t, strided, "step1"), madyn.fit_curves(t.astype(float), y.astype(float), "step1"))


def test_steps_past_the_reach_of_int32_do_not_wrap():
    t = (STEPS / STEPS[-1] * (2**31 - 1)).astype(np.int32)
    fits = madyn.fit_curves(t, series(3), "step1")
    np.testing.assert_array_equal(fits.popt, madyn.fit_curves(t.astype(float), series(3), "step1").popt)


def test_numbers_that_pandas_may_miss_are_missing():
    y = np.round(series(2) * 100)
    gone = np.isin(np.arange(N), [3, 7])
    expected = madyn.fit_curves(STEPS, np.where(gone, np.nan, y), "step1")
    table = pd.DataFrame(y.T, index=pd.Index(STEPS, name="step")).astype("Int64")
    table[gone] = pd.NA
    same(madyn.fit_curves(None, table, "step1"), expected)
    objects = y.astype(object)
    objects[:, gone] = None
    same(madyn.fit_curves(STEPS, objects, "step1"), expected)
    one: Any = table[0].array
    same(madyn.fit_curves(STEPS, one, "step1"), madyn.fit_curves(STEPS, np.where(gone, np.nan, y[0]), "step1"))
    steps = pd.Series(STEPS).astype("Int64")
    steps[gone] = pd.NA
    np.testing.assert_array_equal(madyn.fit_curves(steps, y, "step1").popt, expected.popt)


def test_tensors_are_read():
    torch = pytest.importorskip("torch")
    y = torch.tensor(series(2), dtype=torch.float32, requires_grad=True)
    same(madyn.fit_curves(STEPS, y, "step1"), madyn.fit_curves(STEPS, y.detach().double().numpy(), "step1"))
    half = y.to(torch.bfloat16)
    same(madyn.fit_curves(STEPS, half, "step1"), madyn.fit_curves(STEPS, half.detach().double().numpy(), "step1"))


def test_order_and_repetition_of_points_change_nothing():
    y = series(3)
    shuffled = np.random.default_rng(5).permutation(N)
    fits = madyn.fit_curves(STEPS[shuffled], y[:, shuffled], "step1")
    np.testing.assert_allclose(fits.popt, madyn.fit_curves(STEPS, y, "step1").popt, rtol=1e-9)
    twice = madyn.fit_curves(np.r_[STEPS, STEPS], np.c_[y, y], "step1")
    np.testing.assert_allclose(twice.popt, madyn.fit_curves(STEPS, y, "step1").popt, rtol=1e-9)
    for scores in (madyn.curves.kfold_scores, madyn.curves.holdout_scores):
        np.testing.assert_allclose(
            scores(STEPS[shuffled], y[:, shuffled], "step1").error, scores(STEPS, y, "step1").error, rtol=1e-9
        )


def test_a_prior_is_learned_from_points_in_any_order():
    y, runs = series(8), [f"run{i}" for i in range(8)]
    expected = learn_prior(STEPS, y, "step1", runs, seen=100)
    shuffled = np.random.default_rng(2).permutation(N)
    found = learn_prior(STEPS[shuffled], y[:, shuffled], "step1", runs, seen=100)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-8)
    assert found.widening == pytest.approx(expected.widening, rel=1e-6)
    labelled = xr.DataArray(y.T, {"step": STEPS, "run": runs}, ("step", "run"))
    by_name = learn_prior(None, labelled, "step1", labelled["run"], seen=100)
    np.testing.assert_array_equal(by_name.mean, expected.mean)
    with pytest.raises(UsageError, match="one value for each of"):
        learn_prior(STEPS[:-1], y, "step1", runs)
    with pytest.raises(UsageError, match="ascending"):
        Prior.default("step1").given().sample(3, STEPS[::-1])


def test_parameters_are_taken_by_name():
    fits = madyn.fit_curves(STEPS, series(4), "step1")
    expected = madyn.curves.curve_quantities("step1", fits.popt, 10_000, at=[50.0])
    labelled = fits.to_dataset()["popt"]
    mixed = labelled.isel(parameter=[1, 0]).transpose("parameter", "series")
    table = pd.DataFrame(fits.popt, columns=["tau", "K"])[["K", "tau"]].assign(model="m")
    for params in (labelled, mixed, table, np.ma.array(fits.popt, mask=False)):
        found = madyn.curves.curve_quantities("step1", params, 10_000, at=[50.0])
        np.testing.assert_array_equal(found["half_rise_step"], expected["half_rise_step"])
        np.testing.assert_array_equal(found["value"], expected["value"])
    np.testing.assert_array_equal(fits.hypothesis.values([50.0], mixed), fits.hypothesis.values([50.0], fits.popt))
    noise = xr.DataArray(np.full(4, 1e9), dims=("series",))
    assert set(madyn.curves.curve_quantities("step1", labelled, 10_000, noise=noise)["class"].values) == {"flat"}
    with pytest.raises(UsageError, match="needed are tau, K"):
        madyn.curves.curve_quantities("step1", labelled.assign_coords(parameter=["tau", "A"]), 10_000)
    with pytest.raises(UsageError, match="expected one number a series"):
        madyn.curves.curve_quantities("step1", fits.popt, 10_000, noise=np.ones(3))


def test_a_square_of_parameters_is_read_by_its_names():
    popt = madyn.fit_curves(STEPS, series(2), "step1").to_dataset()["popt"].rename(series="layer")  # 2 layers x 2
    expected = madyn.curves.curve_quantities("step1", popt.values, 10_000)["plateau"].values
    np.testing.assert_array_equal(madyn.curves.curve_quantities("step1", popt.T, 10_000)["plateau"], expected)
    assert madyn.curves.curve_quantities("step1", popt.T, 10_000)["plateau"].dims == ("layer",)


def test_draws_are_read_by_their_names():
    draws = np.abs(np.random.default_rng(0).normal(5, 1, (2, 2, 2)))
    labelled = xr.DataArray(draws, {"parameter": ["tau", "K"]}, ("layer", "draw", "parameter"))
    expected = madyn.curves.quantity_intervals("step1", draws, 10.0)["plateau"].values
    found = madyn.curves.quantity_intervals("step1", labelled.transpose("draw", "parameter", "layer"), 10.0)["plateau"]
    np.testing.assert_array_equal(found, expected)
    assert found.dims == ("layer", "bound")
    with pytest.raises(UsageError, match="labelled with 'draw'"):
        madyn.curves.quantity_intervals("step1", labelled.rename(draw="sample"), 10.0)


def test_steps_of_a_prediction_are_one_row_of_numbers():
    row = [0, 300, 3000]
    for given in (row, pd.Series(row, dtype="Int64"), xr.DataArray(row, dims="step"), np.ma.array(row),
                  np.array(row, ">i2"), pd.Index(row)):  # fmt: skip
        assert as_steps(given).tolist() == row
    bad: Any
    for bad in (
        np.ma.array(row, mask=[False, True, False]),
        pd.Series([1, pd.NA], dtype="Int64"),
        [[1, 2]],
        ["1"],
        [1j],
        "many",
    ):
        with pytest.raises(UsageError, match="steps"):
            as_steps(bad)


def test_token_ids_are_whole_and_in_their_order():
    ids = np.arange(6).reshape(2, 3)
    given: Any
    for given in (ids, ids.astype(">i4"), ids.astype(np.uint16), ids.tolist(), pd.DataFrame(ids),
                  xr.DataArray(ids.T, dims=("position", "sequence")), np.ma.array(ids),
                  pd.DataFrame(ids, dtype="Int64")):  # fmt: skip
        found = arrays.whole_numbers(given, "input_ids", "sequence")
        np.testing.assert_array_equal(found, ids)
        assert found.dtype == np.int64
    with pytest.raises(UsageError, match="1 of the input_ids are masked"):
        arrays.whole_numbers(np.ma.array(ids, mask=ids == 3), "input_ids", "sequence")
    with pytest.raises(UsageError, match="1 of the input_ids are missing"):
        arrays.whole_numbers(pd.DataFrame(ids, dtype="Int64").replace(3, pd.NA), "input_ids", "sequence")
    with pytest.raises(UsageError, match="call the one that goes first 'sequence'"):
        arrays.whole_numbers(xr.DataArray(ids, dims=("a", "b")), "input_ids", "sequence")
    assert arrays.whole_numbers([[0.5]], "input_ids", "sequence").dtype == float


def test_a_model_is_measured_on_ids_as_they_are_labelled():
    torch = pytest.importorskip("torch")
    from madyn.lab.blueprints import Blueprint, build_model

    model = build_model(Blueprint(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32),
                        0, 300, 32, 0)  # fmt: skip
    ids = np.random.default_rng(0).integers(0, 300, (6, 6))
    expected = madyn.measure(model, torch.tensor(ids))
    read_only = ids.astype(">u2")
    read_only.flags.writeable = False
    for given in (xr.DataArray(ids.T, dims=("position", "sequence")), read_only, pd.DataFrame(ids)):
        np.testing.assert_array_equal(madyn.measure(model, given), expected)
    masked = np.ma.array(ids, mask=np.eye(6) * (np.arange(6) == 0))  # the first id of the first sequence is padding
    np.testing.assert_array_equal(madyn.measure(model, masked)[:1], madyn.measure(model, torch.tensor(ids[:1, 1:])))
    with pytest.raises(UsageError, match="sequence 2 has zeros between tokens"):
        madyn.measure(model, np.ma.array(ids, mask=np.eye(6) * (np.arange(6) == 2)))
