"""Fitting a curve to series: `fit_curves`, whatever the method, and what a fit says about itself.

A method only finds parameters. What the data are, which series cannot be fitted, and the scores are the same for all
methods and are computed here, in the data's own units. A series that has no fit is a result with a message, never an
error: one bad layer must not take the others with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.curves import trf
from madyn.curves.hypotheses import Hypothesis, resolve
from madyn.errors import UsageError

Array = NDArray[np.float64]

# The fewest points of a series in the published work. A shorter one is fitted all the same.
PAPER_MINIMUM_POINTS = 27

# |modified z-score| > 3.5 is the rule of Iglewicz and Hoaglin (1993), How to Detect and Handle Outliers.
SUSPECT_DEVIATIONS = 3.5
# Residuals closer than this share of the range say how far the search converged, and nothing about a point.
SMALLEST_DEVIATION = 1e-6

METHODS: dict[str, Callable[[Hypothesis, Array, Array], trf.Solution]] = {"trf": trf.solve}
"""Fitting methods by name: `(hypothesis, t (n,), y (m, n)) -> Solution`."""


@dataclass(frozen=True, eq=False)
class Fits:
    """One curve fitted to each of many series; `...` is the leading shape of y, p the parameters, n the steps.

    Attributes:
        model: the curve; `model.param_names` names the last axis of popt.
        popt: (..., p), in raw steps and data units; nan where there is no fit.
        pcov: (..., p, p); infinite where the data do not determine every parameter, nan where there is no fit. For a
            regularised curve it includes the penalty (see `madyn.curves.trf.solve`).
        r2: (...), 1 - RSS/TSS of the data, without the penalty.
        aic: (...), n log(RSS/n) + 2k in squared data units, n the finite points, k the curve's parameters. RSS is not
            taken below n (eps max|y|)^2, the rounding of the data, so that a perfect fit has a finite AIC.
        residuals: (..., n), y - f; nan where y is nan or there is no fit.
        success: (...), whether there is a fit.
        message: (...), why there is none; "" where there is.
        suspects: (..., n), points whose residual is more than 3.5 robust standard deviations (1.4826 MAD, and at least
            a millionth of the range) from the median residual. They were fitted like the others.
        num_points: (...), the finite points of each series. Below `PAPER_MINIMUM_POINTS` the published work fits none.
    """

    model: Hypothesis
    popt: Array
    pcov: Array
    r2: Array
    aic: Array
    residuals: Array
    success: NDArray[np.bool_]
    message: NDArray[Any]
    suspects: NDArray[np.bool_]
    num_points: NDArray[np.int64]

    def predict(self, t: ArrayLike) -> Array:
        """The fitted curves at steps t, shape (..., len(t)); nan where there is no fit."""
        params = np.moveaxis(self.popt, -1, 0)[..., np.newaxis]
        return self.model.function(np.atleast_1d(np.asarray(t, float)), *params)


def fit_curves(t: ArrayLike, y: ArrayLike, model: str | Hypothesis = "reparam", method: str = "trf") -> Fits:
    """Fit one curve to each series.

    Args:
        t: training steps, (n,), finite and not negative, in any order.
        y: values, (..., n); nan is a missing point. A series that holds infinity is not fitted, and says so.
        model: a hypothesis, or its name in `HYPOTHESES`.
        method: a name in `METHODS`; "trf" is the published one.

    Raises:
        UsageError: unknown model or method, steps that are negative or not finite, or shapes that do not match.

    >>> t = np.arange(0, 30_000, 1000)
    >>> fits = fit_curves(t, 7 * (1 - np.exp(-t / 5000)), model="step1")
    >>> fits.popt.round(3).tolist(), fits.success.item()
    ([5000.0, 7.0], True)
    """
    hypothesis = model if isinstance(model, Hypothesis) else resolve([model])[0]
    if method not in METHODS:
        raise UsageError(f"unknown fitting method {method!r}; known: {', '.join(METHODS)}")
    t, y = _checked(t, y)
    series = y.reshape(-1, t.size)
    messages = [refusal(hypothesis, t, row) for row in series]
    solved = np.array([not message for message in messages], dtype=bool)
    p = hypothesis.num_params
    popt, pcov = np.full((len(series), p), np.nan), np.full((len(series), p, p), np.nan)
    solution = METHODS[method](hypothesis, t, series[solved])
    popt[solved], pcov[solved] = solution.popt, solution.pcov
    for i, message in zip(np.flatnonzero(solved), solution.messages, strict=True):
        messages[i] = message

    success = np.array([not message for message in messages], dtype=bool)
    curves = hypothesis.function(t, *popt.T[:, :, np.newaxis])
    residuals = np.where(success[:, np.newaxis] & np.isfinite(series), series, np.nan) - curves
    scores = [_scores(row, residual, p) for row, residual in zip(series, residuals, strict=True)]
    r2, aic = np.array(scores).reshape(-1, 2).T
    suspects = [_suspects(row, residual) for row, residual in zip(series, residuals, strict=True)]
    lead = y.shape[:-1]
    return Fits(
        model=hypothesis,
        popt=popt.reshape(*lead, p),
        pcov=pcov.reshape(*lead, p, p),
        r2=r2.reshape(lead),
        aic=aic.reshape(lead),
        residuals=residuals.reshape(y.shape),
        success=success.reshape(lead),
        message=np.array(messages, dtype=object).reshape(lead),
        suspects=np.array(suspects, dtype=bool).reshape(y.shape),
        num_points=np.isfinite(y).sum(axis=-1),
    )


def _checked(t: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    try:
        t, y = np.asarray(t, float), np.asarray(y, float)
    except (TypeError, ValueError) as error:
        raise UsageError(f"steps and values must be arrays of numbers: {error}") from error
    if t.ndim != 1 or t.size == 0:
        raise UsageError(f"steps have shape {t.shape}; they must be one row of at least one step")
    if y.ndim == 0 or y.shape[-1] != t.size:
        raise UsageError(f"values have shape {y.shape}; the last axis must have one value for each of {t.size} steps")
    bad = t[~(np.isfinite(t) & (t >= 0))]
    if bad.size:
        raise UsageError(f"a step is {bad[0]:g}; training steps are finite and not negative")
    return t, y


def refusal(hypothesis: Hypothesis, t: Array, y: Array) -> str:
    """Why no method could fit the series y (n,) at steps t (n,); "" if one could."""
    infinite = t[np.isinf(y)]
    if infinite.size:
        return f"infinite at step {infinite[0]:g}: mark missing points with nan, and measure broken ones again"
    seen = np.isfinite(y)
    needed = f"the {hypothesis.num_params} parameters of {hypothesis.name}"
    if np.sum(seen) < hypothesis.num_params:
        return f"too few points: {np.sum(seen)} finite, for {needed}"
    distinct = np.unique(t[seen]).size
    if distinct < hypothesis.num_params:
        return f"too few steps: {distinct} distinct, for {needed}"
    low, high = np.min(y[seen]), np.max(y[seen])
    scale = max(abs(low), abs(high))
    if high / 2 - low / 2 <= 4 * np.finfo(float).eps * scale:
        return f"the series is constant ({high:g}): no curve is identified"
    if scale > np.sqrt(np.finfo(float).max):
        return f"values reach {scale:g}: their squares cannot be summed"
    return ""


def _scores(y: Array, residuals: Array, k: int) -> tuple[float, float]:
    """(R2, AIC). Sums are taken of y / max|y|, so that the squares of very small values do not underflow."""
    seen = np.isfinite(residuals)
    n = int(np.sum(seen))
    if n == 0:
        return np.nan, np.nan
    scale = np.max(np.abs(y[seen]))
    rss = np.sum((residuals[seen] / scale) ** 2)
    tss = np.sum(((y[seen] - np.mean(y[seen])) / scale) ** 2)
    mean_square = max(rss / n, np.finfo(float).eps ** 2)
    return 1 - rss / tss, n * (np.log(mean_square) + 2 * np.log(scale)) + 2 * k


def _suspects(y: Array, residuals: Array) -> NDArray[np.bool_]:
    seen = np.isfinite(residuals)
    if not np.any(seen):
        return seen
    away = np.abs(residuals - np.median(residuals[seen]))
    deviation = max(1.4826 * np.median(away[seen]), SMALLEST_DEVIATION * np.ptp(y[seen]))
    return seen & (away > SUSPECT_DEVIATIONS * deviation)
