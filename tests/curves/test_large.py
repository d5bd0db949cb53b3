"""Many series and long ones: no result depends on what else is fitted, memory is bounded, optima are global."""

import tracemalloc

import numpy as np
import pytest

import madyn
from bank import STEPS, draw_bank
from madyn.curves.bayes import marginal, posteriors
from madyn.curves.fitting import fits as fitting
from madyn.curves.fitting import shortening
from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.curves.hypotheses.separable import SeparableModel

pytestmark = pytest.mark.filterwarnings("error")

ARRAYS = ("popt", "pcov", "r2", "aic", "residuals", "success", "at_edge", "suspects", "weights", "jacobian")


def same(found, expected, rows: slice) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name)[rows], getattr(expected, name), err_msg=name)
    assert found.message[rows].tolist() == expected.message.tolist()


@pytest.mark.parametrize(("model", "options"), [
    ("reparam", {}), ("original", {}), ("original_regularized", {}), ("step1", {"method": "trf"}),
    ("step1", {"robust": "huber"}),
])  # fmt: skip
def test_a_piece_of_many_series_is_fitted_as_if_it_were_all(monkeypatch, model, options):
    monkeypatch.setattr(fitting, "AT_ONCE", 16)
    y = draw_bank("reparam", 40, seed=11)
    y[3, 4], y[17], y[20] = np.nan, np.nan, np.inf  # a hole, a series of nothing, a broken one
    whole = madyn.fit_curves(STEPS, y, model, **options)
    for first in (0, 16, 32):
        rows = slice(first, first + 16)
        same(whole, madyn.fit_curves(STEPS, y[rows], model, **options), rows)


def test_few_series_are_one_piece():
    """So that fits of a dataset keep their bits."""
    assert fitting.AT_ONCE >= 1000
    assert fitting.POINTS_AT_ONCE >= 1000 * 200


def test_memory_does_not_grow_with_the_number_of_series_but_by_the_results():
    y = draw_bank("step1", 200, seed=1)
    peaks = []
    for count in (4_000, 16_000):
        values = np.resize(y, (count, STEPS.size))
        tracemalloc.start()
        fits = madyn.fit_curves(STEPS, values, "step1")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert fits.success.all()
    a_series = STEPS.size * 8
    assert peaks[1] - peaks[0] < 12_000 * 25 * a_series  # a few arrays of y's shape, the Jacobian among them
    assert peaks[0] < 300e6


def long_series(n: int, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(0, 143_000, n)
    clean = HYPOTHESES["reparam"].values(x, (2e-5, 3000.0, 60.0, -480.0, 8.0))
    return x, clean + np.random.default_rng(0).normal(0, noise * np.ptp(clean), n)


@pytest.mark.parametrize("name", ["reparam", "step2", "reparam_regularized", "logistic_log"])
def test_a_long_series_has_the_optimum_that_a_search_on_all_points_finds(monkeypatch, name):
    x, y = long_series(6000)
    fits = madyn.fit_curves(x, y, name)
    monkeypatch.setattr(shortening, "LONG", 10**9)
    whole = madyn.fit_curves(x, y, name)
    assert np.sum(fits.residuals**2) <= np.sum(whole.residuals**2) * (1 + 1e-9)
    np.testing.assert_allclose(fits.r2, whole.r2, atol=1e-9)


@pytest.mark.parametrize("zeta", [0.06, 0.3])
def test_a_long_series_that_rings_fast_is_not_smoothed_away(zeta):
    x = np.linspace(0, 143_000, 20_000)
    true = (zeta, 0.02, 250.0)
    fits = madyn.fit_curves(x, HYPOTHESES["step2"].values(x, true), "step2")
    np.testing.assert_allclose(fits.popt, true, rtol=1e-6)


def test_a_long_series_may_have_holes_and_weights_of_its_own():
    x, y = long_series(6000)
    both = np.stack([y, y])
    both[0, 100:3000:2] = np.nan
    weights = np.ones(both.shape)
    weights[1, 100:3000:2] = 0
    fits = madyn.fit_curves(x, both, weights=weights)
    kept = ~np.isnan(both[0])
    alone = madyn.fit_curves(x[kept], y[kept])
    np.testing.assert_allclose(fits.r2[0], alone.r2, atol=1e-9)
    np.testing.assert_allclose(fits.popt, np.stack([alone.popt] * 2), rtol=1e-5)


def test_a_series_of_a_hundred_thousand_points_takes_little_memory():
    x, y = long_series(100_000)
    tracemalloc.start()
    fits = madyn.fit_curves(x, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fits.popt == pytest.approx([2e-5, 3000, 60, -480, 8], rel=0.2)
    assert fits.r2 == pytest.approx(0.95, abs=0.02)
    assert peak < 700e6


def test_a_model_of_ones_own_is_searched_on_all_of_its_points():
    x = np.linspace(0, 100, 6000)
    comb = SeparableModel(
        lambda x, pace: np.sin(np.multiply.outer(pace, x))[..., np.newaxis], {"pace": (30.0, 60.0)}, ("height",),
        linear_scale=("pace",), points=(4000,),
    )  # fmt: skip
    fits = madyn.fit_curves(x, 3 * np.sin(47.3 * x), comb)  # half a percent of x is many periods
    np.testing.assert_allclose(fits.popt, [47.3, 3], rtol=1e-9)


def test_steps_of_their_own_take_time_in_proportion():
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 1e5, (60, 12)), axis=1)
    y = 5 * (1 - np.exp(-t / 2e4)) + 0.01 * rng.standard_normal(t.shape)
    fits = madyn.fit_curves(t, y, "step1")
    for i in (0, 59):
        np.testing.assert_array_equal(fits.popt[i], madyn.fit_curves(t[i], y[i], "step1").popt)


def test_a_posterior_taken_in_blocks_is_the_same(monkeypatch):
    y = draw_bank("reparam", 3, seed=2)
    whole = madyn.posterior(STEPS, y)
    monkeypatch.setattr(marginal, "AT_ONCE", 100 * STEPS.size)
    parts = madyn.posterior(STEPS, y)
    np.testing.assert_allclose(parts.log_evidence, whole.log_evidence, rtol=1e-9)
    steps = np.linspace(0, 2e5, 500)
    expected = whole.forecast(steps)["upper"]
    np.testing.assert_allclose(parts.forecast(steps)["upper"], expected, rtol=1e-6)
    monkeypatch.setattr(posteriors, "STEPS_AT_ONCE", 3 * 256 * 7)
    np.testing.assert_allclose(whole.forecast(steps)["upper"], expected, rtol=1e-9)


def test_a_posterior_of_a_long_series_takes_little_memory():
    x, y = long_series(20_000)
    tracemalloc.start()
    found = madyn.posterior(x, y, "step1")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(found.log_evidence)
    assert peak < 900e6
