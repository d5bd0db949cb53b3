"""How good a fit is: R2, information criteria, and points far off, for many series at once.

Sums are taken of y / max|y|, so that the squares of very small values do not underflow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from madyn.typing import Array

# |modified z-score| > 3.5 is the rule of Iglewicz and Hoaglin (1993), How to Detect and Handle Outliers.
SUSPECT_DEVIATIONS = 3.5
# Residuals closer than this share of the range say how far the search converged, and nothing about a point.
SMALLEST_DEVIATION = 1e-6


class Scores(NamedTuple):
    """Each of shape (m,); see `madyn.curves.fitting.fits.Fits`."""

    r2: Array
    aic: Array
    aicc: Array
    bic: Array


def scores(y: Array, residuals: Array, weights: Array, k: int) -> Scores:
    """Scores of m series from y, residuals and weights (m, n); a residual of nan is a series without a fit."""
    seen = (weights > 0) & np.isfinite(residuals)
    n = np.sum(seen, axis=1)
    with np.errstate(all="ignore"):
        scale = np.max(np.abs(y), axis=1, where=seen, initial=0.0)
        # The likelihood knows weights up to a factor: at a mean logarithm of 0 their own term of it vanishes.
        logs = np.log(weights, where=seen, out=np.zeros(weights.shape))
        w = np.where(seen, weights, 0.0) * np.exp(-np.sum(logs, axis=1) / n)[:, np.newaxis]
        v = np.where(seen, y, 0.0) / scale[:, np.newaxis]
        mean = np.sum(w * v, axis=1) / np.sum(w, axis=1)
        rss = np.sum(w * (np.where(seen, residuals, 0.0) / scale[:, np.newaxis]) ** 2, axis=1)
        tss = np.sum(w * (v - mean[:, np.newaxis]) ** 2, axis=1)
        deviance = n * (np.log(np.maximum(rss / n, np.finfo(float).eps ** 2)) + 2 * np.log(scale))
        aic = deviance + 2 * k
        aicc = np.where(n > k + 1, aic + 2 * k * (k + 1) / (n - k - 1), np.nan)
        bic = deviance + k * np.log(n)
        r2 = 1 - rss / tss
    return Scores(*(np.where(n > 0, score, np.nan) for score in (r2, aic, aicc, bic)))


def suspects(y: Array, residuals: Array) -> NDArray[np.bool_]:
    """Points (m, n) whose residual is far from the median one, by the spread of the middle half."""
    flags = np.zeros(residuals.shape, bool)
    rows = np.any(np.isfinite(residuals), axis=1)
    if not np.any(rows):
        return flags
    residuals, y = residuals[rows], y[rows]
    away = np.abs(residuals - np.nanmedian(residuals, axis=1, keepdims=True))
    seen = np.isfinite(residuals)
    span = np.max(y, axis=1, where=seen, initial=-np.inf) - np.min(y, axis=1, where=seen, initial=np.inf)
    deviation = np.maximum(1.4826 * np.nanmedian(away, axis=1), SMALLEST_DEVIATION * span)
    flags[rows] = seen & (away > SUSPECT_DEVIATIONS * deviation[:, np.newaxis])
    return flags
