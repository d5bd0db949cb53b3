"""Fits by the published method: recovery, scaling, covariance, scores, and all that may be wrong with a series."""

import json
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from madyn.analysis.records import fit_records
from madyn.curves.fitting import fits as fitting
from madyn.curves.fitting import trf
from madyn.curves.fitting.fits import PAPER_MINIMUM_POINTS
from madyn.curves.hypotheses.registry import HYPOTHESES, PUBLISHED
from madyn.curves.hypotheses.reparametrisation import original_to_reparam
from madyn.errors import UsageError
from madyn.suites import PYTHIA

pytestmark = pytest.mark.filterwarnings("error")

STEPS = np.array(PYTHIA.grids["paper"], float)
LAST = STEPS[-1]
# A curve of each family, in raw steps, of the size that the ratio of a small model has.
TRUE = {
    "original": (0.7, 1.0e-4, 1.1, 210.0, 12.0),
    "reparam": (2.0e-5, 3000.0, 60.0, -480.0, 8.0),
    "step1": (9000.0, 300.0),
    "step2": (0.6, 1.5e-4, 250.0),
}


def fit_curves(t, y, hypothesis="reparam", method="trf", **options):
    """The published method unless another is asked for."""
    return fitting.fit_curves(t, y, hypothesis=hypothesis, method=method, **options)


def _true(name):
    return TRUE[name.removesuffix("_regularized")]


def _noisy(name, share=0.02, seed=0, series=1):
    clean = HYPOTHESES[name].values(STEPS, _true(name))
    return clean + np.random.default_rng(seed).normal(0, share * np.ptp(clean), (series, len(STEPS)))


@pytest.mark.parametrize("name", TRUE)
def test_recovers_the_parameters_of_exact_data(name):
    fits = fit_curves(STEPS, HYPOTHESES[name].values(STEPS, TRUE[name]), hypothesis=name)
    assert fits.success
    assert fits.r2 > 1 - 1e-9
    np.testing.assert_allclose(fits.popt, TRUE[name], rtol=1e-2)


@pytest.mark.parametrize("zeta", [0.15, 1.0, 1.8])
def test_recovers_step2_in_every_damping_regime(zeta):
    true = (zeta, 2e-4, 40.0)
    fits = fit_curves(STEPS, HYPOTHESES["step2"].values(STEPS, true), hypothesis="step2")
    np.testing.assert_allclose(fits.popt, true, rtol=1e-3)


@pytest.mark.parametrize("name", TRUE)
def test_noisy_data_are_fitted_as_well_as_by_the_truth_and_errors_are_honest(name):
    y = _noisy(name, series=12)
    fits = fit_curves(STEPS, y, hypothesis=name)
    assert fits.success.all()
    truth = HYPOTHESES[name].values(STEPS, TRUE[name])
    assert np.all(np.nansum(fits.residuals**2, axis=-1) <= np.sum((y - truth) ** 2, axis=-1))
    # A linear error bar covers K, the best determined of them, in most series.
    deviations = (fits.popt[:, -1] - TRUE[name][-1]) / np.sqrt(fits.pcov[:, -1, -1])
    assert np.median(np.abs(deviations)) < 2


def test_original_and_reparam_agree_through_the_exact_map():
    y = _noisy("reparam", share=0.01, series=4, seed=3)
    original, reparam = fit_curves(STEPS, y, hypothesis="original"), fit_curves(STEPS, y, hypothesis="reparam")
    assert original.success.all()
    assert reparam.success.all()
    np.testing.assert_allclose(original.r2, reparam.r2, rtol=0, atol=1e-6)
    np.testing.assert_allclose(original.predict(STEPS), reparam.predict(STEPS), atol=1e-3 * np.ptp(y))
    lam, gamma, t0, A, K = original.popt.T
    mapped = original_to_reparam(A, lam, gamma, t0, K)
    curve = HYPOTHESES["reparam"].values(STEPS, np.stack(mapped, axis=-1))
    np.testing.assert_allclose(curve, original.predict(STEPS), rtol=1e-9)


@pytest.mark.parametrize("name", TRUE)
def test_covariance_scaled_back_is_that_of_a_direct_fit(name):
    """The same data fitted raw by SciPy, started at the answer so that conditioning does not decide."""
    y = _noisy(name, seed=2)[0]
    fits = fit_curves(STEPS, y, hypothesis=name)
    hypothesis = HYPOTHESES[name]
    published = hypothesis.published
    assert published is not None
    jacobian = published.jacobian(STEPS, *fits.popt)
    size = np.linalg.norm(jacobian, axis=0)
    inverse = np.linalg.pinv((jacobian / size).T @ (jacobian / size), rcond=1e-15, hermitian=True)
    rss = np.sum(fits.residuals**2)
    expected = inverse / np.outer(size, size) * rss / (len(y) - hypothesis.num_params)
    errors, expected_errors = np.sqrt(np.diag(fits.pcov)), np.sqrt(np.diag(expected))
    np.testing.assert_allclose(errors, expected_errors, rtol=1e-4)
    np.testing.assert_allclose(
        fits.pcov / np.outer(errors, errors), expected / np.outer(expected_errors, expected_errors), atol=1e-5
    )
    _, direct = curve_fit(
        published.function, STEPS, y, p0=fits.popt, method="trf", jac=published.jacobian, x_scale="jac"
    )
    np.testing.assert_allclose(errors, np.sqrt(np.diag(direct)), rtol=0.02)


@settings(max_examples=12, deadline=None)
@given(name=st.sampled_from(PUBLISHED), j=st.integers(-40, 40), k=st.integers(-8, 20), seed=st.integers(0, 5))
def test_units_of_steps_and_values_change_the_result_only_as_they_must(name, j, k, seed):
    """Powers of two divide out exactly: the whole search is the same to the bit, and only scaling back rounds."""
    y = _noisy(name, seed=seed)[0]
    a, b = fit_curves(STEPS, y, hypothesis=name), fit_curves(STEPS * 2.0**k, y * 2.0**j, hypothesis=name)
    assert a.message == b.message
    np.testing.assert_allclose(b.r2, a.r2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(b.residuals, a.residuals * 2.0**j, rtol=0, atol=1e-10 * np.ptp(y) * 2.0**j)
    np.testing.assert_allclose(b.aic - a.aic, 2 * len(y) * j * np.log(2), atol=1e-6)


@settings(max_examples=12, deadline=None)
@given(name=st.sampled_from(["original", "reparam", "reparam_regularized"]), shift=st.floats(-1e3, 1e3))
def test_a_shift_of_the_values_moves_only_the_baseline(name, shift):
    y = _noisy(name, share=0.005)[0]
    a, b = fit_curves(STEPS, y, hypothesis=name), fit_curves(STEPS, y + shift, hypothesis=name)
    np.testing.assert_allclose(b.predict(STEPS), a.predict(STEPS) + shift, atol=1e-4 * np.ptp(y))
    assert b.r2 == pytest.approx(a.r2, abs=1e-7)
    assert b.popt[-1] - shift == pytest.approx(a.popt[-1], abs=1e-2 * np.ptp(y))


def test_regularised_curves_lose_little_and_are_better_conditioned():
    """Two logarithmic growths: plain reparam and original have no finite optimum in beta or lam."""
    rng = np.random.default_rng(4)
    clean = np.stack([40 * np.log1p(STEPS / 2000), 300 * (1 - np.exp(-STEPS / 20_000)), _noisy("original")[0]])
    y = clean + rng.normal(0, 0.01, clean.shape) * np.ptp(clean, axis=-1, keepdims=True)
    for name in ("original", "reparam"):
        plain, regularised = (fit_curves(STEPS, y, hypothesis=m) for m in (name, f"{name}_regularized"))
        assert regularised.success.all()
        fitted = plain.success
        assert fitted.any()
        drop = plain.r2[fitted] - regularised.r2[fitted]
        assert np.all(drop > -1e-9)
        assert np.all(drop < 0.003)
        back = np.linalg.inv(HYPOTHESES[name].rescale(LAST, 1.0))
        conditions = [
            [np.linalg.cond(back @ c @ back.T) if np.isfinite(c).all() else np.inf for c in fits.pcov]
            for fits in (plain, regularised)
        ]
        assert np.isfinite(conditions[1]).all()
        assert max(conditions[1]) < max(conditions[0]) / 10


def test_scores_and_residuals_are_of_the_data_in_their_units():
    y = _noisy("step1")[0]
    y[[3, 7]] = np.nan
    fits = fit_curves(STEPS, y, hypothesis="step1")
    seen = np.isfinite(y)
    residuals = y - HYPOTHESES["step1"].values(STEPS, fits.popt)
    np.testing.assert_allclose(fits.residuals[seen], residuals[seen])
    assert np.isnan(fits.residuals[~seen]).all()
    rss, n = np.sum(residuals[seen] ** 2), seen.sum()
    assert fits.num_points == n == len(STEPS) - 2
    assert fits.r2 == pytest.approx(1 - rss / np.sum((y[seen] - y[seen].mean()) ** 2))
    assert fits.aic == pytest.approx(n * np.log(rss / n) + 2 * 2)


def test_regularised_scores_leave_the_penalty_out():
    y = _noisy("reparam")[0]
    fits = fit_curves(STEPS, y, hypothesis="reparam_regularized")
    rss = np.sum((y - fits.predict(STEPS)) ** 2)
    assert fits.r2 == pytest.approx(1 - rss / np.sum((y - y.mean()) ** 2))
    assert fits.aic == pytest.approx(len(y) * np.log(rss / len(y)) + 2 * 5)


def test_missing_points_are_as_if_never_measured():
    y = _noisy("reparam")[0]
    keep = np.ones(len(y), bool)
    keep[[2, 20, 36]] = False
    masked = fit_curves(STEPS, np.where(keep, y, np.nan))
    np.testing.assert_array_equal(masked.popt, fit_curves(STEPS[keep], y[keep]).popt)


def test_a_perfect_fit_has_a_finite_aic():
    t = np.arange(10.0)
    y = 3.0 * -np.expm1(-t / 2.0)
    fits = fit_curves(t, y, hypothesis="step1")
    assert np.isfinite(fits.aic)
    assert fits.aic >= 10 * 2 * np.log(np.finfo(float).eps * y.max()) + 4 - 1e-9
    assert not fits.suspects.any()


def test_tiny_values_do_not_underflow():
    y = _noisy("step1")[0]
    fits, tiny = fit_curves(STEPS, y, hypothesis="step1"), fit_curves(STEPS, y * 2.0**-800, hypothesis="step1")
    assert tiny.r2 == fits.r2
    assert np.isfinite(tiny.aic)


def _broken():
    good = _noisy("reparam")[0]
    few = np.full(len(STEPS), np.nan)
    few[:4] = good[:4]
    infinite = good.copy()
    infinite[11] = np.inf
    rounding = 5.0 + 1e-15 * np.arange(len(STEPS)) % 2e-15
    return {
        "too few points": few,
        "infinite at step 1000": infinite,
        "the series is constant": np.full(len(STEPS), 5.0),
        "series is constant (0)": np.zeros(len(STEPS)),
        "is constant (5)": rounding,
        "too few points: 0 finite": np.full(len(STEPS), np.nan),
        "squares cannot be summed": good * 1e300,
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_cannot_be_fitted_says_why_and_leaves_the_others_alone(name):
    broken = _broken()
    if name in ("step1", "step2"):
        del broken["too few points"]  # its four points are enough for these
    good = _noisy(name)[0]
    fits = fit_curves(STEPS, np.stack([*broken.values(), good]), hypothesis=name)
    for said, message in zip(broken, fits.message, strict=False):
        assert said in message
    assert fits.success.tolist() == [False] * len(broken) + [True]
    assert np.isnan(fits.popt[:-1]).all()
    assert np.isnan(fits.pcov[:-1]).all()
    assert np.isnan(fits.r2[:-1]).all()
    assert np.isnan(fits.residuals[:-1]).all()
    np.testing.assert_array_equal(fits.popt[-1], fit_curves(STEPS, good, hypothesis=name).popt)


def test_no_convergence_is_a_result(monkeypatch):
    """A falling line: the best curve lies at infinity, and a search with no tolerance never ends."""
    monkeypatch.setattr(trf, "TOLERANCE", 1e-15)
    y = -0.001 * STEPS + np.random.default_rng(0).normal(0, 3, (6, len(STEPS)))
    fits = fit_curves(STEPS, y, hypothesis="original")
    failed = ~fits.success
    assert failed.any()
    assert all("no convergence" in m for m in fits.message[failed])
    assert np.isnan(fits.popt[failed]).all()


def test_as_many_points_as_parameters_have_no_error_bars():
    t = np.array([0.0, 1000, 4000, 20_000, 100_000])
    fits = fit_curves(t, np.array([1.0, 5, 9, 12, 10]))
    assert fits.num_points < PAPER_MINIMUM_POINTS
    assert fits.success
    assert np.isinf(fits.pcov).all()


def test_suspect_points_are_flagged_and_still_fitted():
    y = _noisy("step1", share=0.01)[0]
    clean = fit_curves(STEPS, y, hypothesis="step1")
    assert not clean.suspects.any()
    y[25] += 0.2 * np.ptp(y)
    fits = fit_curves(STEPS, y, hypothesis="step1")
    assert np.flatnonzero(fits.suspects).tolist() == [25]
    assert fits.popt[1] > clean.popt[1]


def test_leading_axes_and_predict():
    y = _noisy("step1", series=6).reshape(2, 3, -1)
    fits = fit_curves(STEPS, y, hypothesis="step1")
    assert (fits.popt.shape, fits.pcov.shape) == ((2, 3, 2), (2, 3, 2, 2))
    assert (
        fits.r2.shape == fits.aic.shape == fits.success.shape == fits.message.shape == fits.num_points.shape == (2, 3)
    )
    assert fits.suspects.shape == fits.residuals.shape == y.shape
    np.testing.assert_allclose(fits.predict(STEPS), y - fits.residuals)
    np.testing.assert_array_equal(fits.popt[1, 2], fit_curves(STEPS, y[1, 2], hypothesis="step1").popt)
    assert fits.predict([10.0]).shape == (2, 3, 1)
    assert fit_curves(STEPS, np.empty((0, len(STEPS)))).popt.shape == (0, 5)


@pytest.mark.parametrize(
    ("t", "y", "options", "said"),
    [
        ([0, 1, 2], [1, 2, 3], {"hypothesis": "cubic"}, "cubic"),
        ([0, 1, 2], [1, 2, 3], {"method": "guess"}, "guess.*trf"),
        ([0, 1], [1, 2, 3], {}, r"shape \(3,\).*2 steps"),
        ([[0, 1]], [1, 2], {}, r"shape \(1, 2\)"),
        ([], [], {}, "at least one step"),
        ([0, 1], 3.0, {}, r"shape \(\)"),
        ([-1, 0, 1], [1, 2, 3], {}, "-1.*not negative"),
        ([0, np.nan, 1], [1, 2, 3], {}, "nan"),
        ([0, 1, 2], [1, 2, 3], {"weights": [1, -1, 1]}, "weight"),
        ([0, 1, 2], [1, 2, 3], {"weights": [1, 1]}, "weights have shape"),
        ([0, 1, 2], [1, 2, 3], {"hypothesis": "power_law"}, "power_law.*varpro"),
        ([0, 1, 2], [1, 2, 3], {"robust": "tukey"}, "tukey.*huber"),
        ([0, 1, 2], ["a", "b", "c"], {}, "numbers"),
    ],
)
def test_misuse_is_refused(t, y, options, said):
    with pytest.raises(UsageError, match=said):
        fit_curves(t, y, **options)


def test_records_keep_every_layer_and_every_key_in_strict_json():
    broken = _broken()
    trajectories = np.stack([_noisy("reparam")[0], *broken.values()], axis=-1)
    trajectories[25, 0] += 0.5 * np.ptp(trajectories[:, 0])
    records = fit_records(STEPS.astype(int), trajectories, PUBLISHED, method="trf")
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    assert len(records) == 1 + len(broken)
    for layer in records:
        assert list(layer) == list(PUBLISHED)
        for name, record in layer.items():
            p = HYPOTHESES[name].num_params
            assert list(record)[:6] == ["param_names", "popt", "pcov", "r2", "aic", "residuals"]
            assert record["param_names"] == list(HYPOTHESES[name].param_names)
            assert len(record["popt"]) == p
            assert [len(row) for row in record["pcov"]] == [p] * p
            assert len(record["residuals"]) == len(STEPS)
    good, constant = records[0]["reparam"], records[3]["reparam"]
    assert good["message"] == ""
    assert 40000 in good["suspects"]
    assert good["popt"] == fit_curves(STEPS, trajectories[:, 0]).popt.tolist()
    assert constant["popt"] == [None] * 5
    assert constant["r2"] is None
    assert "constant" in constant["message"]


def test_records_want_step_by_layer():
    with pytest.raises(UsageError, match="step x layer"):
        fit_records(STEPS, _noisy("step1")[0], ["step1"])
    with pytest.raises(UsageError, match="unknown hypothesis"):
        fit_records(STEPS, _noisy("step1").T, ["step9"])


def test_nothing_warns_on_noise_of_any_kind():
    rng = np.random.default_rng(8)
    y = np.stack([rng.normal(size=len(STEPS)), rng.standard_cauchy(len(STEPS)), (STEPS == 0) * 1.0, STEPS**2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in PUBLISHED:
            fits = fit_curves(STEPS, y, hypothesis=name)
            assert np.all(np.isfinite(fits.r2) == fits.success)


def test_fits_are_the_same_every_time():
    y = _noisy("reparam", series=2)
    np.testing.assert_array_equal(fit_curves(STEPS, y).popt, fit_curves(STEPS, y).popt)


def test_a_model_is_fitted_in_seconds():
    """Three layers, every hypothesis: the whole of a small model's three quantities is ten times this."""
    begin = time.process_time()
    fit_records(STEPS, _noisy("reparam", share=0.03, series=9).T, PUBLISHED, method="trf")
    assert time.process_time() - begin < 10


def test_a_curve_that_does_not_fit_is_said_first_and_nothing_of_it_is_called_determined():
    t = np.arange(40.0)
    falling = 100 - t
    fits = fit_curves(
        t, np.stack([falling, 1 - np.exp(-t / 5)]), hypothesis="step1"
    )  # rises from 0, and can do nothing else
    assert fits.r2[0] < 0 < fits.r2[1]
    head, *lines = fits.summary(0).splitlines()
    assert "R2 = -" in head
    assert lines[0].startswith("The curve does not fit: a constant lies closer to the data.")
    assert not [line for line in lines if "identified" in line or line.startswith(("Determined", "Not determined"))]
    assert "identified one by one" in fits.summary(1)
    assert "the curve does not fit 1 of them, where a constant lies closer" in fits.summary().splitlines()[0]
