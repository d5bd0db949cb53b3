"""Two decays, A1 exp(-t/tau) + A2 exp(-t/(rho tau)) + K: a rival that the published work did not try."""

from __future__ import annotations

import numpy as np

from madyn.curves.hypotheses.columns import Value, along, columns
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.typing import Array


def double_exponential_basis(s: Array, tau: Value, rho: Value) -> Array:
    """Two decays, the slower one rho times as slow: a ratio above 1 keeps the two from changing places."""
    tau, rho = along(tau, rho)
    return columns(np.exp(-s / tau), np.exp(-s / (tau * rho)), np.ones(s.shape))


CURVES = (
    SeparableModel(
        name="double_exponential",
        formula="A1 exp(-t/tau) + A2 exp(-t/(rho tau)) + K",
        basis=double_exponential_basis,
        nonlinear={"tau": (1e-6, 1e1), "rho": (1.1, 1e4)},
        along=(((1, 0), (1e-6, 1e1)), ((1, 1), (1e-5, 1e3))),
        linear=("A1", "A2", "K"),
        points=(97, 97),
        normalised=True,
        powers=(1, 0),
    ),
)
