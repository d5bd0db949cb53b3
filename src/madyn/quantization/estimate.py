"""What rounding will cost, from the statistics alone: no model, no hidden states.

In int8 with one scale a tensor the step is top1 / 127, so that what a value loses depends on its size in medians and on
the ratio top1 / median, and on nothing else. What is not known is how the values are distributed below the largest. It
is taken to be a mixture of normal distributions whose scales are spread lognormally, since features and tokens of a
layer differ in size; its one parameter was chosen on models (docs/quantization.md says on which, and how far off the
estimate is on others). The bulk is what lies within `BULK` medians: every value where nothing is massive, and all but
the massive features and tokens where something is.

A value x comes back as the multiple of the step that lies nearest. Its error is taken as it is, and not as step^2 / 12:
where the step is several medians wide nearly all come back as zero, and the error is the value itself.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from scipy.special import erf

from madyn.arrays import read
from madyn.errors import UsageError
from madyn.typing import Array

BULK = 10.0
"""Values of at most so many medians are the bulk, which effective bits are of."""

SPREAD = 0.5
"""Standard deviation of the log of the scales that are mixed; see docs/quantization.md."""

LEVELS = 127
"""The largest whole number of int8, which the largest value becomes."""

FLOAT16 = 65504.0

_RATIOS = np.logspace(0, 7, 351)
_POINTS = 8000  # of a grid over the bulk; the finest step that is computed on it is 40 of them
_FINE = 0.05  # in medians: a step below it loses step^2 / 12 to more digits than are shown
_NODES = 21  # of the quadrature over the scales


def bits_of(decibels: Any) -> Array:
    """Effective bits of a ratio of signal to noise: (SNR - 1.76) / 6.02.

    That is what an ideal converter of so many bits would have on a full-scale sine (IEEE Std 1241, "effective number of
    bits"). What is lost altogether has -0.29.
    """
    return (np.asarray(decibels, float) - 1.76) / 6.02


def effective_bits(top1: Any, median: Any) -> Array:
    """An estimate of how many bits int8 with one scale a tensor leaves to the bulk of a layer's values.

    Of any kind of statistics: measured, fitted, predicted or forecast. A ratio is enough: `effective_bits(ratio, 1)`;
    more of it is never more bits. With the k largest kept apart in full precision, the largest of the others takes the
    place of `top1`.

    Args:
        top1: the largest |h| of a sequence at a layer, any shape; nan, masked or NA where missing.
        median: of |h| there, of a shape that goes with it.

    Returns:
        of the shape of both together; nan where either is missing or the median is 0. At least -0.29, where nothing but
        zeros is left.

    Raises:
        UsageError: these are not real numbers, some are negative, or the shapes do not go together.

    >>> effective_bits([10.0, 100.0, 500.0, np.nan], 1.0).round(1)
    array([6.1, 2.8, 0.6, nan])
    """
    return _at(_table()[0], top1, median)


def zeroed_share(top1: Any, median: Any) -> Array:
    """An estimate of the share of a layer's values that int8 with one scale a tensor rounds to zero; as
    `effective_bits`.

    >>> zeroed_share([10.0, 500.0], 1.0).round(2).tolist()
    [0.02, 0.76]
    """
    return _at(_table()[1], top1, median)


def headroom(top1: Any) -> Array:
    """How many times a value can double before float16 overflows (65504); negative past it.

    Raises:
        UsageError: these are not real numbers, or some are negative.

    >>> headroom([1.0, 65504.0]).round(1).tolist()
    [16.0, 0.0]
    """
    size = _sizes(top1, "the largest values")
    with np.errstate(divide="ignore"):
        return np.log2(FLOAT16 / size)


def _at(curve: Array, top1: Any, median: Any) -> Array:
    top, middle = _sizes(top1, "the largest values"), _sizes(median, "the medians")
    try:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = np.where(middle > 0, top / middle, np.nan)
    except ValueError:
        raise UsageError(
            f"largest values of shape {top.shape} and medians of {middle.shape} do not go together"
        ) from None
    # The largest is never below the median; a fit or a forecast of either may be.
    found = np.interp(np.log(np.clip(ratio, 1, _RATIOS[-1])), np.log(_RATIOS), curve)
    return np.where(np.isnan(ratio), np.nan, found)


def _sizes(given: Any, what: str) -> Array:
    values = read(given, what).values
    if np.any(values < 0):
        raise UsageError(f"one of {what} is {values[values < 0].flat[0]:g}; sizes |h| are not negative")
    return values


@cache
def _table() -> tuple[Array, Array]:
    """Effective bits and the share of zeros over `_RATIOS`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    scales = np.exp(SPREAD * nodes)
    scales = scales / _median(scales, weights)  # in units of the mixture's own median
    sizes = (np.arange(_POINTS) + 0.5) * (BULK / _POINTS)
    density = np.exp(-0.5 * (sizes[:, None] / scales) ** 2) @ (weights / scales)
    steps = _RATIOS / LEVELS
    bits = []
    for ratio, step in zip(_RATIOS, steps, strict=True):
        there = density * (sizes <= ratio)  # none is above the largest
        signal = there @ sizes**2
        error = sizes - step * np.round(sizes / step)
        noise = there @ error**2 if step > _FINE else there.sum() * step**2 / 12
        bits.append(bits_of(10 * np.log10(signal / noise)))
    zeros = _below(steps / 2, scales, weights)
    return np.array(bits), zeros


def _below(size: Any, scales: Array, weights: Array) -> Array:
    """The share of |x| below a size, in the mixture."""
    return erf(np.asarray(size, float)[..., None] / scales / np.sqrt(2)) @ weights


def _median(scales: Array, weights: Array) -> float:
    low, high = 0.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, scales, weights) < 0.5 else (low, middle)
    return high
