"""Every way of saying "missing", and every number that is none, in every public function that takes arrays.

A matrix: kinds of input by functions. Either the result is that of the plain float64 array with nan where a point is
missing, or what cannot be is told: of one series in its message, of an argument in one short UsageError that names it.
Nothing warns, nothing else is raised, and no parameter is absurd.
"""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import madyn
from madyn.curves.bayes.priors import Prior
from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.errors import MadynError, SeriesError, UsageError
from madyn.prediction.inputs import as_steps

pytestmark = pytest.mark.filterwarnings("error")

N = 16
STEPS = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000, 4000, 5000], float)
GONE = np.isin(np.arange(N), [2, 9])
SERIES = 5


def whole_series() -> np.ndarray:
    """(5, N) noisy step responses, whole numbers, that integers and 16 bits hold as they are."""
    rng = np.random.default_rng(0)
    tau, height = np.exp(rng.uniform(4, 7, (SERIES, 1))), rng.uniform(200, 900, (SERIES, 1))
    return np.round(height * (1 - np.exp(-STEPS / tau)) + 8 * rng.standard_normal((SERIES, N)))


Y = whole_series()
HOLES = np.where(GONE, np.nan, Y)


def _fitted(model: str, **options: Any) -> Callable[[Any, Any], tuple[list[np.ndarray], Any]]:
    def call(t, y):
        fits = madyn.fit_curves(t, y, model, **options)
        fits.summary()
        fits.to_dataset()
        repr(fits)
        return [fits.popt, fits.pcov, fits.r2, fits.residuals, fits.predict([0, 70])], fits.message

    return call


def _posterior(t, y):
    found = madyn.posterior(t, y, "step1", last_step=6000)
    assert np.isfinite(found.sample(3)[found.message == ""]).all()
    results = [found.value([0, 300])["median"].values, found.forecast([5500])["upper"].values, found.log_evidence,
               found.plateau()["median"].values, found.interval()["lower"].values]  # fmt: skip
    return [*results, found.quantities()["top"].values], found.message


def _scored(scores: Callable[..., Any]) -> Callable[[Any, Any], tuple[list[np.ndarray], Any]]:
    def call(t, y):
        found = scores(t, y, "step1")
        return [found.error], found.message

    return call


def _learned(t, y):
    prior = madyn.curves.learn_prior(t, y, "step1", seen=200, last_step=5000)
    return [prior.mean, prior.cov, prior.linear_mean, np.array([prior.widening])], None


def _quantities(t, y):
    fits = madyn.fit_curves(t, y, "step1")
    found, spread = (
        madyn.curves.curve_quantities(fits, last_step=5000),
        madyn.curves.quantity_intervals(fits, last_step=5000),
    )
    return [found["plateau"].values, found["half_rise_step"].values, spread["top"].values], fits.message


OF_SERIES = {
    "fit_curves": _fitted("step1"),
    "fit_curves, reparam": _fitted("reparam"),
    "fit_curves, original": _fitted("original"),
    "fit_curves, trf": _fitted("step1", method="trf"),
    "fit_curves, robust": _fitted("step1", robust="huber"),
    "posterior": _posterior,
    "kfold_scores": _scored(madyn.curves.kfold_scores),
    "holdout_scores": _scored(madyn.curves.holdout_scores),
    "learn_prior": _learned,
    "curve_quantities and quantity_intervals": _quantities,
}


def _objects(fill: Any, of: Callable[[float], Any] = float) -> np.ndarray:
    found = np.empty(Y.shape, object)
    for place, value in np.ndenumerate(Y):
        found[place] = fill if GONE[place[1]] else of(value)
    return found


def _masked_steps() -> tuple[Any, Any]:
    return np.ma.array(np.where(GONE, -7, STEPS), mask=GONE), Y


# What is honoured: (t, y) -> what is given, and the plain y that it stands for.
HONOURED: dict[str, tuple[Callable[[], tuple[Any, Any]], np.ndarray]] = {
    "a masked array": (lambda: (STEPS, np.ma.array(np.where(GONE, 9e9, Y), mask=GONE * np.ones_like(Y, bool))), HOLES),
    "a masked array of infinities": (lambda: (STEPS, np.ma.masked_invalid(np.where(GONE, np.inf, Y))), HOLES),
    "masked rows in a list": (lambda: (STEPS, [np.ma.array(row, mask=GONE) for row in Y]), HOLES),
    "masked steps": (_masked_steps, HOLES),
    "None in lists": (lambda: (STEPS.tolist(), _objects(None).tolist()), HOLES),
    "objects with None": (lambda: (STEPS, _objects(None)), HOLES),
    "objects with pandas' NA": (lambda: (STEPS, _objects(pd.NA)), HOLES),
    "objects with pandas' NaT": (lambda: (STEPS, _objects(pd.NaT)), HOLES),
    "objects with numpy's masked": (lambda: (STEPS, _objects(np.ma.masked)), HOLES),
    "Decimals": (lambda: (STEPS, _objects(Decimal("NaN"), lambda v: Decimal(int(v)))), HOLES),
    "Decimals with a signalling nan": (lambda: (STEPS, _objects(Decimal("sNaN"), lambda v: Decimal(int(v)))), HOLES),
    "Fractions": (lambda: (STEPS, _objects(None, lambda v: Fraction(int(v), 1))), HOLES),
    "pandas' whole numbers": (lambda: (STEPS, pd.DataFrame(Y.T, index=pd.Index(STEPS, name="step")).mask(
        np.repeat(GONE[:, None], SERIES, 1)).astype("Int64")), HOLES),
    "pandas' floats": (lambda: (STEPS, pd.DataFrame(HOLES.T, index=pd.Index(STEPS, name="step"))), HOLES),
    "xarray": (lambda: (None, xr.DataArray(HOLES, {"step": STEPS}, ("layer", "step"))), HOLES),
    "16-bit floats": (lambda: (STEPS.astype("f4"), HOLES.astype("f2")), HOLES),
    "long doubles": (lambda: (STEPS.astype(np.longdouble), HOLES.astype(np.longdouble)), HOLES),
    "bytes in the other order": (lambda: (STEPS.astype(">i4"), HOLES.astype(">f4")), HOLES),
    "integers": (lambda: (STEPS.astype(int), Y.astype(np.int16)), Y),
    "a missing step where the value is missing": (lambda: (np.where(GONE, np.nan, STEPS), HOLES), HOLES),
    "an infinite step where the value is missing": (lambda: (np.where(GONE, np.inf, STEPS), HOLES), HOLES),
    "no series": (lambda: (STEPS, np.empty((0, N))), np.empty((0, N))),
}  # fmt: skip


@pytest.mark.parametrize("kind", HONOURED)
@pytest.mark.parametrize("name", OF_SERIES)
def test_what_says_missing_is_as_if_never_measured(name, kind):
    given, plain = HONOURED[kind]
    if name == "learn_prior" and kind == "no series":
        with pytest.raises(SeriesError, match="at least 4 finished runs"):
            madyn.curves.learn_prior(*given(), "step1")
        return
    (found, said), (expected, expected_said) = OF_SERIES[name](*given()), OF_SERIES[name](STEPS, plain)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(said, expected_said)
    assert all(np.isfinite(part).any() for part in expected if part.size)


# What is refused, and what the message names.
REFUSED: dict[str, tuple[Callable[[], tuple[Any, Any]], str]] = {
    "complex values": (lambda: (STEPS, Y + 0j), "values are complex"),
    "a complex number among objects": (lambda: (STEPS, _objects(1j)), "values is 1j"),
    "text": (lambda: (STEPS, Y.astype(str)), "values are text"),
    "text among objects": (lambda: (STEPS, _objects("n/a")), "values is 'n/a'"),
    "dates": (lambda: (STEPS, Y.astype("M8[s]")), "values are dates"),
    "time spans": (lambda: (STEPS, Y.astype("m8[s]")), "values are time spans"),
    "dates for steps": (lambda: (STEPS.astype("M8[D]"), Y), "steps are dates"),
    "a date among objects": (lambda: (STEPS, _objects(pd.Timestamp("2020-01-01"))), "values is Timestamp"),
    "truth values": (lambda: (STEPS, Y > 100), "values are truth values"),
    "a truth value among objects": (lambda: (STEPS, _objects(True)), "values are truth values"),
    "records": (lambda: (STEPS, np.zeros((SERIES, N), [("a", float), ("b", int)])), "values are records"),
    "a whole number of 400 digits": (lambda: (STEPS, _objects(10**400)), "values is beyond the largest number"),
    "a whole number of 5000 digits": (lambda: (STEPS, _objects(10**5000)), "values is beyond the largest number"),
    "a Decimal of 400 digits": (lambda: (STEPS, _objects(Decimal("1e400"))), "values is beyond the largest number"),
    "a Fraction of 400 digits": (lambda: (STEPS, _objects(Fraction(10**400))), "values is beyond the largest number"),
    "a long double of 1e400": (
        lambda: (STEPS, np.where(GONE, np.longdouble("1e400"), Y)), "values is beyond the largest number"),
    "rows of different lengths": (lambda: (STEPS, [[1.0] * N, [1.0] * (N - 1)]), "values must be an array"),
    "a dictionary": (lambda: (STEPS, {"a": 1}), "values is {'a': 1}"),
    "nothing": (lambda: (STEPS, None), "values have shape ()"),
    "an empty list": (lambda: (STEPS, []), "values have shape (0,)"),
    "no steps and no values": (lambda: ([], []), "steps have shape (0,)"),
    "series of no points": (lambda: (STEPS, np.empty((SERIES, 0))), "values have shape (5, 0)"),
    "series of no points at no steps": (lambda: ([], np.empty((SERIES, 0))), "steps have shape (0,)"),
    "a negative step": (lambda: (STEPS - 1, Y), "a step is -1"),
    "a missing step of a value": (lambda: (np.where(GONE, np.nan, STEPS), Y), "a step is nan"),
    "an infinite step of a value": (lambda: (np.where(GONE, np.inf, STEPS), Y), "a step is inf"),
    "steps past 2**53": (lambda: (2**53 + np.arange(N), Y), "different steps are the same number"),
    "steps past 2**53 in a Series": (
        lambda: (pd.Series(2**53 + np.arange(N), dtype="Int64"), Y), "different steps are the same number"),
    "steps past 2**53 in labels": (
        lambda: (None, xr.DataArray(Y, {"step": 2**53 + np.arange(N)}, ("layer", "step"))),
        "different steps are the same number"),
    "steps past 2**53 among objects": (
        lambda: ([2**70 + i for i in range(N)], Y), "different steps are the same number"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("name", OF_SERIES)
def test_what_is_no_series_is_refused_in_one_short_line(name, kind):
    given, said = REFUSED[kind]
    with pytest.raises(UsageError) as caught:
        OF_SERIES[name](*given())
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert len(message) < 300


def _with_first(row: Any) -> np.ndarray:
    return np.concatenate([[np.broadcast_to(row, N)], Y[1:]])


TINY = np.finfo(float).smallest_subnormal
# The first series cannot be fitted, and the others are as they were.
TOLD: dict[str, tuple[np.ndarray, str]] = {
    "an infinite value": (_with_first(np.where(GONE, np.inf, Y[0])), "infinite"),
    "a value of minus infinity": (_with_first(np.where(GONE, -np.inf, Y[0])), "infinite"),
    "all missing": (_with_first(np.nan), "too few points"),
    "one point": (_with_first(np.where(np.arange(N) == 3, 1.0, np.nan)), "too few points"),
    "values of 1e300": (_with_first(Y[0] * 1e298), "values reach"),
    "values of 1e-300": (_with_first(Y[0] * 1e-302), "values reach"),
    "subnormal values": (_with_first(np.arange(N) * TINY), "values reach"),
}


@pytest.mark.parametrize("kind", TOLD)
@pytest.mark.parametrize("name", [name for name in OF_SERIES if name != "learn_prior"])
def test_a_series_that_cannot_be_says_why_and_leaves_the_others_alone(name, kind):
    y, said = TOLD[kind]
    (found, messages), (expected, others) = OF_SERIES[name](STEPS, y), OF_SERIES[name](STEPS, Y)
    message = str(messages[0])
    assert said in message or (name.endswith("scores") and message)
    assert "\n" not in message
    np.testing.assert_array_equal(messages[1:], others[1:])
    for one, other in zip(found, expected, strict=True):
        assert np.isnan(one[0]).all()
        np.testing.assert_allclose(one[1:], other[1:], rtol=1e-6)


@pytest.mark.parametrize("kind", TOLD)
def test_a_prior_is_learned_from_the_series_that_can_be(kind):
    found, expected = (
        madyn.curves.learn_prior(STEPS, TOLD[kind][0], "step1"),
        madyn.curves.learn_prior(STEPS, Y[1:], "step1"),
    )
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)


@pytest.mark.parametrize(("t", "said"), [
    (np.full(N, 300.0), "all points are at step 300"),
    (np.zeros(N), "all points are at step 0"),
    (STEPS * 1e300, "steps reach"),
    (STEPS * 1e-200, "steps reach"),
])  # fmt: skip
@pytest.mark.parametrize("model", ["reparam", "original", "step1", "step2", "power_law", "stretched_exponential"])
def test_steps_that_no_curve_can_follow_are_told(t, said, model):
    t = np.where(np.isfinite(t), t, 1e308)
    fits = madyn.fit_curves(t, Y, model)
    assert not fits.success.any()
    assert all(said in message for message in fits.message)
    assert np.isnan(fits.popt).all()
    for scores in (madyn.curves.kfold_scores, madyn.curves.holdout_scores):
        assert all(scores(t, Y, model).message)


@pytest.mark.parametrize("offset", [0, 1000, 10**6, 10**9, 10**12, 10**15, 2**53 - 20])
@pytest.mark.parametrize("model", HYPOTHESES)
def test_no_parameter_is_absurd_wherever_the_points_lie(model, offset):
    k = np.arange(N)
    rng = np.random.default_rng(1)
    y = np.stack([1 + 0.1 * rng.standard_normal(N), 1 + np.exp(-k / 4) + 0.01 * rng.standard_normal(N)])
    fits = madyn.fit_curves(offset + k, y, model)
    good = fits.success
    linear = fits.popt[..., fits.hypothesis.num_nonlinear :]
    assert np.isfinite(fits.popt[good]).all()
    assert (np.abs(linear[good]) < 1e101).all()
    assert all(fits.message[~good])
    assert np.isfinite(fits.residuals[good]).all()
    assert not np.isnan(fits.pcov[good]).any()


@pytest.mark.parametrize("model", HYPOTHESES)
def test_a_series_without_a_fit_has_no_quantities(model):
    fits = madyn.fit_curves(STEPS, _with_first(np.nan), model)
    found, spread = (
        madyn.curves.curve_quantities(fits, last_step=5000),
        madyn.curves.quantity_intervals(fits, last_step=5000),
    )
    for name in ("plateau", "top", "half_rise_step", "peak_step"):
        assert np.isnan(found[name].values[0])
        assert np.isnan(spread[name].values[0]).all()
    assert np.isfinite(found["top"].values[fits.success]).all()
    if not model.endswith("regularized"):
        belief = madyn.posterior(STEPS, _with_first(np.nan), model)
        assert np.isnan(belief.plateau()["median"].values[0])


def test_constant_series_are_told_by_fits_and_known_to_the_posterior():
    fits = madyn.fit_curves(STEPS, _with_first(7.0), "step1")
    assert "constant (7)" in fits.message[0]
    belief = madyn.posterior(STEPS, _with_first(7.0), "step1").value([4000.0])["median"].values
    assert belief[0] == pytest.approx(7, rel=0.05)


def test_steps_and_values_near_the_limits_are_exact():
    expected = madyn.fit_curves(STEPS, Y, "step1")
    for scale in (1e90, 1e-90):
        fits = madyn.fit_curves(STEPS * scale, Y / scale, "step1")
        np.testing.assert_allclose(fits.popt, expected.popt * [scale, 1 / scale], rtol=1e-9)
        np.testing.assert_allclose(fits.r2, expected.r2, rtol=1e-12)
        assert np.isfinite(fits.pcov).all()


def test_steps_may_repeat_and_come_in_any_order_in_every_function():
    order = np.random.default_rng(2).permutation(N)
    twice = np.r_[STEPS, STEPS]
    for name, call in OF_SERIES.items():
        shuffled, plain = call(STEPS[order], Y[:, order])[0], call(STEPS, Y)[0]
        if name.startswith("fit_curves"):
            shuffled[3] = shuffled[3][:, np.argsort(order)]
        if name != "fit_curves, original":  # whose parameters are not determined by a step response
            for one, other in zip(shuffled, plain, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * np.nanmax(np.abs(other), initial=0))
        assert all(np.isfinite(part).any() for part in call(twice, np.c_[Y, Y])[0])


@pytest.mark.parametrize("weights", [[1e200] * N, [1e-200] * N, [-1.0] * N, [np.inf] * N, [1j] * N, ["a"] * N,
                                     [10**400] * N, [np.nan] * N, np.ones(3), [[1, 2], [3]]])  # fmt: skip
def test_weights_that_cannot_be_are_refused(weights):
    with pytest.raises(UsageError, match="weight"):
        madyn.fit_curves(STEPS, Y, "step1", weights=weights)


PARAMS = np.array([[300.0, 700.0], [90.0, 500.0]])
# What is no row of numbers, for whatever takes one.
NO_ROW: dict[str, Any] = {
    "complex": [1j], "text": ["1"], "dates": np.array(["2020"], "M8[Y]"), "truth values": [True, False],
    "huge": [10**400], "huge Decimals": [Decimal("1e999")], "records": np.zeros(2, [("a", float)]),
    "ragged": [[1, 2], [3]], "a table": [[1.0, 2.0]], "a word": "many", "a mapping": {1: 2},
}  # fmt: skip
OF_STEPS: dict[str, Callable[[Any], Any]] = {
    "Fits.predict": lambda t: madyn.fit_curves(STEPS, Y, "step1").predict(t),
    "SeparableModel.values": lambda t: HYPOTHESES["step1"].values(t, PARAMS),
    "Posterior.value": lambda t: madyn.posterior(STEPS, Y[:1], "step1").value(t),
    "Posterior.forecast": lambda t: madyn.posterior(STEPS, Y[:1], "step1").forecast(t),
    "curve_quantities": lambda t: madyn.curves.curve_quantities("step1", PARAMS, 1000, at=t),
    "quantity_intervals": lambda t: madyn.curves.quantity_intervals("step1", PARAMS[np.newaxis], 1000, at=t),
    "Prior.sample": lambda t: Prior.default("step1").given().sample(2, t),
    "Predictor.predict": as_steps,
}


@pytest.mark.parametrize("kind", NO_ROW)
@pytest.mark.parametrize("name", OF_STEPS)
def test_what_is_no_row_of_steps_is_refused(name, kind):
    with pytest.raises(UsageError, match="steps") as caught:
        OF_STEPS[name](NO_ROW[kind])
    assert "\n" not in str(caught.value)


def test_steps_of_any_size_are_predicted_without_a_warning():
    for model in HYPOTHESES:
        fits = madyn.fit_curves(STEPS, Y, model)
        assert fits.predict([0.0, 1e-300, 1e15, 2**60, 1e300]).shape == (SERIES, 5)
        assert fits.predict([]).shape == (SERIES, 0)
        found = madyn.curves.curve_quantities(fits, at=[1e300])
        assert found["value"].shape == (SERIES, 1)


@pytest.mark.parametrize("given", [PARAMS + 0j, PARAMS.astype(str), PARAMS > 0, [[10**400, 1]], [[1.0, 2.0], [3.0]],
                                   PARAMS[:, :1], np.zeros(2, [("a", float)]), PARAMS.astype("M8[s]"), None,
                                   3.0])  # fmt: skip
def test_parameters_that_cannot_be_are_refused(given):
    calls = [lambda: madyn.curves.curve_quantities("step1", given, 1000),
             lambda: HYPOTHESES["step1"].values(STEPS, given)]  # fmt: skip
    if given is not None:
        calls.append(lambda: madyn.curves.quantity_intervals("step1", [given], 1000))
    for call in calls:
        with pytest.raises(UsageError, match="parameters") as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "row", [[np.nan, 1.0], [np.inf, 1.0], [1e300, 1e300], [-5.0, 1.0], [0.0, 0.0], [1e-310, 1e-310]]
)
def test_parameters_at_the_edge_of_numbers_give_an_answer_without_a_warning(row):
    good = madyn.curves.curve_quantities("step1", PARAMS[0], 1000)
    found = madyn.curves.curve_quantities("step1", [row, PARAMS[0]], 1000, at=[0.0, 1e300])
    assert found["top"].values[1] == good["top"].values
    draws = madyn.curves.quantity_intervals("step1", [[row] * 5, [PARAMS[0]] * 5], 1000)
    assert draws["top"].sel(bound="median").values[1] == good["top"].values


def _learned_to(last_step: Any):
    return madyn.curves.learn_prior(STEPS, Y, "step1", last_step=last_step)


NO_NUMBER = ["a", None, 1j, True, [1, 2], np.nan, np.datetime64("2020"), 10**400, pd.NA]


@pytest.mark.parametrize("given", NO_NUMBER, ids=repr)
@pytest.mark.parametrize("call", [
    lambda v: madyn.posterior(STEPS, Y[:1], "step1", last_step=v) if v is not None else madyn.curves.curve_quantities(
        "step1", PARAMS, v),
    lambda v: madyn.posterior(STEPS, Y[:1], "step1").value([1.0], v),
    lambda v: madyn.posterior(STEPS, Y[:1], "step1").sample(v),
    lambda v: madyn.curves.curve_quantities("step1", PARAMS, v),
    lambda v: madyn.curves.quantity_intervals("step1", [PARAMS], 1000, v),
    lambda v: madyn.curves.kfold_scores(STEPS, Y, "step1", folds=v),
    lambda v: madyn.curves.holdout_scores(STEPS, Y, "step1", share=v),
    lambda v: _learned_to("a" if v is None else v),
    lambda v: madyn.massive.massive_by_tail(np.ones((4, 8)), v),
    lambda v: madyn.massive.massive_by_start(np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)), v),
    lambda v: Prior.default("step1").given(center=v),
    lambda v: madyn.curves.SeparableModel(lambda x, r: x, {"r": (v, v)}, ("a",)),
])  # fmt: skip
def test_what_is_no_number_is_refused(call: Callable[[Any], Any], given):
    with pytest.raises(UsageError) as caught:
        call(given)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300


TOP, MIDDLE = np.array([[200.0, 3.0], [5000.0, 50.0]]), np.array([[0.1, 1.0], [1.0, 1.0]])


def _massive(top, middle):
    return madyn.massive.massive_published(top, middle)


def _by_start(top, middle):
    return madyn.massive.massive_by_start(top, middle, MIDDLE * 3, MIDDLE, 1000).massive


def _by_tail(top, _):
    hidden = np.ones((2, 2, 40, 30))
    hidden[..., 0, 0] = np.ma.getdata(top)
    return madyn.massive.massive_by_tail(hidden).massive


@pytest.mark.parametrize("rule", [_massive, _by_start])
def test_a_missing_largest_value_is_not_massive(rule):
    gone = np.array([[True, False], [False, False]])
    expected = rule(TOP, MIDDLE) & ~gone
    assert rule(TOP, MIDDLE)[gone].all()
    for given in (np.where(gone, np.nan, TOP), np.ma.array(TOP, mask=gone), pd.DataFrame(TOP).mask(gone),
                  np.where(gone, np.array(None), TOP), pd.DataFrame(TOP).mask(gone).astype("Float64")):  # fmt: skip
        np.testing.assert_array_equal(rule(given, MIDDLE), expected)
    for kind in ("f4", ">f8", np.longdouble, object):
        np.testing.assert_array_equal(rule(TOP.astype(kind), MIDDLE), rule(TOP, MIDDLE))
    assert rule(TOP[:0], MIDDLE[:0]).shape == (0, 2)


def test_a_start_that_is_missing_is_no_threshold():
    start = np.array([[np.nan, 2.0], [np.nan, np.nan]])
    found = madyn.massive.massive_by_start(TOP, MIDDLE, start, MIDDLE, 1000)
    assert np.isinf(found.threshold[:, 0]).all()
    assert np.isfinite(found.threshold[:, 1]).all()


@pytest.mark.parametrize("given", [TOP + 0j, TOP.astype(str), TOP > 1, TOP.astype("M8[s]"), [[10**400, 1], [1, 1]],
                                   [[1.0], [1.0, 2.0]], np.zeros((2, 2), [("a", float)]), np.ones((3, 3))])  # fmt: skip
@pytest.mark.parametrize("rule", [_massive, _by_start, lambda top, _: madyn.massive.massive_by_tail(top)])
def test_what_no_rule_of_the_massive_can_read_is_refused(rule, given):
    if rule not in (_massive, _by_start) and isinstance(given, np.ndarray) and given.shape == (3, 3):
        given = np.where(np.eye(3), np.nan, 1.0)  # any shape goes there, but not a missing value
    with pytest.raises(UsageError) as caught:
        rule(given, MIDDLE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [[[1j, 2]], [["a", "b"]], [[1.5, 2.0]], [[True, False]], [[10**400, 1]],
                                   [[2**63, 1]], np.array([["2020", "2021"]], "M8[Y]"), [[1, 2], [3]], [], [[]],
                                   np.empty((0, 5), int), np.empty((5, 0), int), None, "words", {}, [[None, 1]],
                                   [[np.nan, 1]], [[pd.NA, 1]], [[-1, 1]], [[300, 1]], np.zeros((1, 2), [("a", int)]),
                                   [[Fraction(1, 2)]], [[Decimal(3)]]])  # fmt: skip
def test_what_no_model_can_be_measured_on_is_refused(given, tiny):
    with pytest.raises(MadynError) as caught:
        madyn.measure(tiny, given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mask", [[[1j, 1, 1]], [["a", "b", "c"]], [[np.nan, 1, 1]], [[2, 1, 1]], [[1, 1]],
                                  [[None, 1, 1]], np.ma.array([[1, 1, 1]], mask=[[True, False, False]]),
                                  [[0, 0, 0]], [[1, 0, 1]], np.array([["2020"] * 3], "M8[Y]")])  # fmt: skip
def test_an_attention_mask_that_cannot_be_is_refused(mask, tiny):
    with pytest.raises(UsageError, match="attention_mask"):
        madyn.measure(tiny, {"input_ids": [[1, 2, 3]], "attention_mask": mask})


def test_an_attention_mask_may_be_of_any_kind(tiny):
    expected = madyn.measure(tiny, [[2, 3]])
    for mask in ([[0, 1, 1]], [[False, True, True]], np.array([[0, 1, 1]], object), pd.DataFrame([[0, 1, 1]]),
                 np.ma.array([[0, 1, 1]]), [[0.0, 1.0, 1.0]]):  # fmt: skip
        np.testing.assert_array_equal(madyn.measure(tiny, {"input_ids": [[1, 2, 3]], "attention_mask": mask}), expected)


@pytest.fixture(scope="module")
def tiny():
    pytest.importorskip("torch")
    from madyn.lab.blueprints import Blueprint, build_model

    blueprint = Blueprint(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    return build_model(blueprint, 0, 300, 32, 0)
