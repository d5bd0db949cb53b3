"""Quantities of curves: against numerical maximisation and brute force in every regime, and the rule of the classes."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import madyn
from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.curves.responses import CLASSES, curve_quantities, quantity_intervals
from madyn.errors import UsageError

pytestmark = pytest.mark.filterwarnings("error")

T = 143_000.0
FINE = np.concatenate([[0.0], np.geomspace(1e-7 * T, T, 20_001)])
finite = st.floats(-5, 5)


def reparam_curve(log_beta: float, log_tau0: float, a: float, b: float, k: float) -> np.ndarray:
    """Parameters in steps whose curve moves by about a and b, from a draw in normalised units."""
    beta, tau0 = np.exp(log_beta) / T, np.exp(log_tau0) * T
    return np.array([beta, tau0, a, b - a * np.log(tau0), k])


@settings(max_examples=150, deadline=None)
@given(st.floats(-7, 7), st.floats(-14, 5), finite, finite, finite)
def test_peak_top_and_half_rise_of_reparam_are_those_of_a_fine_grid(log_beta, log_tau0, a, b, k):
    params = reparam_curve(log_beta, log_tau0, a, b, k)
    curve = HYPOTHESES["reparam"].values(FINE, params)
    scale = np.ptp(curve)
    if scale < 1e-6 * max(1.0, np.max(np.abs(curve))):
        return
    found = curve_quantities("reparam", params, T)
    assert found["top"].item() == pytest.approx(curve.max(), abs=1e-6 * scale + 1e-12)
    highest = int(np.argmax(curve))
    if found["peak_observable"]:
        assert found["peak_height"].item() >= curve.max() - 1e-9 * scale
        spread = FINE[np.abs(curve - curve.max()) <= 1e-7 * scale]
        assert spread[0] * 0.99 - 1e-3 <= found["peak_step"].item() <= spread[-1] * 1.01 + 1e-3
    else:
        ends = max(curve[0], curve[-1])
        assert curve.max() <= ends + 1e-7 * scale
    half = curve[0] + (curve[highest] - curve[0]) / 2
    if curve[highest] - curve[0] > 1e-4 * scale:
        first = int(np.argmax(curve >= half))
        low, high = FINE[first - 1], FINE[first]
        assert low * (1 - 1e-6) <= found["half_rise_step"].item() <= high * (1 + 1e-6)


@pytest.mark.parametrize("name", ["step2", "power_law", "double_exponential", "logistic_log", "stretched_exponential"])
def test_curves_without_a_formula_are_searched(name):
    rng = np.random.default_rng(1)
    model = HYPOTHESES[name]
    low, high = np.array([(0.3, 3.0), (0.3, 30.0)]).T
    nonlinear = np.exp(rng.uniform(np.log(low), np.log(high), (60, 2)))
    nonlinear *= T ** np.array(model.powers[:2], float)
    if name == "power_law":
        nonlinear[:, 1] = rng.uniform(-2, 2, 60)
    params = np.concatenate([nonlinear, rng.normal(size=(60, model.num_params - 2))], axis=1)
    found = curve_quantities(model, params, T)
    curves = model.values(np.linspace(0, T, 40_001), params)
    scale = np.ptp(curves, axis=1)
    np.testing.assert_array_less(np.abs(found["top"].values - curves.max(axis=1)), 1e-6 * scale + 1e-12)
    at = np.argmax(curves, axis=1)
    clear = (at > 50) & (at < 39_950)
    np.testing.assert_array_equal(found["peak_observable"].values[clear], True)
    np.testing.assert_allclose(found["peak_step"].values[clear], at[clear] * T / 40_000, rtol=0.02)
    if name == "step2":
        assert clear.sum() > 3


def test_original_has_the_quantities_of_its_reparam():
    reparam = np.array([3e-5, 800.0, 5.0, -20.0, 40.0])
    mapped = HYPOTHESES["original"].mapped
    assert mapped is not None
    original = mapped(reparam)[0]
    ours, other = curve_quantities("reparam", reparam, T, at=[100]), curve_quantities("original", original, T, at=[100])
    for name in ("peak_step", "peak_height", "top", "half_rise_step", "plateau", "value"):
        np.testing.assert_allclose(other[name], ours[name], rtol=1e-6)
    assert other["class"].item() == ours["class"].item()


@settings(max_examples=60, deadline=None)
@given(st.floats(-4, 4), st.floats(-9, 3), finite, finite, st.floats(0.01, 100), st.floats(0.01, 100))
def test_units_of_steps_and_values_carry_over(log_beta, log_tau0, a, b, by_time, by_value):
    params = reparam_curve(log_beta, log_tau0, a, b, 1.0)
    beta, tau0, A1, A2, K = params
    scaled = [beta / by_time, tau0 * by_time, A1 * by_value, (A2 - A1 * np.log(by_time)) * by_value, K * by_value]
    plain, other = curve_quantities("reparam", params, T), curve_quantities("reparam", scaled, T * by_time)
    for name in ("top", "plateau"):
        np.testing.assert_allclose(other[name], by_value * plain[name], rtol=1e-6, atol=1e-9 * by_value)
    if plain["peak_observable"] and plain["peak_step"] > 1e-6 * T:
        np.testing.assert_allclose(other["peak_step"], by_time * plain["peak_step"], rtol=1e-5)


CASES = {
    "early peak": (8 / T, 1e-3 * T, 3.0, -3 * np.log(1e-3 * T), 1.0),
    "log increase": (1e-3 / T, 1e-3 * T, 3.0, -3 * np.log(1e-3 * T), 1.0),
    "decay": (2 / T, T, 0.0, 5.0, 1.0),
    "flat": (2 / T, T, 0.0, 0.001, 1.0),
}


@pytest.mark.parametrize("kind", CASES)
def test_each_class_is_told(kind):
    assert curve_quantities("reparam", CASES[kind], T)["class"].item() == kind


def test_a_curve_within_its_noise_is_flat():
    params = np.array(CASES["log increase"])
    found = curve_quantities("reparam", [params, params], T, noise=[0.01, 100.0])
    assert found["class"].values.tolist() == ["log increase", "flat"]


def test_limits_are_reached():
    far = np.array([1e40])
    for name, params in {
        "power_law": (100.0, -2.0, 3.0, 1.0), "logistic_log": (500.0, 2.0, 3.0, 1.0),
        "double_exponential": (10.0, 3.0, 4.0, 5.0, 6.0), "step1": (10.0, 4.0),
    }.items():  # fmt: skip
        model = HYPOTHESES[name]
        assert model.limit_of(np.array(params)) == pytest.approx(model.values(far, params)[0])
    assert HYPOTHESES["power_law"].limit_of(np.array([1.0, 0.5, -3.0, 1.0])) == -np.inf


def test_missing_parameters_give_missing_quantities():
    found = curve_quantities("reparam", [CASES["decay"], [np.nan] * 5], T, at=[0, 10])
    assert found["class"].values.tolist() == ["decay", ""]
    assert found["value"].dims == ("series", "step")
    assert np.isnan(found["value"].values[1]).all()
    assert np.isnan(found["half_rise_step"].values).all()


def test_wrong_parameters_are_refused():
    with pytest.raises(UsageError, match="holds the 5 of reparam: beta, tau0, A1, A2, K"):
        curve_quantities("reparam", [1.0, 2.0], T)
    with pytest.raises(UsageError, match="a run ends after step 0"):
        curve_quantities("step1", [1.0, 2.0], 0)
    with pytest.raises(UsageError, match="level is 2"):
        quantity_intervals("step1", [[1.0, 2.0]], 10, level=2)


def test_an_own_curve_has_quantities_but_no_known_limit():
    own = SeparableModel(
        lambda x, rate: (x * np.exp(-np.multiply.outer(rate, x)))[..., np.newaxis],
        nonlinear={"rate": (1e-3, 10.0)}, linear=("height",),
    )  # fmt: skip
    found = curve_quantities(own, [0.25, 3.0], 20.0)
    assert found["peak_step"].item() == pytest.approx(4, rel=1e-6)
    assert found["peak_height"].item() == pytest.approx(3 * 4 / np.e, rel=1e-9)
    assert found["class"].item() == "early peak"
    assert np.isnan(found["plateau"].item())


def test_intervals_come_from_draws_and_probabilities_add_up():
    t = np.array(madyn.PYTHIA.grids["paper"], float)
    params = np.array([4e-5, 2000.0, 8.0, -40.0, 12.0])
    clean = HYPOTHESES["reparam"].values(t, params)
    y = clean + np.random.default_rng(4).normal(0, 0.02 * np.ptp(clean), (2, t.size))
    y[1] = np.nan
    found = madyn.posterior(t, y).quantities(0.95, at=[1000.0, T])
    true = curve_quantities("reparam", params, T, at=[1000.0, T])
    for name in ("peak_step", "peak_height", "top", "half_rise_step", "value"):
        median, lower, upper = np.moveaxis(found[name].values[0], -1, 0)
        assert np.all(lower <= true[name].values), name
        assert np.all(true[name].values <= upper), name
        assert np.all((lower <= median) & (median <= upper))
    chances = found["class_probability"].values
    assert chances[0].sum() == pytest.approx(1)
    assert CLASSES[int(np.argmax(chances[0]))] == "early peak"
    assert np.isnan(chances[1]).all()
    assert np.isnan(found["top"].values[1]).all()
    assert found["peak_observable"].values[0] > 0.99


def test_intervals_from_the_covariance_hold_the_truth():
    """Of step responses, whose two parameters are determined well; and the same intervals at every call."""
    t = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(1000, 30_001, 1000)], float)
    clean = HYPOTHESES["step1"].values(t, [5000.0, 7.0])
    y = clean + 0.3 * np.random.default_rng(0).standard_normal((400, t.size))
    fits = madyn.fit_curves(t, y, "step1")
    found, again = (
        madyn.curves.quantity_intervals(fits, at=[1000.0]),
        madyn.curves.quantity_intervals(fits, at=[1000.0]),
    )
    truth = madyn.curves.curve_quantities("step1", [5000.0, 7.0], t[-1], at=[1000.0])
    for name in ("top", "half_rise_step", "plateau", "value"):
        lower, upper = (found[name].sel(bound=bound).values for bound in ("lower", "upper"))
        inside = np.mean((lower <= truth[name].values) & (truth[name].values <= upper))
        assert 0.85 < inside < 0.95, name
    np.testing.assert_array_equal(found["plateau"], again["plateau"])
    assert found["class_probability"].sel({"class": "log increase"}).values.min() == 1
    np.testing.assert_array_equal(
        madyn.curves.curve_quantities(fits)["plateau"],
        madyn.curves.curve_quantities("step1", fits.popt, t[-1])["plateau"],
    )


def test_fits_of_original_have_the_quantities_of_their_curve():
    t = np.arange(0.0, 30_001, 500)
    y = HYPOTHESES["reparam"].values(t, [1e-4, 300.0, 5.0, 2.0, 3.0])
    y = y + 0.1 * np.random.default_rng(0).standard_normal(t.size)
    one, other = (madyn.curves.quantity_intervals(madyn.fit_curves(t, y, name)) for name in ("original", "reparam"))
    np.testing.assert_array_equal(one["plateau"], other["plateau"])


def test_fits_without_a_covariance_or_a_common_end():
    t = np.arange(0.0, 5)
    fits = madyn.fit_curves(t, [[0.0, 1, 1.5, 1.75, 1.9], [np.nan] * 5], "step1")
    found = madyn.curves.quantity_intervals(fits)
    assert np.isnan(found["plateau"].values[1]).all()
    assert np.isfinite(found["plateau"].values[0]).all()
    ends = madyn.fit_curves([t, 2 * t], [[0.0, 1, 1.5, 1.75, 1.9]] * 2, "step1")
    with pytest.raises(UsageError, match="end at different steps, 4 to 8"):
        madyn.curves.quantity_intervals(ends)
    assert madyn.curves.quantity_intervals(ends, last_step=10)["plateau"].shape == (2, 3)
    with pytest.raises(UsageError, match="parameters of their own"):
        madyn.curves.quantity_intervals(fits, fits.popt)
    with pytest.raises(UsageError, match="last step are needed"):
        madyn.curves.quantity_intervals("step1", [[1.0, 2.0]])


def test_a_summary_tells_the_limit_and_not_a_baseline_called_k():
    """A power law with p < 0 starts at K and tends to K - A/p."""
    t = np.linspace(0, 30_000, 60)
    y = HYPOTHESES["power_law"].values(t, [2000.0, -1.5, 3.0, 1.0])
    said = madyn.fit_curves(t, y + 1e-3 * np.sin(t), "power_law").summary()
    told = re.search(r"plateau = ([\d.]+)", said)
    assert told is not None
    assert float(told[1]) == pytest.approx(1 + 3 / 1.5, abs=0.05)


@pytest.mark.parametrize(("name", "params"), [
    ("power_law", [2000.0, -1.5, 3.0, 1.0]), ("power_law", [500.0, 0.4, 0.01, 8.0]),
    ("double_exponential", [300.0, 20.0, -4.0, -2.0, 9.0]), ("logistic_log", [4000.0, 2.0, 5.0, 1.0]),
    ("stretched_exponential", [3000.0, 0.7, -5.0, 6.0]),
])  # fmt: skip
def test_a_curve_without_a_formula_has_made_half_of_its_rise_at_the_half_rise(name, params):
    curve = HYPOTHESES[name]
    found = curve_quantities(name, [params, params], last_step=30_000)
    step, top = found["half_rise_step"].values[0], found["top"].values[0]
    start = curve.values([0.0], params)[0]
    assert curve.values([step], params)[0] == pytest.approx((start + top) / 2, rel=1e-14)
    assert 0 < step < 30_000
    falling = curve_quantities(
        name, [*params[: curve.num_nonlinear], *-np.array(params[curve.num_nonlinear :])], 30_000
    )
    assert np.isnan(falling["half_rise_step"])
