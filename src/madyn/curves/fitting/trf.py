"""The published fitting method: SciPy's `curve_fit` with the Trust Region Reflective algorithm.

One search a series, from the published start, with the analytic Jacobian, on normalised data; parameters and covariance
are scaled back to raw steps and data units. It stays as the yardstick for faster methods, so its weaknesses stay too: a
single start may end in a local optimum or run out of evaluations, and then the series has no fit.
"""

from __future__ import annotations

import warnings

import numpy as np

from madyn.curves.fitting.objective import penalty_rows
from madyn.curves.fitting.solution import Solution
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.curves.units import Units
from madyn.typing import Array

# A search ends when a step takes off less than this share of the sum of squares. The paper does not say what it used.
# SciPy's default, 1e-8, spends its whole limit of evaluations in the flat valleys that these curves have: on 80 noisy
# series of 37 points it failed on 24 with reparam and on 50 with original, against none and 4 with 1e-5, which lost
# less than 1e-4 of R2 on nine series in ten and 0.02 at most.
TOLERANCE = 1e-5


def solve(hypothesis: SeparableModel, t: Array, y: Array, weights: Array) -> Solution:
    """Fit every series of y.

    The covariance is s^2 (J'WJ)^-1 with s^2 = RSS / (n - p), J the Jacobian at the optimum. For a regularised
    hypothesis the penalty's rows count as data, in J, in RSS and in n. It is infinite where J has not full rank or
    n = p: then the data do not say how far a parameter can move.

    Args:
        hypothesis: the curve, one of the published ones.
        t: steps, (m, n), finite and not negative where there is weight.
        y: (m, n), finite where there is weight.
        weights: (m, n). Each series has at least p points of weight above 0 and is not constant.
    """
    m, p, q = len(y), hypothesis.num_params, hypothesis.num_nonlinear
    popt, pcov, residuals = np.full((m, p), np.nan), np.full((m, p, p), np.nan), np.full(y.shape, np.nan)
    jacobian = np.full((m, y.shape[1] + penalty_rows(hypothesis), p), np.nan)
    messages = []
    for i, seen in enumerate(weights > 0):
        try:
            popt[i], pcov[i], rows = _solve_one(hypothesis, t[i, seen], y[i, seen], weights[i, seen])
        except _NoFit as reason:
            messages.append(str(reason))
        else:
            messages.append("")
            residuals[i] = y[i] - hypothesis.values(t[i], popt[i])
            jacobian[i] = 0.0
            jacobian[i, np.concatenate([seen, np.ones(penalty_rows(hypothesis), bool)])] = rows
    inside = np.zeros((m, q), bool)
    return Solution(popt, pcov, messages, inside, inside, residuals, jacobian)


class _NoFit(Exception):  # noqa: N818 - an outcome inside this module, never seen outside
    """No fit of this series; its text says why."""


def _solve_one(hypothesis: SeparableModel, t: Array, y: Array, weights: Array) -> tuple[Array, Array, Array]:
    """(popt, pcov, Jacobian by popt) in the series' own units."""
    units = Units.of(hypothesis, float(np.ptp(t)) or 1.0, np.asarray(np.min(y)), np.asarray(np.max(y)))
    s, v = t / units.T, units.scaled(y)
    params, covariance, jacobian = _search(hypothesis, s, v, np.sqrt(weights / np.mean(weights)))
    back, raw = units.matrices(hypothesis), units.parameters(hypothesis, params)
    if not np.all(np.isfinite(raw)):
        raise _NoFit("the fit ended at parameters that are not finite")
    jacobian = np.asarray(units.scale * np.linalg.solve(back.T, jacobian.T).T, dtype=float)
    if not np.all(np.isfinite(covariance)):
        return raw, np.full_like(covariance, np.inf), jacobian
    return raw, np.asarray(back @ covariance @ back.T, dtype=float), jacobian


def _search(hypothesis: SeparableModel, s: Array, v: Array, weight_roots: Array) -> tuple[Array, Array, Array]:
    """Optimum, covariance and Jacobian in normalised units; the covariance is infinite where that has not full rank."""
    from scipy.optimize import OptimizeWarning, curve_fit  # a quarter of a second, which the engine does without

    published, penalty = hypothesis.published, hypothesis.penalty
    assert published is not None
    start = published.start(s, v)

    def function(s: Array, *params: float) -> Array:
        rows = weight_roots * published.function(s, *params)
        return rows if penalty is None else np.concatenate([rows, penalty.rows(np.asarray(params), start)])

    def jacobian(s: Array, *params: float) -> Array:
        rows = weight_roots[:, np.newaxis] * published.jacobian(s, *params)
        return rows if penalty is None else np.concatenate([rows, penalty.jacobian(np.asarray(params))])

    target = np.concatenate([weight_roots * v, np.zeros(len(function(s, *start)) - len(v))])
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            # A covariance that cannot be estimated is infinite in the result, which says it without a warning.
            warnings.simplefilter("ignore", OptimizeWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            params, covariance = curve_fit(
                function, s, target, p0=start, bounds=(published.lower, np.inf), method="trf", jac=jacobian,
                ftol=TOLERANCE,
            )  # fmt: skip
    except RuntimeError as error:
        # curve_fit's only use of this type: the limit of evaluations was reached.
        raise _NoFit("no convergence within SciPy's limit of evaluations") from error
    except (ValueError, np.linalg.LinAlgError) as error:
        # The search reached parameters at which the curve or its Jacobian overflows.
        raise _NoFit(f"the search left the curve's domain: {error}") from error
    at_end = jacobian(s, *params)
    if np.linalg.matrix_rank(at_end) < len(params):
        # curve_fit would answer with a pseudo-inverse, in which a direction that nothing determines has variance zero.
        covariance = np.full_like(covariance, np.inf)
    return params, np.asarray(covariance, dtype=np.float64), at_end
