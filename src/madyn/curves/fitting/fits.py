"""Fitting a curve to series: `fit_curves`, whatever the method, and what a fit says about itself.

A method only finds parameters. What the data are, which series cannot be fitted, and the scores are the same for all
methods and are computed here, in the data's own units. A series that has no fit is a result with a message, never an
error: one bad layer must not take the others with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.curves.fitting import trf, varpro
from madyn.curves.fitting.arrays_of_fits import FitArrays
from madyn.curves.fitting.identifiability import summary
from madyn.curves.fitting.labelling import labelled
from madyn.curves.fitting.mapping import reparametrised
from madyn.curves.fitting.robust import ROBUST, reweighted
from madyn.curves.fitting.scores import scores, suspects
from madyn.curves.fitting.series import Series, checked, refusals
from madyn.curves.fitting.solution import Solution
from madyn.curves.fitting.tables import long_table, wide_table
from madyn.curves.hypotheses.registry import HYPOTHESES, resolve
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.curves.renaming import renamed
from madyn.errors import UsageError
from madyn.notebook import Shown
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure


# The fewest points of a series in the published work. A shorter one is fitted all the same.
PAPER_MINIMUM_POINTS = 27

AT_ONCE = 2048  # series
POINTS_AT_ONCE = 300_000  # of all series together

METHODS: dict[str, Callable[[Any, Array, Array, Array], Solution]] = {"varpro": varpro.solve, "trf": trf.solve}
"""Fitting methods by name: `(hypothesis, t (m, n), y (m, n), weights (m, n)) -> Solution`."""


@renamed(model="hypothesis")
@dataclass(frozen=True, eq=False, repr=False)
class Fits(FitArrays, Shown):
    """One curve fitted to each of many series; `...` is the leading shape of y, p the parameters, n the points.

    Attributes:
        hypothesis: the curve; `hypothesis.param_names` names the last axis of popt, nonlinear parameters first.
        popt: (..., p), in raw steps and data units; nan where there is no fit.
        pcov: (..., p, p), s^2 (J'WJ)^-1 with s^2 = RSS/(n - p); infinite where the data do not determine every
            parameter, nan where there is no fit or a variance is below the smallest number. For a regularised curve it
            includes the penalty.
        r2: (...), 1 - RSS/TSS of the data, without the penalty; with weights, of weighted sums.
        aic: (...), n log(RSS/n) + 2p in squared data units, n the points fitted. RSS is not taken below
            n (eps max|y|)^2, the rounding of the data, so that a perfect fit has a finite AIC. Weights count as inverse
            variances, known up to a factor.
        aicc: (...), AIC + 2p(p + 1)/(n - p - 1), for small n (Hurvich and Tsai 1989); nan where n < p + 2, which
            `message` then says.
        bic: (...), n log(RSS/n) + p log n.
        residuals: (..., n), y - f; nan where y is nan or there is no fit.
        success: (...), whether there is a fit.
        message: (...), why there is none; or what to know of one (an optimum on the edge of its box); else "".
        at_edge: (..., q), nonlinear parameters that ended on an edge of the search's box: there the least sum of
            squares may not be attained by any parameters. Always False for method "trf".
        suspects: (..., n), points whose residual is more than 3.5 robust standard deviations (1.4826 MAD, and at least
            a millionth of the range) from the median residual. Unless the fit is robust they weighed like the others.
        num_points: (...), the points fitted of each series. Below `PAPER_MINIMUM_POINTS` the published work fits none.
        weights: (..., n), with which the curve was fitted at the end, 0 where a point is missing.
        steps: (..., n) or (n,), as given.
        method: that found the parameters.
        lead: what the leading axes are labelled with, where y was labelled.

    >>> t = np.arange(0, 30_000, 1000)
    >>> y = 7 * (1 - np.exp(-t / 5000)) + 0.1 * np.sin(t)
    >>> fits = fit_curves(t, y, hypothesis="step1")
    >>> dict(zip(fits.hypothesis.param_names, fits.popt.round(1).tolist(), strict=True))
    {'tau': 5007.9, 'K': 7.0}
    >>> fits.predict([40_000.0]).round(1).tolist()
    [7.0]
    >>> fits.to_dataset()["popt"].dims
    ('parameter',)
    >>> list(fits.to_dataframe().columns[:3])
    ['hypothesis', 'parameter', 'value']
    >>> fits.plot().axes[0].get_xlabel()
    'training step'
    """

    def __repr__(self) -> str:
        good = np.asarray(self.r2)[np.asarray(self.success)]
        shape = " x ".join(map(str, self.success.shape)) or "one"
        r2 = f"R2 {np.min(good):.4f} to {np.max(good):.4f}, median {np.median(good):.4f}" if good.size else "no R2"
        points = f"{np.min(self.num_points)} to {np.max(self.num_points)}" if self.num_points.size else "no"
        return (
            f"<madyn Fits of {self.hypothesis.name} by {self.method}\n {shape} series of {points} points, {good.size} "
            f"fitted, {int(np.any(self.at_edge, axis=-1).sum())} on an edge of the box; {r2}\n "
            "summary() says what is determined; popt, pcov, predict(t), to_dataset(), ...>"
        )

    def summary(self, index: int | tuple[int, ...] | None = None) -> str:
        """What the fits say, in words: scores, parameters with standard errors, what is not identified and what is.

        Args:
            index: of one series in the leading shape; by default all of them, the first ten in full.

        Raises:
            UsageError: there is no such series.

        >>> t = np.arange(0, 30_000, 1000)
        >>> print(fit_curves(t, 7 * (1 - np.exp(-t / 5000)) + 0.1 * np.sin(t), hypothesis="step1").summary())
        step1, 30 points, method varpro: R2 = 0.9985...
        """
        return summary(self, index)

    def to_dataset(
        self, dims: Sequence[str] | None = None, coords: Mapping[str, ArrayLike] | None = None
    ) -> xr.Dataset:
        """The fits as labelled arrays: dims are those of the leading shape, then parameter, parameter_2, point.

        Args:
            dims: names of the leading axes; by default those that y had, and "series", or "series_0", "series_1" and so
                on, for axes without. A name that the fits need themselves gets "series_" before it.
            coords: coordinates of them; by default those that y had.

        Raises:
            UsageError: not one name for each leading axis.
        """
        return labelled(self, dims, coords)

    def to_dataframe(self) -> pd.DataFrame:
        """The fits in long form.

        Returns:
            a row a series and parameter: columns for the leading axes of y (its labels, else numbers from 0),
            hypothesis, parameter, value and standard_error (in steps and data units; infinite where the data do not
            determine it, nan where there is no fit), and, the same in each row of a series, r2, aicc, success, message.
        """
        return long_table(self)

    def _shown(self, most: int) -> tuple[pd.DataFrame, int]:
        table = wide_table(self)
        return table.head(most), len(table)

    def plot(self, index: int | tuple[int, ...] | None = None) -> Figure:
        """The points and the curve of each series, at most twelve; of one series what the curve leaves over too.

        Args:
            index: of one series in the leading shape.

        Raises:
            UsageError: there is no such series, or no series at all.
        """
        return self._drawn(index=index)


@renamed(model="hypothesis")
def fit_curves(
    t: ArrayLike | None,
    y: ArrayLike,
    hypothesis: str | SeparableModel = "reparam",
    method: str = "varpro",
    weights: ArrayLike | None = None,
    robust: Literal["huber", "student"] | None = None,
) -> Fits:
    """Fit one curve to each series.

    Arrays without labels go by their order. In xarray's and pandas' the steps are along the dimension of `t`, or along
    the one called "step" (a dimension, a coordinate, the name of an index), in any place; the other dimensions lead
    in their order, and `Fits.to_dataset` gives them back by name. A pandas Series is one series.

    Args:
        t: points, (n,), or one row for each series, of y's shape. In any order; a point may occur again. For a built-in
            hypothesis they are training steps, not negative. None where y is labelled with its steps.
        y: values, (..., n); nan is a missing point, and so is one that is masked or NA, or whose step is. A series that
            holds infinity is not fitted, and says so.
        hypothesis: the name of a hypothesis in `HYPOTHESES`, or a `SeparableModel`.
        method: "varpro", the global optimum in the hypothesis's box; or "trf", the published search from a single
            start, which knows the published hypotheses.
        weights: of the squared residuals, (n,) or of y's shape, not negative: inverse variances up to a factor. 0
            leaves a point out, and its residual is still told; a masked one counts as 0.
        robust: weigh points down that lie far off, by Huber's rule or Student's t with 4 degrees of freedom, until fit
            and weights agree.

    Raises:
        UsageError: unknown hypothesis or method, steps that are negative or not finite, negative weights, shapes or
            labels that do not match, named dimensions of which none can be told to be the steps, what is no real
            number, or a method that does not know the hypothesis.

    >>> t = np.arange(0, 30_000, 1000)
    >>> fits = fit_curves(t, 7 * (1 - np.exp(-t / 5000)), hypothesis="step1")
    >>> fits.popt.round(3).tolist(), fits.success.item()
    ([5000.0, 7.0], True)
    """
    chosen = resolve([hypothesis])[0]
    if method not in METHODS:
        raise UsageError(f"unknown fitting method {method!r}; known: {', '.join(METHODS)}")
    if robust is not None and robust not in ROBUST:
        raise UsageError(f"unknown robust weights {robust!r}; known: {', '.join(ROBUST)}")
    if method == "trf" and chosen.published is None:
        raise UsageError(f"the published method has no start for {chosen.name}; fit it with method 'varpro'")
    if method == "varpro" and chosen.same_as is not None:
        same = fit_curves(t, y, HYPOTHESES[chosen.same_as], method, weights, robust)
        return reparametrised(same, chosen)
    series = checked(t, y, weights, chosen)
    messages = refusals(chosen, *series.rows)
    solution, fitted = _solve_all(chosen, METHODS[method], series.rows, messages, robust)
    return _assembled(chosen, method, series, fitted, solution)


@renamed(models="hypotheses")
def fit_each(
    t: ArrayLike | None,
    y: ArrayLike,
    hypotheses: Iterable[str | SeparableModel],
    method: str = "varpro",
    robust: Literal["huber", "student"] | None = None,
) -> list[Fits]:
    """`fit_curves` for several curves; one that is another in other parameters is not searched for again.

    The curves are shared among the processor's cores.

    Args:
        t: as for `fit_curves`, and so the others that it has too.
        y: as there.
        hypotheses: names in `HYPOTHESES`, or curves of your own.
        method: as there.
        robust: as there.

    Returns:
        fits of each, in the order of `hypotheses`.

    Raises:
        UsageError: as `fit_curves`.

    >>> t = np.arange(0, 30_000, 1000)
    >>> y = 7 * (1 - np.exp(-t / 5000)) + 0.1 * np.sin(t)
    >>> [fits.hypothesis.name for fits in fit_each(t, y, ["step1", "reparam"])]
    ['step1', 'reparam']
    """
    chosen = resolve(hypotheses)
    names = {hypothesis.name for hypothesis in chosen} if method == "varpro" else set()
    mapped = [hypothesis for hypothesis in chosen if hypothesis.same_as in names]
    searched = [hypothesis for hypothesis in chosen if hypothesis not in mapped]

    def fit(hypothesis: SeparableModel) -> Fits:
        return fit_curves(t, y, hypothesis, method, robust=robust)

    if method == "varpro" and len(searched) > 1 and np.size(y) <= POINTS_AT_ONCE:  # more are shared out in pieces
        with ThreadPoolExecutor(min(len(searched), _cores())) as pool:
            found = list(pool.map(fit, searched))
    else:
        found = [fit(hypothesis) for hypothesis in searched]
    fits = {one.hypothesis.name: one for one in found}
    for hypothesis in mapped:
        fits[hypothesis.name] = reparametrised(fits[str(hypothesis.same_as)], hypothesis)
    return [fits[hypothesis.name] for hypothesis in chosen]


def _solve_all(
    hypothesis: SeparableModel,
    find: Callable[[Any, Array, Array, Array], Solution],
    flat: Sequence[Array],
    messages: list[str],
    robust: str | None,
) -> tuple[Solution, Array]:
    """`_solve`, so many series at a time that their number costs time alone and not memory.

    A piece has the same results as if it were all there is. Pieces are shared among the processor's cores, since NumPy
    works outside the interpreter's lock.
    """
    m, n = flat[1].shape
    size = max(1, min(AT_ONCE, POINTS_AT_ONCE // n))
    pieces = [slice(i, i + size) for i in range(0, m, size)] or [slice(0, 0)]

    def solve(piece: slice) -> tuple[Solution, Array]:
        return _solve(hypothesis, find, [part[piece] for part in flat], messages[piece], robust)

    if len(pieces) == 1:
        return solve(pieces[0])
    with ThreadPoolExecutor(min(len(pieces), _cores())) as pool:
        solved = list(pool.map(solve, pieces))
    return Solution.joined([one for one, _ in solved]), np.concatenate([used for _, used in solved])


def _cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _solve(
    hypothesis: SeparableModel,
    find: Callable[[Any, Array, Array, Array], Solution],
    flat: Sequence[Array],
    messages: list[str],
    robust: str | None,
) -> tuple[Solution, Array]:
    """The solution for all series, with nan for those refused, and the weights at the end."""
    t, y, weights = flat
    ready = np.array([not message for message in messages], dtype=bool)
    values = np.where(np.isfinite(y), y, 0.0)[ready]
    used = weights.copy()
    if robust is not None and np.any(ready):
        used[ready] = reweighted(
            lambda w: find(hypothesis, t[ready], values, w).residuals, values, weights[ready], robust
        )
    return find(hypothesis, t[ready], values, used[ready]).among(ready, messages), used


def _assembled(
    hypothesis: SeparableModel,
    method: str,
    series: Series,
    used: Array,
    solution: Solution,
) -> Fits:
    shaped, (_, y, weights) = series.y, series.rows
    success = np.array([not message for message in solution.messages], dtype=bool)
    residuals = np.where(success[:, np.newaxis] & np.isfinite(y), solution.residuals, np.nan)
    score = scores(y, np.where(weights > 0, residuals, np.nan), weights, hypothesis.num_params)
    n = np.sum((weights > 0) & np.isfinite(y), axis=1)
    lead, p = shaped.shape[:-1], hypothesis.num_params
    return Fits(
        hypothesis=hypothesis,
        popt=solution.popt.reshape(*lead, p),
        pcov=solution.pcov.reshape(*lead, p, p),
        **{name: values.reshape(lead) for name, values in score._asdict().items()},
        residuals=residuals.reshape(shaped.shape),
        success=success.reshape(lead),
        message=np.array(_remarks(hypothesis, solution, n), dtype=object).reshape(lead),
        at_edge=(solution.at_low | solution.at_high).reshape(*lead, hypothesis.num_nonlinear),
        suspects=suspects(y, residuals).reshape(shaped.shape),
        num_points=n.reshape(lead),
        weights=used.reshape(shaped.shape),
        steps=series.steps,
        method=method,
        lead=series.lead,
        jacobian=solution.jacobian.reshape(*lead, *solution.jacobian.shape[1:]),
    )


def _remarks(hypothesis: SeparableModel, solution: Solution, n: NDArray[np.int64]) -> list[str]:
    """Why there is no fit, or what to know of it."""
    remarks = list(solution.messages)
    names = list(hypothesis.nonlinear)
    short = n < hypothesis.num_params + 2
    for i in np.flatnonzero(np.any(solution.at_low | solution.at_high, axis=1) | short):
        if remarks[i]:
            continue
        said = []
        for j, name in enumerate(names):
            if solution.at_low[i, j] or solution.at_high[i, j]:
                edge = "lower" if solution.at_low[i, j] else "upper"
                said.append(f"{name} = {solution.popt[i, j]:.3g} is on the {edge} edge of the box")
        if said:
            said[-1] += ": the optimum is not attained inside"
        if short[i]:
            said.append(f"AICc is undefined for {n[i]} points and {hypothesis.num_params} parameters")
        remarks[i] = "; ".join(said)
    return remarks
