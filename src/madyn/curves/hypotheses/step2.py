"""The step response of a second-order system, K s(omega_n t; zeta), through all damping ratios."""

from __future__ import annotations

import numpy as np

from madyn.curves.hypotheses.columns import Value, along, columns, derivatives
from madyn.curves.hypotheses.parts import SMALLEST, Published
from madyn.curves.hypotheses.second_order import step_response, step_response_gradient
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.typing import Array


def step2(t: Value, zeta: Value, omega_n: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        return K * step_response(np.multiply(omega_n, t), zeta)


def step2_jacobian(t: Value, zeta: Value, omega_n: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        u = np.multiply(omega_n, t)
        response, by_u, by_zeta = step_response_gradient(u, zeta)
        return columns(K * by_zeta, K * by_u * t, response)


def step2_start(t: Array, y: Array) -> Array:
    """Critically damped, at the time scale at which step1 starts."""
    return np.array([1.0, 1 / np.std(t), y[np.argmax(t)]])


def step2_basis(s: Array, zeta: Value, omega_n: Value) -> Array:
    zeta, omega_n = along(zeta, omega_n)
    return step_response(omega_n * s, zeta)[..., np.newaxis]


def step2_derivative(s: Array, zeta: Value, omega_n: Value) -> Array:
    zeta, omega_n = along(zeta, omega_n)
    _, by_u, by_zeta = step_response_gradient(omega_n * s, zeta)
    return derivatives(1, 2, {(0, 0): by_zeta, (0, 1): by_u * s})


CURVES = (
    SeparableModel(
        name="step2",
        formula="K s(omega_n t; zeta), s the unit step response of s'' + 2 zeta s' + s = 1",
        basis=step2_basis,
        derivative=step2_derivative,
        nonlinear={"zeta": (5e-2, 5e1), "omega_n": (1e-2, 1e4)},
        linear=("K",),
        points=(25, 481),
        normalised=True,
        powers=(0, -1),
        has_offset=False,
        published=Published(
            function=step2, jacobian=step2_jacobian, start=step2_start, lower=(SMALLEST, SMALLEST, -np.inf)
        ),
    ),
)
