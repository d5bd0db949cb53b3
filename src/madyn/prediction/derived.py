"""What a user asks of a curve: where it settles, how high it rises, and when.

Read off the log curves themselves, at the positions at which they are known, and never off fitted parameters. A layer
has a peak where its largest ratio lies before the last step and at least a tenth above the ratio there; what is less
is chance of where on a plateau the largest value falls.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from madyn.curves import sampled
from madyn.errors import UsageError
from madyn.prediction.table import positions
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd


LARGEST_LOG = 700.0
"""Logarithms above it have no exponential; an interval from two architectures can be that wide."""

FALL = np.log(1.1)
"""How far a curve's logarithm must fall from its largest value to the end for it to have a peak."""

QUANTITIES = ("final ratio", "largest ratio", "peak step")
"""Besides them, `"ratio at STEP"`."""

_AT = re.compile(r"ratio at (\d+)")


def steps_of(at: Array, last_step: float) -> Array:
    """The steps at positions of a run of so many."""
    return np.expm1(at * np.log1p(last_step))


def has_peak(curves: Array) -> NDArray[np.bool_]:
    """Which of (..., P) log curves have a peak, shape (...)."""
    return sampled.fall_from_top(curves) >= FALL


def quantity(name: str) -> Callable[[Array, Array, float], Array]:
    """A quantity by name: a function of log curves (..., P), their positions (P,) and the last step, giving (...).

    It is the natural logarithm of the ratio that the name says, or of 1 + the peak's step, nan where there is no peak.

    Raises:
        UsageError: there is none of this name.
    """
    if name == "final ratio":
        return lambda curves, at, last: curves[..., -1]
    if name == "largest ratio":
        return lambda curves, at, last: curves.max(axis=-1)
    if name == "peak step":
        return _peak
    match = _AT.fullmatch(name)
    if match:
        step = int(match[1])
        return lambda curves, at, last: sampled.value_at(float(positions(step, last)), at, curves)
    raise UsageError(f"there is no quantity {name!r}; there are {', '.join(QUANTITIES)}, and 'ratio at STEP'")


def in_units(name: str, values: Array) -> Array:
    """The ratio, or the step, from the logarithm that `quantity` gives."""
    return np.expm1(values) if name == "peak step" else np.exp(values)


def _peak(curves: Array, at: Array, last: float, fall: float = FALL) -> Array:
    return sampled.peak_step(np.log1p(steps_of(at, last)), curves, fall)


def read_quantity(name: str, curves: Array, at: Array, rows: pd.DataFrame, *, everywhere: bool = False) -> Array:
    """A quantity's logarithm from log curves (n, P) of these rows, shape (n,).

    Args:
        everywhere: give the step of the largest value also for a curve without a peak, where it would be nan.
    """
    of = partial(_peak, fall=0.0) if everywhere and name == "peak step" else quantity(name)
    last, logarithms = last_steps(rows), np.empty(len(curves))
    for steps in np.unique(last):
        mine = last == steps
        logarithms[mine] = of(curves[mine], at, float(steps))
    return logarithms


def last_steps(rows: pd.DataFrame) -> Array:
    """How long the runs of these rows are, (n,)."""
    return np.rint(np.exp2(rows["training steps"].to_numpy(float)))
