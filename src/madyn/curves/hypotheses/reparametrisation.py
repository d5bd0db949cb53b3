"""The exact maps between the original curve and its reparametrised form, which are one family of curves.

With x = gamma t + t0 and t0 = gamma tau0, log x = log(t + tau0) + log gamma, so that

    A exp(-lam x) log x = A exp(-lam t0) exp(-lam gamma t) (log(t + tau0) + log gamma)

and, term by term, beta = lam gamma, tau0 = t0/gamma, A1 = A exp(-lam t0), A2 = A1 log gamma; K is the same. Where
A1 != 0 and gamma > 0 it inverts: gamma = exp(A2/A1), lam = beta/gamma, t0 = tau0 gamma, A = A1 exp(lam t0), in which
lam t0 = beta tau0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from madyn.typing import Array

Five = tuple[Array, Array, Array, Array, Array]


def original_to_reparam(A: ArrayLike, lam: ArrayLike, gamma: ArrayLike, t0: ArrayLike, K: ArrayLike) -> Five:
    """(beta, tau0, A1, A2, K) of the curve with these original parameters; they broadcast.

    All five are nan where gamma <= 0 (the logarithm has no such form) or where one would not be a finite number.

    >>> [round(float(p), 4) for p in original_to_reparam(2.0, 0.5, 0.1, 1.0, 3.0)]
    [0.05, 10.0, 1.2131, -2.7932, 3.0]
    """
    A, lam, gamma, t0, K = (np.asarray(p, float) for p in (A, lam, gamma, t0, K))
    with np.errstate(all="ignore"):
        A1 = A * np.exp(-lam * t0)
        return _all_or_none(lam * gamma, t0 / gamma, A1, A1 * np.log(gamma), K)


def reparam_to_original(beta: ArrayLike, tau0: ArrayLike, A1: ArrayLike, A2: ArrayLike, K: ArrayLike) -> Five:
    """(A, lam, gamma, t0, K) of the curve with these reparam parameters; they broadcast.

    All five are nan where A1 = 0 (no log term: the original form cannot say it) or where gamma = exp(A2/A1) or another
    would overflow or underflow.

    >>> [round(float(p), 4) for p in reparam_to_original(0.05, 10.0, 1.0, 0.0, 3.0)]
    [1.6487, 0.05, 1.0, 10.0, 3.0]
    """
    beta, tau0, A1, A2, K = (np.asarray(p, float) for p in (beta, tau0, A1, A2, K))
    with np.errstate(all="ignore"):
        gamma = np.exp(A2 / A1)
        return _all_or_none(A1 * np.exp(beta * tau0), beta / gamma, gamma, tau0 * gamma, K)


def original_of_reparam(popt: Array) -> tuple[Array, Array]:
    """Original's (lam, gamma, t0, A, K), (..., 5), and their derivatives by reparam's popt (..., 5), (..., 5, 5).

    All are nan where `reparam_to_original` is.
    """
    beta, tau0, A1, A2, K = np.moveaxis(np.asarray(popt, float), -1, 0)
    A, lam, gamma, t0, _ = reparam_to_original(beta, tau0, A1, A2, K)
    change = np.zeros((*beta.shape, 5, 5))
    with np.errstate(all="ignore"):
        by_A1, by_A2 = -gamma * A2 / A1**2, gamma / A1
        change[..., 0, 0] = 1 / gamma
        change[..., 0, 2], change[..., 0, 3] = -lam / gamma * by_A1, -lam / gamma * by_A2
        change[..., 1, 2], change[..., 1, 3] = by_A1, by_A2
        change[..., 2, 1] = gamma
        change[..., 2, 2], change[..., 2, 3] = tau0 * by_A1, tau0 * by_A2
        change[..., 3, 0], change[..., 3, 1], change[..., 3, 2] = A * tau0, A * beta, A / A1
        change[..., 4, 4] = 1
    return np.stack([lam, gamma, t0, A, np.where(np.isnan(A), np.nan, K)], axis=-1), change


def _all_or_none(*params: Array) -> Five:
    together = np.stack(np.broadcast_arrays(*params))
    a, b, c, d, e = np.where(np.all(np.isfinite(together), axis=0), together, np.nan)
    return a, b, c, d, e
