"""The published fitting method: SciPy's `curve_fit` with the Trust Region Reflective algorithm.

One search a series, from the published start, with the analytic Jacobian, on normalised data; parameters and covariance
are scaled back to raw steps and data units. It stays as the yardstick for faster methods, so its weaknesses stay too: a
single start may end in a local optimum or run out of evaluations, and then the series has no fit.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit

from madyn.curves.hypotheses import Hypothesis

Array = NDArray[np.float64]

# A search ends when a step takes off less than this share of the sum of squares. The paper does not say what it used.
# SciPy's default, 1e-8, spends its whole limit of evaluations in the flat valleys that these curves have: on 80 noisy
# series of 37 points it failed on 24 with reparam and on 50 with original, against none and 4 with 1e-5, which lost
# less than 1e-4 of R2 on nine series in ten and 0.02 at most.
TOLERANCE = 1e-5


class Solution(NamedTuple):
    """What a method returns for m series: popt (m, p), pcov (m, p, p) in raw units, and m messages, "" for success."""

    popt: Array
    pcov: Array
    messages: list[str]


class _Scale(NamedTuple):
    """Raw step = T s; raw value = R v + minimum."""

    T: float
    R: float
    minimum: float


def solve(hypothesis: Hypothesis, t: Array, y: Array) -> Solution:
    """Fit every series of y.

    The covariance is s^2 (J'J)^-1 with s^2 = RSS / (n - p), J the Jacobian at the optimum. For a regularised hypothesis
    the penalty's q rows count as data, in J, in RSS and in n. It is infinite where J has not full rank or n = p: then
    the data do not say how far a parameter can move.

    Args:
        hypothesis: the curve.
        t: steps, (n,), finite and not negative.
        y: (m, n); nan is missing. Each series has at least p finite points and is not constant.
    """
    p = hypothesis.num_params
    popt, pcov = np.full((len(y), p), np.nan), np.full((len(y), p, p), np.nan)
    messages = []
    for i, series in enumerate(y):
        seen = np.isfinite(series)
        try:
            popt[i], pcov[i] = _solve_one(hypothesis, t[seen], series[seen])
        except _NoFit as reason:
            messages.append(str(reason))
        else:
            messages.append("")
    return Solution(popt, pcov, messages)


class _NoFit(Exception):  # noqa: N818 - an outcome inside this module, never seen outside
    """No fit of this series; its text says why."""


def _solve_one(hypothesis: Hypothesis, t: Array, y: Array) -> tuple[Array, Array]:
    scale = _scale(hypothesis, t, y)
    s, v = t / scale.T, (y - scale.minimum) / scale.R
    params, covariance = _search(hypothesis, s, v)
    back = hypothesis.rescale(scale.T, scale.R)
    raw = back @ params
    if hypothesis.has_offset:
        raw[hypothesis.param_names.index("K")] += scale.minimum
    if not np.all(np.isfinite(raw)):
        raise _NoFit("the fit ended at parameters that are not finite")
    if not np.all(np.isfinite(covariance)):
        return raw, np.full_like(covariance, np.inf)
    return raw, back @ covariance @ back.T


def _scale(hypothesis: Hypothesis, t: Array, y: Array) -> _Scale:
    if hypothesis.has_offset:
        return _Scale(float(np.ptp(t)), float(np.ptp(y)), float(np.min(y)))
    return _Scale(float(np.ptp(t)), float(np.max(np.abs(y))), 0.0)


def _search(hypothesis: Hypothesis, s: Array, v: Array) -> tuple[Array, Array]:
    """Optimum and covariance in normalised units; the covariance is infinite where the Jacobian has not full rank."""
    start = hypothesis.start(s, v)
    penalty = hypothesis.penalty

    def function(s: Array, *params: float) -> Array:
        rows = hypothesis.function(s, *params)
        return rows if penalty is None else np.concatenate([rows, penalty.rows(np.asarray(params), start)])

    def jacobian(s: Array, *params: float) -> Array:
        rows = hypothesis.jacobian(s, *params)
        return rows if penalty is None else np.concatenate([rows, penalty.jacobian(np.asarray(params))])

    target = v if penalty is None else np.concatenate([v, np.zeros(len(function(s, *start)) - len(v))])
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            # A covariance that cannot be estimated is infinite in the result, which says it without a warning.
            warnings.simplefilter("ignore", OptimizeWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            params, covariance = curve_fit(
                function, s, target, p0=start, bounds=(hypothesis.lower, np.inf), method="trf", jac=jacobian,
                ftol=TOLERANCE,
            )  # fmt: skip
    except RuntimeError as error:
        # curve_fit's only use of this type: the limit of evaluations was reached.
        raise _NoFit("no convergence within SciPy's limit of evaluations") from error
    except (ValueError, np.linalg.LinAlgError) as error:
        # The search reached parameters at which the curve or its Jacobian overflows.
        raise _NoFit(f"the search left the curve's domain: {error}") from error
    if np.linalg.matrix_rank(jacobian(s, *params)) < len(params):
        # curve_fit would answer with a pseudo-inverse, in which a direction that nothing determines has variance zero.
        covariance = np.full_like(covariance, np.inf)
    return params, covariance
