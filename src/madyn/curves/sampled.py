"""Responses of curves that are known at steps alone, measured or predicted there, and straight between two of them.

The words mean what they mean of a formula (`responses`): the top is the highest value, and the half-rise is where half
of the way from the first value to the top is made. What is read off may be the logarithm of what was measured.
"""

from __future__ import annotations

import numpy as np

from madyn.typing import Array


def peak_step(steps: Array, values: Array, fall: float = 0.0) -> Array:
    """The step of the highest value of each curve.

    Args:
        steps: (n,), ascending.
        values: (..., n).
        fall: how far a curve has to fall from its highest value to its last one to have a peak. What is less is chance
            of where on a plateau the highest value lies.

    Returns:
        (...), nan for a curve that falls less.
    """
    return np.where(fall_from_top(values) >= fall, steps[values.argmax(axis=-1)], np.nan)


def fall_from_top(values: Array) -> Array:
    """How far each curve (..., n) falls from its highest value to its last one, (...)."""
    return values.max(axis=-1) - values[..., -1]


def half_rise_step(steps: Array, values: Array) -> float:
    """The first step at which a curve (n,) has covered half of the way from its first value to its top.

    nan where the first value is the highest.
    """
    top = values.max()
    if not top > values[0]:
        return float("nan")
    half = (values[0] + top) / 2
    after = int(np.argmax(values >= half))
    return float(between(steps, after, share_of_way(values, after, half)))


def value_at(place: float, places: Array, curves: Array) -> Array:
    """The values (...) of curves (..., n), known at n ascending places, at another; after the last, the last value."""
    place = min(place, float(places[-1]))
    after = min(max(1, int(np.searchsorted(places, place))), len(places) - 1)
    return np.asarray(between(curves, after, share_of_way(places, after, place)))


def share_of_way(values: Array, after: int, level: float) -> float:
    """How much of the way from the value before `after` to the one at it is made where `level` is reached."""
    return float((level - values[after - 1]) / (values[after] - values[after - 1]))


def between(values: Array, after: int, share: float) -> Array:
    """What lies that share of the way from the values (..., n) before `after` to those at it, (...)."""
    return (1 - share) * values[..., after - 1] + share * values[..., after]
