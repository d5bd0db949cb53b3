"""Weights that take points far off out of a fit by degrees: iteratively reweighted least squares.

Each round fits with the weights of the round before. Residuals are measured in robust standard deviations, 1.4826 times
their median absolute value (Huber and Ronchetti 2009, Robust Statistics, ch. 7).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from madyn.typing import Array

ROUNDS = 50
SETTLED = 1e-3
# Residuals below this share of the largest value are rounding, and no measure of spread.
SMALLEST_SPREAD = 1e-9

HUBER_BEND = 1.345  # 95 % efficient for normal errors
STUDENT_FREEDOM = 4.0


def huber(z: Array) -> Array:
    """Full weight up to 1.345 standard deviations, then as one over the distance."""
    return 1 / np.maximum(1.0, np.abs(z) / HUBER_BEND)


def student(z: Array) -> Array:
    """The weights of maximum likelihood for Student's t with 4 degrees of freedom (Lange, Little and Taylor 1989)."""
    return (STUDENT_FREEDOM + 1) / (STUDENT_FREEDOM + z**2)


ROBUST: dict[str, Callable[[Array], Array]] = {"huber": huber, "student": student}
"""Weight functions of standardised residuals, by name."""


def reweighted(residuals: Callable[[Array], Array], y: Array, weights: Array, name: str) -> Array:
    """The weights (m, n) at which fit and weights agree.

    Args:
        residuals: of the fit with given weights, (m, n) -> (m, n); nan where a series has no fit.
        y: (m, n).
        weights: (m, n), those of the points apart from how far off they are.
        name: of a function in `ROBUST`.
    """
    current = weights.copy()
    for _ in range(ROUNDS):
        left = residuals(current)
        seen = (weights > 0) & np.isfinite(left)
        z = np.where(seen, left * np.sqrt(weights), np.nan)
        rows = np.any(seen, axis=1)
        spread = np.ones(len(y))
        spread[rows] = 1.4826 * np.nanmedian(np.abs(z[rows]), axis=1)
        floor = SMALLEST_SPREAD * np.max(np.abs(y) * np.sqrt(weights), axis=1, where=seen, initial=0.0)
        z = np.where(seen, z, 0.0) / np.maximum(np.maximum(spread, floor), np.finfo(float).tiny)[:, np.newaxis]
        new = weights * ROBUST[name](z)
        change = np.max(np.abs(new - current) / np.where(weights > 0, weights, 1.0), initial=0.0)
        current = new
        if change < SETTLED:
            break
    return current
