"""The curve as published: A exp(-lam x) log(x) + K, x = gamma t + t0.

It is reparam's family in other parameters, so that it is fitted as that and mapped; only the regularised form, whose
penalty is on these parameters, is searched for itself.
"""

from __future__ import annotations

import numpy as np

from madyn.curves.hypotheses.columns import Value, along, columns, derivatives
from madyn.curves.hypotheses.parts import SMALLEST, Penalty, Published
from madyn.curves.hypotheses.peaks import peak_original
from madyn.curves.hypotheses.reparametrisation import original_of_reparam
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.typing import Array


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


def _peak(lam: Value, gamma: Value, t0: Value, A: Value, K: Value) -> tuple[Array, Array]:
    return peak_original(A, lam, gamma, t0, K)


_ORIGINAL = {
    "formula": "A exp(-lam x) log(x) + K, x = gamma t + t0",
    "basis": original_basis,
    "derivative": original_derivative,
    "linear": ("A", "K"),
    "normalised": True,
    "powers": (0, -1, 0),
    "mapped": original_of_reparam,
    "peak": _peak,
    "published": Published(
        function=original,
        jacobian=original_jacobian,
        start=original_start,
        lower=(SMALLEST, SMALLEST, SMALLEST, -np.inf, -np.inf),
    ),
}

CURVES = (
    SeparableModel(
        name="original",
        nonlinear={"lam": (1e-10, 1e10), "gamma": (1e-10, 1e10), "t0": (1e-10, 1e10)},
        same_as="reparam",
        **_ORIGINAL,
    ),
    # The penalty holds each of the three within a few factors of e^3 of its start: the box needs no more.
    SeparableModel(
        name="original_regularized",
        nonlinear={"lam": (1e-5, 1e5), "gamma": (1e-5, 1e6), "t0": (1e-6, 1e4)},
        penalty=Penalty(positive=(0, 1, 2), amplitudes=(3,)),
        # lam gamma is reparam's beta and t0/gamma its tau0, which say most of a curve's shape.
        along=(((1, 1, 0), (1e-4, 1e4)), ((0, -1, 1), (1e-6, 1e3)), ((0, 1, 0), (1e-4, 1e5))),
        points=(25, 17, 9),
        starts_from="reparam",
        **_ORIGINAL,
    ),
)
