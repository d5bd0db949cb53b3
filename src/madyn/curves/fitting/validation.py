"""How well a hypothesis predicts points that it was not fitted to: `kfold_scores` and `holdout_scores`.

R2 and the information criteria judge a curve on the points it was fitted to. A prediction error needs no assumption
about the noise, and extrapolation is what a user asks of a curve. The folds of all series are fitted in one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.arrays import number, whole_number
from madyn.curves.fitting.fits import fit_curves
from madyn.curves.fitting.series import checked
from madyn.curves.grouping import alike
from madyn.curves.hypotheses.registry import resolve
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.curves.renaming import renamed
from madyn.errors import UsageError
from madyn.typing import Array

_MOST_FOLDS = 10_000

AT_ONCE = 2048  # series


@dataclass(frozen=True, eq=False)
class Scores:
    """Prediction errors of series; `...` is the leading shape of y.

    Attributes:
        error: (...), root mean squared error at the points held out, as a share of the standard deviation of all of the
            series' points: 1 is as bad as the series' mean would be. nan where a fit failed.
        message: (...), why there is none; else "".
    """

    error: Array
    message: NDArray[Any]


@renamed(model="hypothesis")
def kfold_scores(
    t: ArrayLike | None,
    y: ArrayLike,
    hypothesis: str | SeparableModel = "reparam",
    folds: int = 5,
    method: str = "varpro",
) -> Scores:
    """K-fold prediction error over the steps.

    The points of a series in the order of their steps are dealt out to the folds in turn, so that each fold spans the
    run. The first and the last point are never held out: what lies outside the points is `holdout_scores`' question.

    Args:
        t: steps, (n,), or one row for each series; labelled or not, as in `fit_curves`.
        y: (..., n); nan is a missing point.
        hypothesis: the curve.
        folds: K, 2 or more.
        method: of fitting.

    Raises:
        UsageError: fewer than two folds, shapes that do not match, an unknown hypothesis.

    >>> t = np.arange(0, 30_000, 1000)
    >>> y = 7 * (1 - np.exp(-t / 5000)) + 0.1 * np.sin(t)
    >>> bool(kfold_scores(t, y, hypothesis="step1").error < 0.1)
    True
    """
    folds = whole_number(folds, "folds", _MOST_FOLDS)
    if folds < 2:
        raise UsageError(f"folds is {folds}; two or more are needed")
    series = _Series.of(t, y, hypothesis)
    order = series.rank()
    inner = series.there & (order > 0) & (order < np.sum(series.there, axis=1, keepdims=True) - 1)
    fold = (order - 1) % folds
    held = np.stack([inner & (fold == k) for k in range(folds)])
    return _scored(series, held, hypothesis, method)


@renamed(model="hypothesis")
def holdout_scores(
    t: ArrayLike | None,
    y: ArrayLike,
    hypothesis: str | SeparableModel = "reparam",
    share: float = 0.2,
    method: str = "varpro",
) -> Scores:
    """Error of the prediction of a series' last points from those before them.

    Args:
        t: steps, (n,), or one row for each series; labelled or not, as in `fit_curves`.
        y: (..., n); nan is a missing point.
        hypothesis: the curve.
        share: of the points, in the order of their steps, that is held out; at least one point.
        method: of fitting.

    Raises:
        UsageError: a share that is not between 0 and 1, shapes that do not match, an unknown hypothesis.

    >>> t = np.arange(0, 30_000, 1000)
    >>> y = 7 * (1 - np.exp(-t / 5000)) + 0.1 * np.sin(t)
    >>> bool(holdout_scores(t, y, hypothesis="step1").error < 0.1)
    True
    """
    share = number(share, "share")
    if not 0 < share < 1:
        raise UsageError(f"share is {share}; it lies between 0 and 1, as 0.2")
    series = _Series.of(t, y, hypothesis)
    count = np.sum(series.there, axis=1, keepdims=True)
    held = series.there & (series.rank() >= count - np.maximum(np.round(share * count), 1))
    return _scored(series, held[np.newaxis], hypothesis, method)


class _Series(NamedTuple):
    """Steps, values and which are there, (S, n) each, and the leading shape."""

    steps: Array
    values: Array
    there: NDArray[np.bool_]
    lead: tuple[int, ...]

    @classmethod
    def of(cls, t: ArrayLike | None, y: ArrayLike, hypothesis: str | SeparableModel) -> _Series:
        series = checked(t, y, None, resolve([hypothesis])[0])
        steps, values, weights = series.rows
        return cls(steps, values, weights > 0, series.y.shape[:-1])

    def rank(self) -> NDArray[np.intp]:
        """Place of each point in the order of its series' steps, missing ones last."""
        order = np.argsort(np.where(self.there, self.steps, np.inf), axis=1, kind="stable")
        return np.argsort(order, axis=1, kind="stable")

    def part(self, rows: slice) -> _Series:
        return self._replace(steps=self.steps[rows], values=self.values[rows], there=self.there[rows])


def _scored(series: _Series, held: NDArray[np.bool_], hypothesis: str | SeparableModel, method: str) -> Scores:
    """The error over the points of held (folds, S, n), each predicted without its fold."""
    pieces = [slice(i, i + AT_ONCE) for i in range(0, len(series.values), AT_ONCE)] or [slice(0, 0)]
    each = [_errors(series.part(i), held[:, i], hypothesis, method) for i in pieces]
    error, messages = (np.concatenate(parts) for parts in zip(*each, strict=True))
    return Scores(error.reshape(series.lead), messages.reshape(series.lead))


def _errors(
    series: _Series, held: NDArray[np.bool_], hypothesis: str | SeparableModel, method: str
) -> tuple[Array, NDArray[Any]]:
    """(error, message) of each series."""
    steps, values, there, _ = series
    kept = np.where(held, np.nan, values)
    fits = fit_curves(np.broadcast_to(steps, kept.shape), kept, hypothesis, method)
    predicted = _at_own_steps(fits, steps)
    off = np.where(held, predicted - values, 0.0)
    count = np.sum(held, axis=(0, 2))
    some = np.any(there, axis=1)
    spread = np.full(len(values), np.nan)
    with np.errstate(all="ignore"):
        mean_square = np.sum(off * off, axis=(0, 2)) / count
        spread[some] = np.nanstd(np.where(there, values, np.nan)[some], axis=1)
        error = np.sqrt(mean_square) / spread
    needed = np.any(held, axis=2)
    failed = needed & ~fits.success
    first = np.argmax(failed, axis=0)
    messages = np.where(np.any(failed, axis=0), fits.message[first, np.arange(len(error))], "")
    messages = np.where(count == 0, "no point can be held out", messages)
    return np.where(messages == "", error, np.nan), messages


def _at_own_steps(fits: Any, steps: Array) -> Array:
    """The curves (folds, S) at each series' own steps (S, n)."""
    predicted = np.empty((*fits.success.shape, steps.shape[1]))
    finite, curve = np.where(np.isfinite(steps), steps, 0.0), fits if fits.mapped_from is None else fits.mapped_from
    for mine in alike(finite):
        predicted[:, mine] = curve.hypothesis.values(finite[mine[0]], curve.popt[:, mine])
    return predicted
