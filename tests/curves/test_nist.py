"""Accuracy: the fits agree with NIST's certified parameters, standard deviations and residual sums, from no start."""

from __future__ import annotations

import numpy as np
import pytest

from madyn.curves.fitting.fits import fit_curves
from madyn.curves.hypotheses.separable import SeparableModel
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


def two_decays(x, b4, b5):
    """MGH17 with its rates in either order: where they are equal the basis has not full rank."""
    return np.stack(np.broadcast_arrays(1.0, *(np.exp(-np.asarray(b)[..., None] * x) for b in (b4, b5))), axis=-1)


def rational(x, b4, b5):
    """Kirby2 as published: in most of a box that holds both signs, the curve has poles."""
    with np.errstate(all="ignore"):
        below = 1 + np.asarray(b4)[..., None] * x + np.asarray(b5)[..., None] * x**2
        return np.stack([1 / below, x / below, x**2 / below], axis=-1)


@pytest.mark.parametrize(
    ("name", "basis", "box"),
    [
        ("MGH17", two_decays, {"b4": (1e-6, 10.0), "b5": (1e-6, 10.0)}),
        ("Kirby2", rational, {"b4": (-1.0, 1.0), "b5": (-1e-2, 1e-2)}),
    ],
)
def test_curves_as_published_need_no_reparametrisation(name, basis, box):
    problem = next(p for p in PROBLEMS if p.name == name)
    fits = fit_curves(problem.x, problem.y, SeparableModel(basis, box, ("b1", "b2", "b3")))
    found = np.sort(fits.popt)  # in any order of terms that can change places
    assert np.min(digits(found, np.sort(problem.values))) >= 8
    assert digits(fits.residuals @ fits.residuals, problem.rss) >= 8
