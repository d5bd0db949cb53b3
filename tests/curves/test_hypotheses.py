"""The curves themselves: derivatives against numerical ones, the step response against matrix exponentials, scaling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from madyn.curves.hypotheses.parts import Published
from madyn.curves.hypotheses.registry import HYPOTHESES, PUBLISHED, resolve
from madyn.curves.hypotheses.second_order import step_response, step_response_gradient
from madyn.errors import UsageError

T = np.array([0.0, 0.01, 0.1, 0.3, 1.0, 2.5, 7.0])
PARAMS = {
    "original": (0.8, 1.3, 0.4, 2.0, -1.0),
    "reparam": (0.7, 0.3, 1.5, -0.6, 2.0),
    "step1": (1.7, 3.0),
    "step2": (0.4, 2.0, 3.0),
    "power_law": (0.3, -0.7, 1.5, 0.2),
    "double_exponential": (0.2, 6.0, 1.0, -2.0, 0.5),
    "logistic_log": (0.8, 2.5, 3.0, 1.0),
    "stretched_exponential": (0.6, 0.8, -2.0, 3.0),
}
CASES = [(name, PARAMS[name.removesuffix("_regularized")]) for name in PUBLISHED]
CASES += [("step2", (zeta, 2.0, 3.0)) for zeta in (1 - 1e-9, 1.0, 1 + 1e-9, 1 - 1e-3, 1 + 1e-3, 2.5)]


def published(name) -> Published:
    curve = HYPOTHESES[name].published
    assert curve is not None
    return curve


@pytest.mark.parametrize(("name", "params"), CASES)
def test_the_jacobian_is_the_derivative(name, params):
    curve = published(name)
    analytic = curve.jacobian(T, *params)
    assert analytic.shape == (len(T), len(params))
    for j in range(len(params)):
        h = 1e-6 * np.eye(len(params))[j]
        numeric = (curve.function(T, *(params + h)) - curve.function(T, *(params - h))) / 2e-6
        np.testing.assert_allclose(analytic[:, j], numeric, rtol=1e-6, atol=1e-8)


def _exact_step2(u, zeta):
    """(s, ds/du, ds/dzeta): the differential equation and its sensitivity as one linear system."""
    system = np.array([
        [0, 1, 0, 0, 0],
        [-1, -2 * zeta, 0, 0, 1],
        [0, 0, 0, 1, 0],
        [0, -2, -1, -2 * zeta, 0],
        [0, 0, 0, 0, 0],
    ])  # fmt: skip
    return expm(system * u)[[0, 1, 2], 4]


@pytest.mark.parametrize("zeta", [0.0, 0.05, 0.9, 1 - 1e-4, 1 - 1e-8, 1.0, 1 + 1e-13, 1 + 1e-8, 1 + 1e-4, 1.1, 3.0])
def test_step_response_equals_the_matrix_exponential(zeta):
    u = np.array([0.0, 1e-3, 0.2, 1.0, 3.0, 12.0, 30.0])
    exact = np.array([_exact_step2(x, zeta) for x in u])
    ours = np.stack(step_response_gradient(u, zeta), axis=-1)
    np.testing.assert_array_equal(step_response(u, zeta), ours[:, 0])
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-12 * max(1, np.abs(exact).max()))


@pytest.mark.parametrize("zeta", [0.3, 1.0, 1.5, 1e8])
def test_step_response_settles_at_one_however_large_the_time(zeta):
    u = np.array([1e13, 1e40, 1e150])
    assert step_response(u, zeta).tolist() == [1.0, 1.0, 1.0]
    assert all(np.array_equal(g, np.zeros(3)) for g in step_response_gradient(u, zeta)[1:])


def test_very_overdamped_is_a_first_order_step():
    t = np.linspace(0, 5, 20)
    zeta = 1e6
    step1 = HYPOTHESES["step1"].values(t, [1.5, 4.0])
    step2 = HYPOTHESES["step2"].values(t, [zeta, 2 * zeta / 1.5, 4.0])
    np.testing.assert_allclose(step2, step1, atol=1e-6)


@pytest.mark.parametrize("name", PARAMS)
@given(log_T=st.floats(-3, 12), log_R=st.floats(-6, 6))
def test_rescale_is_the_change_of_units(name, log_T, log_R):
    """R f(t/T; theta) = f(t; M theta)."""
    hypothesis = HYPOTHESES[name]
    T_range, R = np.exp(log_T), np.exp(log_R)
    params = np.array(PARAMS[name.removesuffix("_regularized")])
    raw = hypothesis.rescale(T_range, R) @ params
    expected = R * hypothesis.values(T, params)
    np.testing.assert_allclose(hypothesis.values(T * T_range, raw), expected, rtol=1e-8, atol=1e-10 * R)


@pytest.mark.parametrize("name", ["original_regularized", "reparam_regularized"])
def test_penalty_is_zero_at_the_start_but_for_amplitudes_and_has_the_right_derivative(name):
    penalty = HYPOTHESES[name].penalty
    assert penalty is not None
    start = np.array([3.0, 1.0, 1.0, 0.5, 0.5])
    params = np.array([2.0, 1.5, 0.1, 0.8, 0.2])
    assert np.all(penalty.rows(start, start)[: len(penalty.positive)] == 0)
    numeric = np.stack(
        [(penalty.rows(params + h, start) - penalty.rows(params - h, start)) / 2e-6 for h in 1e-6 * np.eye(5)], axis=-1
    )
    np.testing.assert_allclose(penalty.jacobian(params), numeric, atol=1e-8)


def test_parameters_broadcast_over_series():
    for name, params in CASES[:4]:
        curve = published(name)
        many = np.array([params, np.array(params) * 1.1]).T[..., np.newaxis]
        assert curve.function(T, *many).shape == (2, len(T))
        assert curve.jacobian(T, *many).shape == (2, len(T), len(params))
        np.testing.assert_array_equal(curve.function(T, *many)[0], curve.function(T, *params))


def test_registry_order_and_names():
    assert PUBLISHED == ("original", "reparam", "original_regularized", "reparam_regularized", "step1", "step2")
    assert all(h.name == name for name, h in HYPOTHESES.items())
    assert all(len(published(name).lower) == HYPOTHESES[name].num_params for name in PUBLISHED)


def test_resolve_keeps_order_and_names_the_known_ones():
    assert [h.name for h in resolve(["step2", "original"])] == ["step2", "original"]
    assert [h.name for h in resolve("step1")] == ["step1"]
    with pytest.raises(UsageError, match=r"step3.*original, reparam,.*step2"):
        resolve(["step1", "step3"])


def inside(hypothesis, share):
    """Parameters from inside the box of a curve's search, each amplitude another."""
    nonlinear = hypothesis.nonlinear_at(hypothesis.search_box @ [1 - share, share])
    return np.concatenate([nonlinear, np.linspace(1, 2, len(hypothesis.linear))])


@pytest.mark.parametrize("share", [0.4, 0.5, 0.6])
@pytest.mark.parametrize("name", HYPOTHESES)
def test_every_curve_is_the_same_in_steps_as_in_units_of_the_run(name, share):
    hypothesis, x = HYPOTHESES[name], np.linspace(0, 1, 40)
    parameters = inside(hypothesis, share)
    raw = hypothesis.rescale(20_000.0, 7.0) @ parameters
    found, expected = hypothesis.values(20_000.0 * x, raw), 7.0 * hypothesis.values(x, parameters)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("share", [0.4, 0.5, 0.6])
@pytest.mark.parametrize("name", HYPOTHESES)
def test_every_curve_tends_to_its_limit(name, share):
    hypothesis = HYPOTHESES[name]
    parameters = inside(hypothesis, share)
    limit = hypothesis.limit_of(parameters)
    if np.isfinite(limit):
        np.testing.assert_allclose(hypothesis.values(np.array([1e12]), parameters), limit, rtol=1e-2)
