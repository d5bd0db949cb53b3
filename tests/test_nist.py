"""Accuracy: the fits agree with NIST's certified parameters, standard deviations and residual sums, from no start."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from madyn.curves.fits import Fits, fit_curves
from madyn.curves.separable import SeparableModel
from nist_problems import PROBLEMS, Problem

Array = NDArray[np.float64]

DIGITS, DEVIATION_DIGITS, RSS_DIGITS = 8, 6, 9

each_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=[problem.name for problem in PROBLEMS])


def fitted(problem: Problem) -> Fits:
    model = SeparableModel(
        problem.basis, problem.nonlinear, problem.linear, name=problem.name, linear_scale=problem.linear_scale
    )
    return fit_curves(problem.x, problem.y, model)


def published_parameters(problem: Problem, fits: Fits) -> tuple[Array, Array]:
    """(b1, b2, ...; their standard deviations), these by the delta method: derivatives of `back` by complex step."""
    popt = fits.popt
    change = np.empty((len(problem.values), len(popt)))
    for j, size in enumerate(np.abs(popt)):
        shifted = popt.astype(complex)
        shifted[j] += 1e-100j * size
        change[:, j] = np.imag(np.array(problem.back(shifted))) / (1e-100 * size)
    return np.array(problem.back(popt)), np.sqrt(np.diag(change @ fits.pcov @ change.T))


def digits(computed: Array | float, certified: Array | float) -> Array:
    """Log relative error: how many significant digits agree."""
    error = np.abs(np.asarray(computed) - certified) / np.abs(certified)
    return -np.log10(np.maximum(error, 1e-16))


@each_problem
def test_the_certified_parameters_give_the_certified_residual_sum(problem: Problem) -> None:
    residuals = problem.y - problem.formula(problem.x, *problem.values)
    assert digits(residuals @ residuals, problem.rss) >= RSS_DIGITS


@each_problem
def test_a_fit_from_no_start_has_the_certified_values(problem: Problem) -> None:
    fits = fitted(problem)
    assert fits.success, fits.message
    assert not np.any(fits.at_edge)
    parameters, deviations = published_parameters(problem, fits)
    assert np.all(digits(parameters, problem.values) >= DIGITS)
    assert np.all(digits(deviations, problem.deviations) >= DEVIATION_DIGITS)
    assert digits(fits.residuals @ fits.residuals, problem.rss) >= RSS_DIGITS
    assert fits.predict(problem.x) == pytest.approx(problem.formula(problem.x, *parameters), rel=1e-9)
