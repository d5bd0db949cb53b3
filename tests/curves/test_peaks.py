"""Peaks against numerical maximisation, and the exact maps between the two forms of the curve."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from madyn.curves.hypotheses.original import original as original_values
from madyn.curves.hypotheses.peaks import observable, peak, peak_original
from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.curves.hypotheses.reparametrisation import original_to_reparam, reparam_to_original


def _maximum(beta, tau0, A1, A2):
    """The maximiser of the log of a positive curve over log s, s = t + tau0: unimodal, and of moderate size."""
    c = A2 / A1

    def minus_log(v):
        return beta * np.exp(v) - np.log(v + c) if v + c > 0 else np.inf

    # Where the bracketed logarithm is positive, the maximum lies between -c and log(1/beta) + a little.
    low, high = -c, max(-c + 1, np.log(1 / beta)) + 1
    options = {"xatol": 1e-12, "maxiter": 2000}
    best: Any = minimize_scalar(minus_log, bounds=(low, high), method="bounded", options=options)
    return np.exp(best.x) - tau0


@pytest.mark.parametrize("beta", [1e-12, 1e-5, 0.3, 40.0])
@pytest.mark.parametrize("ratio", [-500.0, -30.0, -1.0, 0.0, 1.0, 10.0])
def test_peak_is_the_numerical_maximum(beta, ratio):
    A1, tau0 = 1.7, 0.2
    t_peak, height = peak(beta, tau0, A1, A1 * ratio, 5.0)
    s = t_peak + tau0
    assert s == pytest.approx(_maximum(beta, tau0, A1, A1 * ratio) + tau0, rel=1e-4)
    curve = np.exp(-beta * t_peak) * A1 * (np.log(s) + ratio) + 5.0
    assert height == pytest.approx(curve, rel=1e-9)


@given(
    log_beta=st.floats(-27, 4), ratio=st.floats(-600, 600), log_tau0=st.floats(-5, 9), A1=st.floats(1e-3, 1e3)
)  # fmt: skip
def test_stationary_and_maximal_in_all_regimes(log_beta, ratio, log_tau0, A1):
    """The derivative's sign, in a form that does not overflow, changes from + to - at the peak."""
    beta, tau0 = np.exp(log_beta), np.exp(log_tau0)
    t_peak, _ = peak(beta, 0.0, A1, A1 * ratio, 0.0)
    log_s = np.log(t_peak)

    def slope(v):
        return np.exp(-v - log_beta) - (v + ratio)

    step = 1e-9 * max(1, abs(log_s), abs(ratio))
    assert slope(log_s - step) > 0 > slope(log_s + step)
    shifted, _ = peak(beta, tau0, A1, A1 * ratio, 0.0)
    assert shifted == pytest.approx(t_peak - tau0, rel=1e-12, abs=1e-12 * (t_peak + tau0))


@pytest.mark.parametrize("ratio", [-1e3, 1e3])
@pytest.mark.parametrize("beta", [1e-12, 1e-3, 1.0])
def test_extreme_ratios_overflow_nowhere(ratio, beta):
    t_peak, height = peak(beta, 0.0, 1.0, ratio, 7.0)
    if ratio > 0:
        # beta s (log s + ratio) = 1, and log s is small beside the ratio.
        assert beta * t_peak * (np.log(t_peak) + ratio) == pytest.approx(1, rel=1e-10)
        assert height == pytest.approx(np.exp(-beta * t_peak) * (np.log(t_peak) + ratio) + 7.0)
    else:
        # log s > 1000: the step is beyond the largest float and the curve has decayed to K by then.
        assert t_peak == np.inf
        assert height == 7.0


def test_no_maximum_is_nan():
    nan = np.nan
    t_peak, height = peak([1, 1, 0, -1, nan, 1, 1e-3], 1.0, [-1, 0, 1, 1, 1, nan, 1], 0.5, 0.0)
    assert np.isnan(t_peak).tolist() == [True] * 6 + [False]
    assert np.isnan(height).tolist() == [True] * 6 + [False]
    assert np.isnan(peak_original([-1, 1, 1], [1, -1, 1], [1, 1, 0], 1.0, 0.0)).all()


def test_peak_of_original_is_the_same_peak():
    A, lam, gamma, t0, K = 3.0, 0.2, 0.01, 0.7, 1.0
    t = np.linspace(0, 2000, 2_000_001)
    curve = HYPOTHESES["original"].values(t, [lam, gamma, t0, A, K])
    t_peak, height = peak_original(A, lam, gamma, t0, K)
    assert t_peak == pytest.approx(t[np.argmax(curve)], abs=1e-3)
    assert height == pytest.approx(curve.max(), rel=1e-12)
    np.testing.assert_allclose(peak(*original_to_reparam(A, lam, gamma, t0, K)), (t_peak, height), rtol=1e-12)


def test_observable_is_inside_the_run():
    assert observable([-1.0, 0.0, 1.0, 100.0, 101.0, np.nan, np.inf], 100).tolist() == [0, 0, 1, 1, 0, 0, 0]


@given(
    beta=st.floats(1e-6, 10), tau0=st.floats(1e-3, 50), A1=st.floats(-5, 5).filter(lambda a: abs(a) > 0.1),
    A2=st.floats(-5, 5), K=st.floats(-5, 5),
)  # fmt: skip
def test_maps_are_exact_and_inverse(beta, tau0, A1, A2, K):
    params = np.array([beta, tau0, A1, A2, K])
    mapped = reparam_to_original(*params)
    t = np.array([0.0, 0.5, 3.0, 20.0])
    reparam = HYPOTHESES["reparam"].values(t, params)
    size = np.abs(A1) * (np.abs(np.log(t + tau0)) + 1) + np.abs(A2) + np.abs(K)
    # x = gamma t + t0 is relative to gamma: rounding in log x grows with |log gamma|, and not with the curve.
    assert np.all(np.abs(original_values(t, *mapped[1:4], mapped[0], mapped[4]) - reparam) <= 1e-11 * size)
    np.testing.assert_allclose(original_to_reparam(*mapped), params, rtol=1e-9, atol=1e-9)


def test_maps_are_nan_where_they_do_not_exist():
    originals = np.array(reparam_to_original(0.1, 1.0, [0.0, 1e-3, 1e-3, 1.0], [1.0, 1.0, -1.0, 1.0], 0.0))
    assert np.isnan(originals).all(axis=0).tolist() == [True, True, True, False]
    reparams = np.array(original_to_reparam(1.0, 1.0, [-1.0, 0.0, 1.0], 1.0, 0.0))
    assert np.isnan(reparams).all(axis=0).tolist() == [True, True, False]
