"""What a population says of young runs: bands, peaks, plateaus, and the chance to pass a threshold. `look_ahead`.

Bands are quantiles of t distributions of the logarithm, exact at any level. What depends on a whole course (does it
pass a threshold, where is its peak) is read off courses that are drawn: a fixed quasi-random sequence, so that the same
series gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri, ndtr, ndtri, stdtr, stdtrit
from scipy.stats import qmc

from madyn.arrays import read, read_row
from madyn.curves.bayes.levels import tails_of, thresholds_of
from madyn.curves.bayes.priors import last_of_run
from madyn.curves.grouping import alike
from madyn.curves.hypotheses.peaks import observable, peak
from madyn.curves.population.conditioning import Seen, condition
from madyn.curves.population.courses import CURVE, curves_through
from madyn.curves.population.populations import Population
from madyn.curves.units import Units
from madyn.errors import UsageError
from madyn.labels import describe, interval
from madyn.typing import Array, Rows

if TYPE_CHECKING:
    import xarray as xr

COURSES = 512
_CURVES = 128  # of them get a curve
_AHEAD = 12  # shares evenly to the end of the run, and as many by a constant factor
_RARE = 0.01


@dataclass(frozen=True, eq=False)
class _Part:
    """Series that were seen at the same steps: their rows, the steps (n,) and the values (S, n)."""

    rows: Rows
    steps: Array
    values: Array


@dataclass(frozen=True, eq=False)
class Outlook:
    """What may come of S series. Made by `look_ahead`; answers as a `Posterior` does where both can.

    Attributes:
        population: what runs are like.
        last_step: of the run, as planned.
        message: (S,), why a series has no outlook: all results for it are nan; "" for one that has.
    """

    population: Population
    last_step: float
    message: NDArray[Any]
    parts: tuple[_Part, ...] = field(repr=False)

    hypothesis = CURVE

    def __repr__(self) -> str:
        known = sum(not message for message in self.message)
        return (
            f"<madyn Outlook from {self.population.source}\n {len(self.message)} series, {known} with an outlook\n "
            "forecast(steps, level), exceed(thresholds, steps), peak(level), plateau(level)>"
        )

    def forecast(self, t_new: ArrayLike, level: float = 0.9) -> xr.Dataset:
        """Median and central interval of what would be measured.

        Args:
            t_new: (m,) steps, up to the run's last.
            level: the probability of each band, at each step by itself.

        Returns:
            median, lower and upper, all above 0; dims (series, step).

        Raises:
            UsageError: a step is not one of the run's, or level is no probability.
        """
        t, tails = self._steps(t_new), tails_of(level)

        def bands(part: _Part) -> Array:
            seen = self._seen(part, t)
            with np.errstate(over="ignore"):
                ends = [
                    np.exp(seen.median + stdtrit(self.population.dof, p) * seen.scale(self.population)) for p in tails
                ]
            return np.stack(ends, axis=-1)

        found = self._collected(bands, (t.size, 3))
        names = ("lower", "median", "upper")
        return _labelled({name: found[..., i] for i, name in enumerate(names)}, ("step",), {"step": t})

    def exceed(self, thresholds: ArrayLike, steps: ArrayLike = ()) -> Array:
        """(S, thresholds), the probability that a measurement to come lies above each threshold.

        The run is looked at from the last step seen to its end, at two dozen steps and at `steps`.

        Raises:
            UsageError: a threshold is not above 0, or a step is not one of the run's.
        """
        values, steps = thresholds_of(thresholds), self._steps(steps)

        def chances(part: _Part) -> Array:
            t = np.unique(np.concatenate([self._ahead(part), steps[steps > part.steps[-1]]]))
            seen = self._seen(part, t)
            tops = np.max(self._drawn(seen, COURSES), axis=2)
            drawn = np.mean(tops[..., np.newaxis] > np.log(values), axis=1)
            off = (np.log(values) - seen.median[..., np.newaxis]) / seen.scale(self.population)[..., np.newaxis]
            # A draw in 512 is the least that courses can say; the step where it is likeliest says less.
            return np.maximum(drawn, np.max(stdtr(self.population.dof, -off), axis=1))

        return self._collected(chances, (values.size,))

    def peak(self, level: float = 0.9) -> xr.Dataset:
        """Step and height of the maximum of the curve through each course; as `Posterior.peak` returns it."""
        tails = tails_of(level)

        def of(part: _Part, curves: Array) -> Array:
            step, height = peak(*np.moveaxis(curves, -1, 0))
            there = observable(step, self.last_step)
            ends = np.full((len(step), 8), np.nan)
            ends[:, 6], ends[:, 7] = np.mean(there, axis=1), np.mean(there & (step > part.steps[-1]), axis=1)
            for i, told in enumerate(there & (height > 0)):
                if ends[i, 6] >= _RARE and np.any(told):
                    ends[i, :6] = np.quantile(np.stack([step[i][told], height[i][told]]), tails, axis=1).ravel()
            return ends

        found = self._collected(of, (8,), self._curves)
        names = ("lower", "median", "upper")
        by_name = {name: found[:, 2 * i : 2 * i + 2] for i, name in enumerate(names)}
        chances = _labelled({"inside": found[:, 6], "ahead": found[:, 7]}, (), {})
        return _labelled(by_name, ("quantity",), {"quantity": ["step", "height"]}).merge(chances)

    def plateau(self, level: float = 0.9) -> xr.Dataset:
        """Median and central interval of what the curve through each course tends to; dims (series)."""
        tails = tails_of(level)

        def of(part: _Part, curves: Array) -> Array:
            limit = CURVE.limit_of(curves)
            positive = np.where(limit >= 0, limit, np.nan)
            told = np.any(np.isfinite(positive), axis=1)
            ends = np.full((len(limit), 3), np.nan)
            if np.any(told):
                ends[told] = np.nanquantile(positive[told], tails, axis=1).T
            return ends

        found = self._collected(of, (3,), self._curves)
        return _labelled({name: found[:, i] for i, name in enumerate(("lower", "median", "upper"))}, (), {})

    def _steps(self, given: ArrayLike) -> Array:
        t = read_row(given, "steps")
        if not np.all(np.isfinite(t)) or np.any(t < 0) or np.any(t > self.last_step):
            raise UsageError(f"a step to look ahead to is not one of the run's, 0 to {self.last_step:g}")
        return t

    def _ahead(self, part: _Part) -> Array:
        last = max(part.steps[-1], 0.5)
        even, by_factor = np.linspace(last, self.last_step, _AHEAD + 1), np.geomspace(last, self.last_step, _AHEAD + 1)
        return np.unique(np.concatenate([even[1:], by_factor[1:-1]]))

    def _seen(self, part: _Part, t: Array) -> Seen:
        return condition(self.population, part.steps / self.last_step, np.log(part.values), t / self.last_step)

    def _drawn(self, seen: Seen, count: int) -> Array:
        """(S, count, m), logarithms of courses at the steps of `seen`."""
        z, stretch = _draws(count, len(seen.horizon), self.population.dof)
        courses = []
        for i, median in enumerate(seen.median):
            # Of two matrices that differ by rounding, eigenvectors may be any; triangles are alike.
            factor = np.linalg.cholesky(seen.total(self.population, i))
            courses.append(median + stretch[:, np.newaxis] * (z @ factor.T))
        return np.array(courses)

    @cached_property
    def _curves(self) -> list[Array]:
        """Of each part, (S, _CURVES, p): parameters of the curves through what was seen and what may come."""
        return [self._curves_of(part) for part in self.parts]

    def _curves_of(self, part: _Part) -> Array:
        t = self._ahead(part)
        courses = self._drawn(self._seen(part, t), _CURVES)
        size = np.max(part.values, axis=1)
        x = np.concatenate([part.steps, t]) / self.last_step
        # No further than a thousand times what was seen: least squares would see nothing else.
        y = np.exp(np.minimum(courses - np.log(size)[:, np.newaxis, np.newaxis], np.log(1e3)))
        seen = np.broadcast_to((part.values / size[:, np.newaxis])[:, np.newaxis], (*y.shape[:2], part.steps.size))
        every = np.concatenate([seen, y], axis=2)
        params = curves_through(x, every.reshape(-1, x.size)).reshape(*y.shape[:2], -1)
        return Units(self.last_step, size, np.zeros(len(size))).parameters(CURVE, params)

    def _collected(self, of: Any, shape: tuple[int, ...], *by_part: Sequence[Any]) -> Array:
        found = np.full((len(self.message), *shape), np.nan)
        for part, *more in zip(self.parts, *by_part, strict=True):
            found[part.rows] = of(part, *more)
        return found


def look_ahead(population: Population, t: ArrayLike, y: ArrayLike, last_step: float) -> Outlook:
    """What a population says of young runs.

    Args:
        population: what runs are like.
        t: (n,) steps seen, in any order.
        y: (S, n) values, above 0; nan is a missing point.
        last_step: of the run, as planned.

    Raises:
        UsageError: shapes do not match, a step is negative or not finite, or the run ends before a step that was seen.
    """
    t, end = read_row(t, "steps"), last_of_run(last_step)
    y = read(y, "values").values
    if y.ndim != 2 or y.shape[1] != t.size:
        raise UsageError(f"values have shape {y.shape}; expected (series, {t.size}), one for each step")
    if not np.all(np.isfinite(t)) or np.any(t < 0):
        raise UsageError("steps are finite and not negative")
    if t.size and np.max(t) > end:
        raise UsageError(f"the run's last step is {end:g}, and step {np.max(t):g} was seen")
    order = np.argsort(t, kind="stable")
    t, y = t[order], y[:, order]
    there = ~np.isnan(y)
    messages = np.array([_refusal(values[own]) for values, own in zip(y, there, strict=True)], dtype=object)
    ready = np.flatnonzero([not message for message in messages])
    parts = []
    for some in alike(there[ready].astype(float)):
        rows = ready[some]
        parts.append(_Part(rows, t[there[rows[0]]], y[rows][:, there[rows[0]]]))
    return Outlook(population, end, messages, tuple(parts))


def any_exceeds(chances: Array, together: float) -> Array:
    """The probability that at least one of several layers does what each does with its own probability.

    Layers of one run go together: given one normal factor that all share, with the correlation `together`, they are
    independent.

    Args:
        chances: (S, ...), of each layer; nan where a layer is not known, which counts as one that does not.
        together: from 0 to below 1.

    Returns:
        (...).
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    chances = np.clip(np.nan_to_num(np.asarray(chances, float)), 0.0, 1.0)
    with np.errstate(divide="ignore"):
        reach = ndtri(1 - chances)[..., np.newaxis]
        inside = (reach - np.sqrt(together) * nodes) / np.sqrt(1 - together)
    none = np.prod(ndtr(inside), axis=0)
    combined = 1 - none @ (weights / np.sum(weights))
    # Never less than the likeliest layer, nor more than all together: the nodes are few.
    return np.clip(combined, np.max(chances, axis=0, initial=0.0), np.minimum(1.0, np.sum(chances, axis=0)))


def _draws(count: int, dimensions: int, dof: float) -> tuple[Array, Array]:
    """(count, dimensions) of the standard normal, and (count,) by which they are stretched to t distributions."""
    uniform = np.clip(qmc.Sobol(dimensions + 1, rng=7).random(count), 1e-9, 1 - 1e-9)
    return ndtri(uniform[:, 1:]), np.sqrt(dof / chdtri(dof, 1 - uniform[:, 0]))


def _refusal(values: Array) -> str:
    if np.any(np.isinf(values)):
        return "a value is infinite: mark missing points with nan, and measure broken ones again"
    if values.size < 2:
        return f"too few points: {values.size} finite; an outlook needs 2"
    if np.any(values <= 0):
        return f"a value is {np.min(values):g}: a population is one of logarithms, of values above 0"
    return ""


def _labelled(variables: dict[str, Array], dims: Sequence[str], coords: dict[str, Any]) -> xr.Dataset:
    import xarray as xr

    found = xr.Dataset({name: (("series", *dims), value) for name, value in variables.items()}, coords=coords)
    return describe(found, interval(unit="unit of the values, or steps"))
