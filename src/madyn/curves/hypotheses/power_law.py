"""A power law from step 0, A ((1 + t/tau)^p - 1)/p + K: a rival that the published work did not try."""

from __future__ import annotations

from math import factorial

import numpy as np

from madyn.curves.hypotheses.columns import Value, along, columns
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.typing import Array

# expm1(z)/z to rounding for |z| < 0.05, highest power first.
_EXPM1_SERIES = [1 / factorial(m + 1) for m in reversed(range(9))]


def power_law_basis(s: Array, tau: Value, p: Value) -> Array:
    """((1 + s/tau)^p - 1)/p, the form of Box and Cox (1964), which at p = 0 is log(1 + s/tau)."""
    tau, p = along(tau, p)
    with np.errstate(all="ignore"):
        log = np.log1p(s / tau)
        z = p * log
        small = np.abs(z) < 0.05  # there the quotient loses digits, and all of them of its derivative
        series = np.polyval(_EXPM1_SERIES, np.where(small, z, 0))
        return columns(log * np.where(small, series, np.expm1(z) / np.where(small, 1, z)), np.ones(s.shape))


def power_law_limit(tau: Value, p: Value, A: Value, K: Value) -> Array:
    """K - A/p for p < 0; for p >= 0 the curve grows for ever."""
    with np.errstate(all="ignore"):
        return np.where(np.less(p, 0), K - np.divide(A, p), np.copysign(np.inf, A))


CURVES = (
    SeparableModel(
        name="power_law",
        formula="A ((1 + t/tau)^p - 1)/p + K",
        basis=power_law_basis,
        nonlinear={"tau": (1e-7, 1e3), "p": (-5.0, 3.0)},
        linear=("A", "K"),
        points=(97, 49),
        normalised=True,
        powers=(1, 0),
        limit=power_law_limit,
    ),
)
