"""The step response of a first-order system, K (1 - exp(-t/tau))."""

from __future__ import annotations

import numpy as np

from madyn.curves.hypotheses.columns import Value, along, columns
from madyn.curves.hypotheses.parts import SMALLEST, Published
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.typing import Array


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


CURVES = (
    SeparableModel(
        name="step1",
        formula="K (1 - exp(-t / tau))",
        basis=step1_basis,
        nonlinear={"tau": (1e-7, 1e3)},
        linear=("K",),
        points=(161,),
        normalised=True,
        powers=(1,),
        has_offset=False,
        published=Published(function=step1, jacobian=step1_jacobian, start=step1_start, lower=(SMALLEST, -np.inf)),
    ),
)
