"""Levels of bands, and thresholds: how likely a value passes one, from quantiles of it at a few probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from madyn.arrays import number, read_row
from madyn.errors import UsageError
from madyn.typing import Array

LADDER = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
"""Probabilities whose quantiles tell those between and beyond."""

_NOTHING = 1e-300
_CLOSE = 1e-12  # of two logarithms


def tails_of(level: float) -> tuple[float, float, float]:
    """The probabilities of a band's lower end, median and upper end. Raises UsageError where level is none."""
    level = number(level, "level")
    if not 0 < level < 1:
        raise UsageError(f"level is {level}; it lies between 0 and 1, as 0.9")
    return (1 - level) / 2, 0.5, (1 + level) / 2


def thresholds_of(given: ArrayLike) -> Array:
    """Thresholds as numbers (T,). Raises UsageError where one is not above 0."""
    values = read_row(given, "thresholds")
    if not np.all(values > 0):
        raise UsageError("a threshold is a number above 0")
    return values


def above(quantiles: Array, thresholds: Array) -> Array:
    """(S, T), the probability to lie above each threshold at the step where it is largest.

    Args:
        quantiles: (P, S, m), of S series at m steps, at the probabilities of `LADDER`. Between them and beyond, normal
            scores are linear in the logarithm.
        thresholds: (T,), above 0.
    """
    scores, logs = ndtri(LADDER), np.log(np.maximum(quantiles, _NOTHING))
    found = []
    for wanted in np.log(thresholds):
        place = np.clip(np.sum(logs <= wanted, axis=0), 1, len(scores) - 1)
        low, high = (np.take_along_axis(logs, place[np.newaxis] + k, axis=0)[0] for k in (-1, 0))
        part = (wanted - low) / np.maximum(high - low, _CLOSE)
        reach = scores[place - 1] + part * (scores[place] - scores[place - 1])
        found.append(np.max(ndtr(-reach), axis=1))
    return np.array(found).reshape(len(thresholds), quantiles.shape[1]).T
