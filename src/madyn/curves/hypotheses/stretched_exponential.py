"""Kohlrausch's decay, A exp(-(t/tau)^b) + K: a rival that the published work did not try."""

from __future__ import annotations

import numpy as np

from madyn.curves.hypotheses.columns import Value, along, columns, from_zero
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.typing import Array


def stretched_exponential_basis(s: Array, tau: Value, b: Value) -> Array:
    """Kohlrausch's decay exp(-(s/tau)^b)."""
    tau, b = along(tau, b)
    with np.errstate(all="ignore"):
        power = from_zero(s, lambda log: np.exp(b * (log - np.log(tau))))
        return columns(np.exp(-power), np.ones(s.shape))


CURVES = (
    SeparableModel(
        name="stretched_exponential",
        formula="A exp(-(t/tau)^b) + K",
        basis=stretched_exponential_basis,
        nonlinear={"tau": (1e-7, 1e2), "b": (0.1, 10.0)},
        linear=("A", "K"),
        points=(61, 25),
        normalised=True,
        powers=(1, 0),
    ),
)
