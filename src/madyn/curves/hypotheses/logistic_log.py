"""A logistic in log time, A / (1 + (t_half/t)^k) + K: a rival that the published work did not try."""

from __future__ import annotations

import numpy as np

from madyn.curves.hypotheses.columns import Value, along, columns, from_zero
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.typing import Array


def logistic_log_basis(s: Array, t_half: Value, k: Value) -> Array:
    """A logistic in log time, 1/(1 + (t_half/s)^k): 0 at s = 0, 1/2 at t_half."""
    t_half, k = along(t_half, k)
    with np.errstate(all="ignore"):
        rise = from_zero(s, lambda log: 1 / (1 + np.exp(k * (np.log(t_half) - log))))
        return columns(rise, np.ones(s.shape))


def logistic_log_limit(t_half: Value, k: Value, A: Value, K: Value) -> Array:
    return np.asarray(np.add(A, K), float)


CURVES = (
    SeparableModel(
        name="logistic_log",
        formula="A / (1 + (t_half/t)^k) + K",
        basis=logistic_log_basis,
        nonlinear={"t_half": (1e-7, 1e2), "k": (0.1, 20.0)},
        linear=("A", "K"),
        points=(61, 25),
        normalised=True,
        powers=(1, 0),
        limit=logistic_log_limit,
    ),
)
