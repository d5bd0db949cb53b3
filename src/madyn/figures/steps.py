"""The axis of training steps, and where curves are sampled on it: legible and smooth from step 0 to the last.

The axis is linear up to the first step after 0 and logarithmic from there. The two join with one slope, so that a
smooth curve has no kink at the seam; a curve is sampled evenly in what is drawn, so that it is as smooth near step 0 as
at the end. Both follow from one scale, kept here.
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.scale import SymmetricalLogTransform
from numpy.typing import ArrayLike, NDArray

from madyn.figures.style import number, set_ticks

Floats = NDArray[np.float64]

STEP_LABEL = "training step"
CURVE_POINTS = 600
"""As many places as a curve is sampled at: so close that the straight pieces between them do not show in print."""

# The width of the linear stretch, as matplotlib counts it, with which both sides have one slope where they meet.
_LINEAR_SHARE = (1 - 1 / 10) / math.log(10)


class StepScale:
    """Where steps stand on their axis: linear to the first step after 0, logarithmic from there.

    Args:
        steps: those drawn.

    Attributes:
        steps: those drawn, each once, in order.
        threshold: the step where the logarithmic part begins; None where fewer than two steps are positive, and the
            axis is linear.
    """

    def __init__(self, steps: ArrayLike) -> None:
        self.steps = np.unique(np.asarray(steps, dtype=float))
        positive = self.steps[self.steps > 0]
        self.threshold = float(positive[0]) if positive.size >= 2 else None
        self._transform = SymmetricalLogTransform(10, self.threshold or 1.0, _LINEAR_SHARE)

    def place(self, steps: ArrayLike) -> Floats:
        """Where steps are drawn, in an arbitrary unit of length."""
        given = np.asarray(steps, dtype=float)
        return given if self.threshold is None else np.asarray(self._transform.transform(given))

    def step(self, places: ArrayLike) -> Floats:
        """The inverse of `place`."""
        given = np.asarray(places, dtype=float)
        return given if self.threshold is None else np.asarray(self._transform.inverted().transform(given))

    def drawn_on(self, ax: Axes) -> None:
        """Give the x axis this scale."""
        if self.threshold is not None:
            ax.set_xscale("symlog", linthresh=self.threshold, linscale=_LINEAR_SHARE)


def curve_steps(steps: ArrayLike) -> Floats:
    """Where to sample a curve that is drawn over these steps: the steps, and between them evenly as the axis is drawn.

    >>> steps = curve_steps([0, 1000, 100000])
    >>> len(steps), bool(0 < steps[1] < 10)
    (601, True)
    """
    scale = StepScale(steps)
    start, end = scale.place(scale.steps[[0, -1]])
    between = scale.step(np.linspace(start, end, CURVE_POINTS))[1:-1]
    return np.union1d(scale.steps, between)


def step_axis(axis: Axis, steps: ArrayLike, *, crowded: bool = False) -> None:
    """Makes an x axis of training steps legible from the first to the last: linear up to the first step, then log.

    Ticks stand at 0, the powers of ten and the last step; one that would touch its neighbour is left out.

    Args:
        axis: an axes' `xaxis`.
        steps: the steps drawn.
        crowded: in a small panel, where only half as many labels fit.
    """
    ax, scale = axis.axes, StepScale(steps)
    first, last = float(scale.steps[0]), float(scale.steps[-1])
    if scale.threshold is None:
        set_ticks(axis, scale.steps.tolist(), [number(s) for s in scale.steps])
        ax.set_xlim(first - 0.5 * max(1, last), last + 0.5 * max(1, last))
        return
    scale.drawn_on(ax)
    ends = scale.place([first, last])
    length = float(np.ptp(ends))
    room = 0.34 if crowded else 0.075  # the least distance of two labels, as a share of the axis
    decades = [10.0**k for k in range(math.ceil(math.log10(scale.threshold)), math.floor(math.log10(last)) + 1)]
    kept: list[float] = []
    for tick in (last, first, scale.threshold, *decades[::-1]):
        if all(abs(scale.place(tick) - scale.place(k)) >= room * length for k in kept):
            kept.append(tick)
    kept.sort()
    # All small ticks would cost seconds by the dozen of panels.
    small = decades if crowded else _between(decades, scale.threshold, last)
    set_ticks(axis, kept, [number(s) for s in kept], between=small)
    # The pad is the same at both ends of what is drawn.
    ax.set_xlim(*scale.step(ends + 0.02 * length * np.array([-1, 1])).tolist())


def _between(decades: list[float], first: float, last: float) -> list[float]:
    """The small ticks of a step axis: 1, 2, ... 9 in every decade."""
    lowest = 10.0 ** math.floor(math.log10(first))
    return [m * d for d in dict.fromkeys([lowest, *decades]) for m in range(1, 10) if first < m * d < last]
