"""The published curves: original, reparam, step1 and step2, in the forms that the two fitting methods need.

For the published search: the curve, its analytic Jacobian and its start. For the search over a grid: the basis in
normalised time. Parameters stand in the order of `popt`, nonlinear ones first.

The basis of reparam is not the textbook one. exp(-beta s) log(s + tau0), exp(-beta s) and 1 become parallel as beta
goes to 0 or tau0 to infinity; the same three-dimensional space is spanned by exp(-beta s) log(1 + s/tau0),
1 - exp(-beta s) and 1, which do not. `reparam_combine` takes the coefficients back.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from madyn.curves.hypotheses.second_order import step_response, step_response_gradient

Array = NDArray[np.float64]
Value = float | Array


def columns(*parts: Value) -> Array:
    """The parts broadcast together and stacked last, each of them contiguous: np.stack spends four times as long."""
    stacked = np.empty((len(parts), *np.broadcast(*parts).shape), dtype=np.result_type(*parts, float))
    for column, part in zip(stacked, parts, strict=True):
        column[...] = part
    return np.moveaxis(stacked, 0, -1)


def derivatives(k: int, q: int, parts: Mapping[tuple[int, int], Array]) -> Array:
    """P + (n, k, q) with the parts at their (column, parameter), each of them contiguous, and 0 elsewhere."""
    stacked = np.zeros((k, q, *np.broadcast(*parts.values()).shape))
    for place, part in parts.items():
        stacked[place] = part
    return np.moveaxis(stacked, (0, 1), (-2, -1))


def along(*nonlinear: Value) -> list[Array]:
    """Nonlinear parameters of shape P as P + (1,), to meet the points."""
    return [np.asarray(p)[..., np.newaxis] for p in nonlinear]


# original ---------------------------------------------------------------------------------------------------------


def original(t: Value, lam: Value, gamma: Value, t0: Value, A: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        x = np.multiply(gamma, t) + t0
        return A * np.exp(-np.multiply(lam, x)) * np.log(x) + K


def original_jacobian(t: Value, lam: Value, gamma: Value, t0: Value, A: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        x = np.multiply(gamma, t) + t0
        decay, log = np.exp(-np.multiply(lam, x)), np.log(x)
        by_x = A * decay * (1 / x - lam * log)
        return columns(-np.multiply(A, x) * decay * log, by_x * t, by_x, decay * log, np.ones_like(x + K))


def original_start(t: Array, y: Array) -> Array:
    """As published: A = range(y), lam = 1/std(x), gamma = 1/range(x), t0 = 1, K = min(y) + A/2."""
    A = np.ptp(y)
    return np.array([1 / np.std(t), 1 / np.ptp(t), 1.0, A, np.min(y) + A / 2])


def original_basis(s: Array, lam: Value, gamma: Value, t0: Value) -> Array:
    lam, gamma, t0 = along(lam, gamma, t0)
    with np.errstate(all="ignore"):
        x = gamma * s + t0
        return columns(np.exp(-lam * x) * np.log(x), np.ones(s.shape))


def original_derivative(s: Array, lam: Value, gamma: Value, t0: Value) -> Array:
    lam, gamma, t0 = along(lam, gamma, t0)
    with np.errstate(all="ignore"):
        x = gamma * s + t0
        decay, log = np.exp(-lam * x), np.log(x)
        by_x = decay * (1 / x - lam * log)
        return derivatives(2, 3, {(0, 0): -x * decay * log, (0, 1): by_x * s, (0, 2): by_x})


# reparam ----------------------------------------------------------------------------------------------------------


def reparam(t: Value, beta: Value, tau0: Value, A1: Value, A2: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        return np.exp(-np.multiply(beta, t)) * (A1 * np.log(np.add(t, tau0)) + A2) + K


def reparam_jacobian(t: Value, beta: Value, tau0: Value, A1: Value, A2: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        since = np.add(t, tau0)
        decay, log = np.exp(-np.multiply(beta, t)), np.log(since)
        by_beta = -np.multiply(t, decay) * (A1 * log + A2)
        return columns(by_beta, A1 * decay / since, decay * log, decay, np.ones_like(since + K))


def reparam_start(t: Array, y: Array) -> Array:
    """The published start of original, through the exact map between the two."""
    lam, gamma, t0, A, K = original_start(t, y)
    A1 = A * np.exp(-lam * t0)
    return np.array([lam * gamma, t0 / gamma, A1, A1 * np.log(gamma), K])


def reparam_rescale(T: float, R: float) -> Array:
    """log(t/T + tau0/T) = log(t + tau0) - log T: part of A1 passes into A2."""
    matrix = np.diag([1 / T, T, R, R, R])
    matrix[3, 2] = -R * np.log(T)
    return matrix


def reparam_basis(s: Array, beta: Value, tau0: Value) -> Array:
    beta, tau0 = along(beta, tau0)
    return columns(np.exp(-beta * s) * np.log1p(s / tau0), -np.expm1(-beta * s), np.ones(s.shape))


def reparam_derivative(s: Array, beta: Value, tau0: Value) -> Array:
    beta, tau0 = along(beta, tau0)
    decay = np.exp(-beta * s)
    aged = s * decay
    by_tau0 = -aged / (tau0 * (tau0 + s))
    return derivatives(3, 2, {(0, 0): -aged * np.log1p(s / tau0), (1, 0): aged, (0, 1): by_tau0})


def reparam_combine(beta: Value, tau0: Value) -> Array:
    """M with (A1, A2, K) = M c, c the coefficients of `reparam_basis`; shape P + (3, 3)."""
    matrix = np.zeros((*np.broadcast(beta, tau0).shape, 3, 3), dtype=np.result_type(beta, tau0, float))
    matrix[..., 0, 0] = 1
    matrix[..., 1, 0] = -np.log(tau0)
    matrix[..., 1, 1] = -1
    matrix[..., 2, 1] = 1
    matrix[..., 2, 2] = 1
    return matrix


# step1, step2 -----------------------------------------------------------------------------------------------------


def step1(t: Value, tau: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(-K * np.expm1(-np.divide(t, tau)), float)


def step1_jacobian(t: Value, tau: Value, K: Value) -> Array:
    with np.errstate(all="ignore"):
        u = np.divide(t, tau)
        return columns(-K * u * np.exp(-u) / tau, -np.expm1(-u))


def step1_start(t: Array, y: Array) -> Array:
    return np.array([np.std(t), y[np.argmax(t)]], dtype=np.float64)


def step1_basis(s: Array, tau: Value) -> Array:
    (tau,) = along(tau)
    return columns(-np.expm1(-s / tau))


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
