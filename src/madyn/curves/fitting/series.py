"""Series as they are given, checked: what cannot mean anything is an error, what cannot be fitted has a reason."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from madyn.curves.alignment import Lead, aligned
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.errors import UsageError
from madyn.typing import Array

# Beyond this, the squares of differences are not numbers any more.
LARGEST = np.sqrt(np.finfo(float).max) / 2**8
# Below this, a value has not all of its digits.
SMALLEST = np.finfo(float).tiny / np.finfo(float).eps
# Rates and times are told with their variances, the squares of what the last step is.
LARGEST_STEP = 1e100
# Weights are divided by their mean, and multiply squares.
LARGEST_WEIGHT = 1e100


class Series(NamedTuple):
    """Series as they are fitted, the steps on the last axis.

    Attributes:
        t, y, weights: of y's shape; y is nan where a point is missing, and its weight 0.
        steps: (n,), or of y's shape where each series has its own.
        lead: the other axes, as they were labelled.
    """

    t: Array
    y: Array
    weights: Array
    steps: Array
    lead: Lead

    @property
    def rows(self) -> tuple[Array, Array, Array]:
        """(t, y, weights), (S, n) each."""
        n = self.y.shape[-1]
        return self.t.reshape(-1, n), self.y.reshape(-1, n), self.weights.reshape(-1, n)


def checked(t: Any, y: Any, weights: Any, hypothesis: SeparableModel) -> Series:
    """Series read by their masks and labels (see `alignment`), and checked.

    Raises:
        UsageError: they cannot be read, the shapes do not match, a step with a value is not finite, or negative where
            the curve counts training steps, or a weight is negative or not finite.
    """
    read = aligned(t, y, weights)
    steps, y, lead = read.t, read.y, read.lead
    given = np.ones(()) if read.weights is None else read.weights
    if steps.ndim == 0 or steps.shape[-1] == 0:
        raise UsageError(f"steps have shape {steps.shape}; they must hold at least one step")
    if y.ndim == 0 or y.shape[-1] != steps.shape[-1]:
        raise UsageError(
            f"values have shape {y.shape}; the last axis must have one value for each of {steps.shape[-1]} steps"
        )
    if steps.ndim > 1 and steps.shape != y.shape:
        raise UsageError(
            f"steps have shape {steps.shape}; they must be one row, or one for each series as y's {y.shape}"
        )
    if given.ndim and given.shape not in (y.shape, y.shape[-1:]):
        raise UsageError(f"weights have shape {given.shape}; expected {y.shape[-1:]} or that of the values, {y.shape}")
    if not np.all(np.isfinite(given) & (given >= 0)):
        raise UsageError("a weight is negative or not finite; 0 leaves a point out")
    if np.any((given > LARGEST_WEIGHT) | ((given < 1 / LARGEST_WEIGHT) & (given > 0))):
        raise UsageError(
            f"a weight above 0 is not between {1 / LARGEST_WEIGHT:g} and {LARGEST_WEIGHT:g}; weights count by their "
            "proportions"
        )
    t, given = np.broadcast_to(steps, y.shape), np.broadcast_to(given, y.shape)
    there = ~np.isnan(y)
    bad = t[there & ~np.isfinite(t)]
    if bad.size:
        raise UsageError(f"a step is {bad[0]:g}; steps are finite where there is a value")
    if hypothesis.normalised and np.any(t[there] < 0):
        raise UsageError(f"a step is {np.min(t[there]):g}; training steps are finite and not negative")
    return Series(t, y, np.where(there, given, 0.0), steps, lead)


def refusals(hypothesis: SeparableModel, t: Array, y: Array, weights: Array) -> list[str]:
    """For each series of t, y and weights (m, n), why no method could fit it; "" if one could."""
    seen = (weights > 0) & np.isfinite(y)
    infinite = np.isinf(y) & (weights > 0)
    count = np.sum(seen, axis=1)
    low, high = np.min(y, axis=1, where=seen, initial=np.inf), np.max(y, axis=1, where=seen, initial=-np.inf)
    scale = np.maximum(np.abs(low), np.abs(high))
    with np.errstate(all="ignore"):
        constant = high / 2 - low / 2 <= 4 * np.finfo(float).eps * scale
    first, last = np.min(t, axis=1, where=seen, initial=np.inf), np.max(t, axis=1, where=seen, initial=-np.inf)
    alone = first == last
    unfit = beyond(hypothesis, t, y, seen)
    messages = [""] * len(y)
    broken = np.any(infinite, axis=1) | alone | (count < hypothesis.num_params) | constant | np.array(unfit, bool)
    for i in np.flatnonzero(broken):
        if np.any(infinite[i]):
            step = t[i, np.argmax(infinite[i])]
            messages[i] = f"infinite at step {step:g}: mark missing points with nan, and measure broken ones again"
        elif count[i] < hypothesis.num_params:
            messages[i] = _too_few(hypothesis, y[i], int(count[i]))
        elif alone[i]:
            step = t[i, np.argmax(seen[i])]
            messages[i] = f"all points are at step {step:g}: a curve needs {'a later one' if step == 0 else 'others'}"
        elif constant[i]:
            messages[i] = f"the series is constant ({high[i]:g}): no curve is identified"
        else:
            messages[i] = unfit[i]
    return messages


def beyond(hypothesis: SeparableModel, t: Array, y: Array, seen: NDArray[np.bool_]) -> list[str]:
    """For each series of t and y (m, n), finite where `seen`, why no arithmetic of 64 bits could hold its fit; ""."""
    low, high = np.min(y, axis=1, where=seen, initial=np.inf), np.max(y, axis=1, where=seen, initial=-np.inf)
    scale = np.where(np.any(seen, axis=1), np.maximum(np.abs(low), np.abs(high)), 0.0)
    last = np.max(np.abs(t), axis=1, where=seen, initial=0.0)
    counted = hypothesis.normalised  # steps are divided by the last one, which has to be another than 0
    large, small = scale > LARGEST, (scale < SMALLEST) & (scale > 0)
    late, early = counted & (last > LARGEST_STEP), counted & (last < 1 / LARGEST_STEP) & (last > 0)
    messages = [""] * len(y)
    for i in np.flatnonzero(large | small | late | early):
        if large[i]:
            messages[i] = f"values reach {scale[i]:g}: their squares cannot be summed"
        elif small[i]:
            messages[i] = f"values reach {scale[i]:g} only, where digits are lost: give them in a smaller unit"
        else:
            what = "" if late[i] else " only"
            messages[i] = f"steps reach {last[i]:g}{what}: squares of rates are no numbers; count in another unit"
    return messages


def _too_few(hypothesis: SeparableModel, y: Array, count: int) -> str:
    finite = int(np.sum(np.isfinite(y)))
    what = f"{count} finite" if finite == count else f"{count} of weight above 0 among {finite} finite"
    return f"too few points: {what}, for the {hypothesis.num_params} parameters of {hypothesis.name}"
