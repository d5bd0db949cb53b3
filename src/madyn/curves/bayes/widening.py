"""Bands made wider about their median, and how far out in its band a value lies: the one undoes the other.

A factor says how many widths from the median the end of the band is moved to. Where values cannot be below 0, what lies
below the median is measured in its logarithm, so that no factor takes the band's end to 0.
"""

from __future__ import annotations

import numpy as np

from madyn.typing import Array

_NOTHING = 1e-300


def widened(ends: Array, middle: Array, factor: float, positive: bool) -> Array:
    """Ends of bands, moved to `factor` times their distance from the median."""
    moved = middle + factor * (ends - middle)
    if not positive:
        return moved
    with np.errstate(invalid="ignore"):
        below = middle * np.power(np.maximum(ends, 0.0) / np.maximum(middle, _NOTHING), factor)
    return np.where(ends < middle, below, moved)


def how_far(values: Array, middle: Array, low: Array, high: Array, positive: bool) -> Array:
    """The factor by which each value's band would just hold it, from 0 at the median."""
    with np.errstate(divide="ignore", invalid="ignore"):
        above = (values - middle) / (high - middle)
        below = (middle - values) / (middle - low)
        if positive:
            below = np.log(middle / np.maximum(values, _NOTHING)) / np.log(middle / np.maximum(low, _NOTHING))
    return np.where(values > middle, above, below)
