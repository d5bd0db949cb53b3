"""Accuracy: the fits agree with NIST's certified parameters, standard deviations and residual sums, from no start."""

from __future__ import annotations

import numpy as np
import pytest

from nist_problems import PROBLEMS, Problem, digits, fitted, published_parameters

DIGITS, DEVIATION_DIGITS, RSS_DIGITS = 8, 6, 9

each_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=[problem.name for problem in PROBLEMS])


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
