"""Units of fits: there and back, one series or many, for every hypothesis."""

import numpy as np
import pytest

from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.curves.units import Units

X = np.linspace(0, 1, 7)
LOW, HIGH = np.array([2.0, -3.0]), np.array([5.0, 1.0])


@pytest.mark.parametrize("name", HYPOTHESES)
def test_parameters_go_back_with_their_curves(name):
    """The curve of parameters in units, brought back, is the curve of the parameters that were brought back."""
    hypothesis = HYPOTHESES[name]
    units = Units.of(hypothesis, 1000.0, LOW, HIGH)
    u = hypothesis.search_box.mean(axis=1) + 0.1 * np.arange(3)[:, np.newaxis]
    theta = np.broadcast_to(hypothesis.nonlinear_at(u), (2, 3, hypothesis.num_nonlinear))
    linear = np.ones((2, 3, len(hypothesis.linear)))
    scaled = np.concatenate([theta, linear], axis=-1)
    curves = np.stack([units._replace(scale=s, low=low).unscaled(v) for s, low, v in zip(
        units.scale, units.low, hypothesis.values(X, scaled), strict=True)])  # fmt: skip
    raw = units.parameters(hypothesis, scaled)
    np.testing.assert_allclose(hypothesis.values(1000 * X, raw), curves, rtol=1e-9)
    one = Units(units.T, units.scale[1], units.low[1])
    np.testing.assert_array_equal(one.parameters(hypothesis, scaled[1]), raw[1])


def test_values_go_there_and_back():
    y = np.array([[2.0, 5.0], [-3.0, 1.0]])
    units = Units.of(HYPOTHESES["reparam"], 10.0, LOW, HIGH)
    assert units.scaled(y).tolist() == [[0, 1], [0, 1]]
    np.testing.assert_array_equal(units.unscaled(units.scaled(y)), y)


def test_what_cannot_follow_a_shift_is_not_shifted():
    own = SeparableModel(lambda x, r: np.exp(-np.multiply.outer(r, x))[..., np.newaxis], {"r": (0.1, 1)}, ("a",))
    for hypothesis, T in ((HYPOTHESES["step1"], 10.0), (own, 1.0)):
        units = Units.of(hypothesis, 10.0, LOW, HIGH)
        assert (units.T, units.scale.tolist(), units.low.tolist()) == (T, [5, 3], [0, 0])
