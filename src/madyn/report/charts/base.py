"""What all charts share: the layout, numbers as short as a page needs them, axes, and colours as a page writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.errors import missing_dependency
from madyn.figures import style
from madyn.figures.steps import STEP_LABEL, StepScale

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_DIGITS = 4  # of the numbers in a page: more is not seen, and makes it large

_POINTS = 120  # of a curve

_MANY_DECADES = 4  # of an axis: its labels are powers of ten alone

QUANTITY_TITLES = {
    "ratio": "top 1 / median", "top1": "largest |h| (top 1)", "top2": "second largest |h| (top 2)",
    "top3": "third largest |h| (top 3)", "median": "median |h|",
}  # fmt: skip


def new_chart() -> Figure:
    """An empty chart with the layout of all. Raises MissingDependencyError where plotly is not installed."""
    try:
        from plotly.graph_objects import Figure
    except ModuleNotFoundError as e:
        raise missing_dependency(e) from e
    layout = {
        "template": "none", "margin": {"l": 64, "r": 16, "t": 30, "b": 48}, "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "autosize": True,
        "legend": {"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0},
    }  # fmt: skip
    return Figure(layout=layout)


def short(values: ArrayLike) -> list[float | None]:
    """Numbers with as many digits as a page needs; None for what is not finite.

    >>> short([1 / 3, 1234567.0, float("nan"), 0])
    [0.3333, 1235000.0, None, 0.0]
    """
    return [
        float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in np.asarray(values, float).ravel()
    ]


class EvenScale:
    """Where steps stand on an axis that is linear throughout: as `StepScale`."""

    def __init__(self, steps: ArrayLike) -> None:
        self.steps = np.unique(np.asarray(steps, float))

    def place(self, steps: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(steps, float)


class LogScale:
    """Where positive numbers stand by their logarithm; others stand nowhere."""

    def place(self, values: ArrayLike) -> NDArray[np.float64]:
        given = np.asarray(values, float)
        return np.log10(np.where(given > 0, given, np.nan))

    def ticks(self, values: NDArray[np.float64]) -> list[float]:
        positive = values[values > 0]
        if not positive.size:
            return []
        low, high = float(positive.min()), float(positive.max())
        return style.log_ticks(low, high) if high > low else [low]


def step_axis(steps: ArrayLike, log: bool = True) -> tuple[StepScale | EvenScale, dict[str, Any]]:
    """Where steps stand, and the axis that says so."""
    if not log:
        return EvenScale(steps), {"title": {"text": STEP_LABEL}, "zeroline": False}
    scale = StepScale(steps)
    ticks = step_ticks(scale.steps)
    return scale, {
        "title": {"text": STEP_LABEL}, "tickvals": short(scale.place(ticks)), "zeroline": False,
        "ticktext": [style.number(t) for t in ticks],
    }  # fmt: skip


def step_ticks(steps: NDArray[np.float64]) -> list[float]:
    """The first step, powers of ten that lie among the steps, and the last."""
    steps = np.unique(steps)
    first, last = float(steps[0]), float(steps[-1])
    low = float(steps[steps > 0][0]) if (steps > 0).any() else 1.0
    powers = [10.0**k for k in range(int(np.ceil(np.log10(low))), 16) if 10.0**k < 0.6 * last]
    return list(dict.fromkeys([first, *powers, last]))


def value_axis(quantity: str, values: ArrayLike, log: bool) -> dict[str, Any]:
    """The axis of a quantity; logarithmic where that is wanted and can be."""
    known = np.asarray(values, float)
    positive = bool((known[np.isfinite(known)] > 0).all())
    name = QUANTITY_TITLES.get(quantity, quantity)
    kind = log_axis(known) if log and positive else {"type": "linear"}
    return {"title": {"text": name}, "zeroline": False, **kind}


def log_axis(values: ArrayLike) -> dict[str, Any]:
    """A logarithmic axis over these numbers whose labels are whole: Plotly's own of 20 or 50 is a small 2 or 5.

    >>> log_axis([8, 500])
    {'type': 'log', 'dtick': 'D2', 'tickformat': ',~r'}
    """
    known = np.asarray(values, float)
    known = known[np.isfinite(known) & (known > 0)]
    decades = float(np.log10(known.max() / known.min())) if known.size else 0.0
    if decades < 1:
        return {"type": "log"}
    return {"type": "log", "dtick": "D2" if decades < _MANY_DECADES else 1, "tickformat": ",~r"}


def fine_steps(steps: ArrayLike, last_step: float | None = None) -> NDArray[np.float64]:
    """Where a curve over these steps is drawn: evenly as the axis stands, and on to a later last step."""
    known = np.asarray(steps, float)
    end = max(float(known.max()), last_step or 0.0)
    scale = StepScale([*known, end])
    first, last = scale.place([known.min(), end]).tolist()
    return np.unique(scale.step(np.linspace(first, last, _POINTS)).round(3))


def css(colour: Any, opacity: float = 1.0) -> str:
    """A colour of matplotlib's as a page writes it."""
    from matplotlib.colors import to_rgb

    red, green, blue = (round(255 * part) for part in to_rgb(colour))
    return f"rgb({red},{green},{blue})" if opacity == 1 else f"rgba({red},{green},{blue},{opacity})"
