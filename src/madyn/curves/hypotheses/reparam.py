"""The reparametrised curve, exp(-beta t) (A1 log(t + tau0) + A2) + K, which the parameter table is of.

Its basis is not the textbook one. exp(-beta s) log(s + tau0), exp(-beta s) and 1 become parallel as beta goes to 0 or
tau0 to infinity; the same three-dimensional space is spanned by exp(-beta s) log(1 + s/tau0), 1 - exp(-beta s) and 1,
which do not. `reparam_combine` takes the coefficients back.
"""

from __future__ import annotations

import numpy as np

from madyn.curves.hypotheses.columns import Value, along, columns, derivatives
from madyn.curves.hypotheses.original import original_start
from madyn.curves.hypotheses.parts import SMALLEST, Penalty, Published
from madyn.curves.hypotheses.peaks import peak
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.typing import Array


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


_REPARAM = {
    "formula": "exp(-beta t) (A1 log(t + tau0) + A2) + K",
    "basis": reparam_basis,
    "derivative": reparam_derivative,
    "combine": reparam_combine,
    "nonlinear": {"beta": (1e-4, 1e4), "tau0": (1e-7, 1e3)},
    "linear": ("A1", "A2", "K"),
    "points": (145, 61),
    "normalised": True,
    "powers": (-1, 1),
    "rescaled": reparam_rescale,
    "peak": peak,
    "published": Published(
        function=reparam,
        jacobian=reparam_jacobian,
        start=reparam_start,
        lower=(SMALLEST, SMALLEST, -np.inf, -np.inf, -np.inf),
    ),
}

CURVES = (
    SeparableModel(name="reparam", **_REPARAM),
    SeparableModel(name="reparam_regularized", penalty=Penalty(positive=(0, 1), amplitudes=(2, 3)), **_REPARAM),
)
