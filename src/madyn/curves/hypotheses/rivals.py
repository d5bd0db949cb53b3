"""Rival curves: shapes of growth that the published work did not try, as bases in normalised time.

All of them pass complex numbers through, so that their derivatives need no formula here.
"""

from __future__ import annotations

from math import factorial

import numpy as np
from numpy.typing import NDArray

from madyn.curves.hypotheses.published_curves import Value, along, columns

Array = NDArray[np.float64]


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


def double_exponential_basis(s: Array, tau: Value, rho: Value) -> Array:
    """Two decays, the slower one rho times as slow: a ratio above 1 keeps the two from changing places."""
    tau, rho = along(tau, rho)
    return columns(np.exp(-s / tau), np.exp(-s / (tau * rho)), np.ones(s.shape))


def logistic_log_basis(s: Array, t_half: Value, k: Value) -> Array:
    """A logistic in log time, 1/(1 + (t_half/s)^k): 0 at s = 0, 1/2 at t_half."""
    t_half, k = along(t_half, k)
    with np.errstate(all="ignore"):
        rise = 1 / (1 + np.exp(k * (np.log(t_half) - np.log(s))))
        return columns(np.where(s == 0, 0.0, rise), np.ones(s.shape))


def logistic_log_limit(t_half: Value, k: Value, A: Value, K: Value) -> Array:
    return np.asarray(np.add(A, K), float)


def stretched_exponential_basis(s: Array, tau: Value, b: Value) -> Array:
    """Kohlrausch's decay exp(-(s/tau)^b)."""
    tau, b = along(tau, b)
    with np.errstate(all="ignore"):
        power = np.where(s == 0, 0.0, np.exp(b * (np.log(np.where(s == 0, 1.0, s)) - np.log(tau))))
        return columns(np.exp(-power), np.ones(s.shape))
