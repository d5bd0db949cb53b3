"""Responses of sampled curves are those of the formula that they were sampled from."""

import numpy as np
import pytest

from madyn.curves import curve_quantities, sampled
from madyn.curves.hypotheses.registry import HYPOTHESES

STEPS = np.linspace(0, 30_000, 30_001)
RISING = {"step1": [5000.0, 7.0], "reparam": [3e-4, 200.0, 2.0, -1.0, 3.0]}


@pytest.mark.parametrize("name", RISING)
def test_they_are_those_of_the_formula(name):
    of_formula = curve_quantities(name, RISING[name], last_step=30_000)
    values = HYPOTHESES[name].values(STEPS, RISING[name])
    half = sampled.half_rise_step(STEPS, values)
    assert half == pytest.approx(of_formula["half_rise_step"].item(), abs=0.01)
    if of_formula["peak_observable"]:
        assert sampled.peak_step(STEPS, values) == pytest.approx(of_formula["peak_step"].item(), abs=1)
    else:
        assert sampled.peak_step(STEPS, values) == 30_000


def test_one_of_the_curves_has_its_peak_inside():
    assert [bool(curve_quantities(n, p, 30_000)["peak_observable"]) for n, p in RISING.items()] == [False, True]


def test_half_of_the_rise_is_half_of_the_way_to_the_top():
    """And not to the last value, which lies lower."""
    assert sampled.half_rise_step(np.array([0.0, 1, 2, 3]), np.array([0.0, 2, 8, 3])) == pytest.approx(4 / 3)


def test_what_only_falls_has_no_rise():
    assert np.isnan(sampled.half_rise_step(np.arange(3.0), np.array([3.0, 2, 1])))


def test_a_peak_has_to_fall():
    steps, values = np.arange(4.0), np.array([[0.0, 3, 2, 1], [0, 1, 3, 2.5], [0, 1, 2, 3]])
    assert sampled.peak_step(steps, values).tolist() == [1, 2, 3]
    np.testing.assert_array_equal(sampled.peak_step(steps, values, fall=1.0), [1, np.nan, np.nan])


def test_values_lie_on_straight_lines_and_go_on_after_the_last():
    places, curves = np.array([0.0, 1, 3]), np.array([[1.0, 2, 6], [0, 0, 1]])
    assert sampled.value_at(2.0, places, curves).tolist() == [4, 0.5]
    assert sampled.value_at(0.0, places, curves).tolist() == [1, 0]
    assert sampled.value_at(9.0, places, curves).tolist() == [6, 1]
