"""A prior from finished runs: what a young run may borrow from old ones.

The runs' own posteriors under a prior say where their parameters are; the prior is replaced by the normal distribution
that has the mean and covariance of them all together, and so on: the EM algorithm for a normal population seen through
noise. A value is expressed in units of what a young run has too, the level of its last points seen, so that a
trajectory of 200 and one of 10 are alike if both double. Layers of one model are far from independent, so that runs are
counted and not layers, and every covariance is widened as the prediction of one more run from so few has to be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.arrays import number
from madyn.curves.bayes.posteriors import posterior
from madyn.curves.bayes.priors import LENGTHS, Prior, curve_of
from madyn.curves.bayes.widening import how_far
from madyn.curves.fitting.series import beyond, checked
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.curves.renaming import renamed
from madyn.errors import SeriesError, UsageError, listed
from madyn.typing import Array

LAST_SEEN = 3  # points whose mean |y| is the unit
ROUNDS = 6
PROPORTIONAL_SHARES = (0.0, 0.5, 0.9)
FEWEST = 4  # runs
FOLDS = 4
LEVEL = 0.9  # of the bands that the widening is found with
_SEPARATE = 0.1  # share by which covariances shrink towards none
_LEAST = 0.05  # standard deviation of a search coordinate or coefficient, for runs that are all alike
_WIDE = 4.0  # standard deviation of a coefficient at the start, in units of the largest |y|


@renamed(model="hypothesis")
def learn_prior(
    t: ArrayLike | None,
    y: ArrayLike,
    hypothesis: str | SeparableModel = "reparam",
    runs: Iterable[object] | None = None,
    seen: float | None = None,
    last_step: float | None = None,
    positive: bool = False,
) -> Prior:
    """A prior learned from finished runs, for a run of which the part up to step `seen` is known.

    Args:
        t: steps, (n,), or one row for each series, in any order. None where y is labelled with its steps.
        y: trajectories of finished runs, (S, n); nan is a missing point. Masks and labels are read as in `fit_curves`.
        hypothesis: the curve.
        runs: which run each series is of, S labels in their order; each series is a run of its own by default.
        seen: the step up to which the young run is seen, in the steps of `t`; values are
            divided by their level there, and bands are widened as far as those of the finished runs needed.
        last_step: of the finished runs; by default their last step measured.
        positive: whether values cannot be below 0, as |h| and its ratios cannot; see `Prior.positive`.

    Raises:
        SeriesError: there are fewer than four runs.
        UsageError: shapes or labels do not match, or steps are negative or not finite.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> few = data.select(data.models[:4])
    >>> series = np.concatenate(
    ...     [few.trajectories(name, "ratio").transpose("layer", "step").values for name in few]
    ... )
    >>> runs = [name for name in few for layer in range(few.architecture(name).num_hidden_layers)]
    >>> prior = madyn.curves.learn_prior(few.steps(few.models[0]), series, runs=runs)
    >>> prior.hypothesis.name
    'reparam'
    """
    seen = None if seen is None else number(seen, "seen")
    last_step = None if last_step is None else number(last_step, "the last step")
    series = checked(t, y, None, curve_of(hypothesis))
    if series.y.ndim != 2:
        raise UsageError(f"values have shape {series.y.shape}; expected (series, steps)")
    of_runs = getattr(runs, "values", runs)  # of an array with labels, those alone; a method, of a mapping or a tensor
    labels = list(range(len(series.y))) if runs is None else listed("runs", runs if callable(of_runs) else of_runs)
    if len(labels) != len(series.y):
        raise UsageError(f"{len(labels)} labels of runs for {len(series.y)} series")
    t, y = _ascending(np.where(np.isfinite(series.steps), series.steps, np.nan), series.y)
    scale = levels(np.broadcast_to(t, y.shape), y, seen)
    good = np.isfinite(scale) & (scale > 0) & (np.sum(np.isfinite(y), axis=1) >= 3) & ~np.any(np.isinf(y), axis=1)
    good &= ~np.array(beyond(curve_of(hypothesis), np.broadcast_to(t, y.shape), y, np.isfinite(y)), bool)
    names, which = np.unique(np.array([str(label) for label in labels])[good], return_inverse=True)
    if len(names) < FEWEST:
        raise SeriesError(f"a prior is learned from at least {FEWEST} finished runs, and there are {len(names)}")
    t = t if t.ndim == 1 else t[good]
    finished = _Finished(t, y[good] / scale[good, np.newaxis], which, last_step)
    start = replace(_start(curve_of(hypothesis), finished), positive=positive)
    prior = _population(start, finished, ROUNDS)
    prior = max(
        (replace(prior, proportional_share=share) for share in PROPORTIONAL_SHARES),
        key=lambda p: _support(p, finished),
    )
    prior = _next(prior, finished)
    learned = replace(_widened(prior, finished.runs), source=f"learned from {finished.runs} finished runs")
    if seen is not None:
        learned = replace(learned, widening=_called_for(learned, prior, finished, seen))
    return replace(learned, units="level")


def _ascending(t: Array, y: Array) -> tuple[Array, Array]:
    """Steps (n,) or (S, n) and values (S, n), the points of each series in the order of their steps.

    A step that is not known, where a value is missing, goes last.
    """
    order = np.argsort(t, axis=-1, kind="stable")
    return np.take_along_axis(t, order, -1), np.take_along_axis(y, np.broadcast_to(order, y.shape), 1)


class _Finished(NamedTuple):
    """Finished runs: y (S, n) in units, which run each series is of (S,), and when they ended."""

    t: Array
    y: Array
    which: NDArray[np.intp]
    last_step: float | None

    @property
    def runs(self) -> int:
        return len(np.unique(self.which))

    @property
    def weight(self) -> Array:
        """(S,), so that every run weighs the same."""
        each = np.bincount(self.which)[self.which]
        return 1 / (self.runs * each)

    def part(self, rows: NDArray[np.bool_]) -> _Finished:
        return self._replace(t=self.t if self.t.ndim == 1 else self.t[rows], y=self.y[rows], which=self.which[rows])


def _start(hypothesis: SeparableModel, finished: _Finished) -> Prior:
    k, size = len(hypothesis.linear), float(np.nanmax(np.abs(finished.y)))
    return replace(
        Prior.default(hypothesis), linear_cov=(_WIDE * size) ** 2 * np.eye(k), proportional_share=PROPORTIONAL_SHARES[1]
    ).given()


def _population(prior: Prior, finished: _Finished, rounds: int) -> Prior:
    for _ in range(rounds):
        prior = _next(prior, finished)
    return prior


def _called_for(learned: Prior, population: Prior, finished: _Finished, seen: float) -> float:
    """By how much bands have to be widened for as many of the held-out runs' points to lie in them as should.

    Runs are left out a quarter at a time, and their later parts are forecast from their earlier ones with a prior
    learned from the others; the factor is the quantile of how far points lie out, in widths of their bands (split
    conformal prediction, Papadopoulos et al. 2002, but for its correction for few samples). Bands are never narrowed.
    """
    t, y = np.broadcast_to(finished.t, finished.y.shape), finished.y
    wide = replace(population, cov=4 * population.cov, linear_cov=4 * population.linear_cov)
    far, weight = [], []
    for fold in range(min(FOLDS, finished.runs)):
        out = finished.which % FOLDS == fold
        prior = _widened(_population(wide, finished.part(~out), 2), len(np.unique(finished.which[~out])))
        young = np.where(t[out] <= seen, y[out], np.nan)
        if np.any(np.sum(np.isfinite(young), axis=1) < 2):
            return 1.0
        ahead = np.unique(t[out][t[out] > seen])
        end = finished.last_step if finished.last_step is not None else float(np.nanmax(t))
        bands = posterior(finished.part(out).t, young, prior.hypothesis, prior, end).forecast(ahead, LEVEL)
        for row, at, values, w in zip(range(len(young)), t[out], y[out], finished.weight[out], strict=True):
            later = (at > seen) & np.isfinite(values)
            place = np.searchsorted(ahead, at[later])
            middle, low, high = (bands[name].values[row, place] for name in ("median", "lower", "upper"))
            far.append(how_far(values[later], middle, low, high, prior.positive))
            weight.append(np.full(len(middle), w / max(len(middle), 1)))
    far, weight = np.concatenate(far), np.concatenate(weight)
    if not far.size:
        return 1.0
    order = np.argsort(far)
    reached = np.cumsum(weight[order]) / np.sum(weight)
    return float(max(1.0, far[order][np.argmax(reached >= LEVEL)]))


def levels(t: Array, y: Array, seen: float | None) -> Array:
    """(S,), the mean |y| of the last three points up to step `seen`; nan where there is none."""
    early = np.isfinite(y) & (t <= (np.inf if seen is None else seen))
    late = early & (np.cumsum(early[:, ::-1], axis=1)[:, ::-1] <= LAST_SEEN)
    total = np.sum(np.abs(y), axis=1, where=late, initial=0.0)
    with np.errstate(all="ignore"):
        return np.where(np.any(late, axis=1), total / np.sum(late, axis=1), np.nan)


def _support(prior: Prior, finished: _Finished) -> float:
    explained = posterior(finished.t, finished.y, prior.hypothesis, prior, finished.last_step)
    return float(np.nansum(finished.weight * explained.log_evidence))


def _next(prior: Prior, finished: _Finished) -> Prior:
    """One round of EM."""
    mix = posterior(finished.t, finished.y, prior.hypothesis, prior, finished.last_step).components()
    share = mix.weight * finished.weight[:, np.newaxis]
    q = mix.u.shape[-1]
    place = np.concatenate([mix.u, mix.mean], axis=-1)
    mean = np.einsum("sj,sjd->d", share, place)
    off = place - mean
    cov = np.einsum("sj,sja,sjb->ab", share, off, off)
    cov[q:, q:] += np.einsum("sj,sjab->ab", share, mix.cov)
    cov = (1 - _SEPARATE) * cov + _SEPARATE * np.diag(np.diag(cov)) + _LEAST**2 * np.eye(len(cov))
    slope = np.linalg.solve(cov[:q, :q], cov[:q, q:]).T
    log_sigma = np.log(mix.sigma)
    middle = float(np.sum(share * log_sigma))
    sd = float(np.sqrt(np.sum(share * (log_sigma - middle) ** 2) + _LEAST**2))
    counts = np.array([np.sum(share[mix.length == length]) for length in LENGTHS])
    chances = (finished.runs * counts + np.full(len(LENGTHS), 1 / len(LENGTHS))) / (finished.runs + 1)
    return replace(
        prior, mean=mean[:q], cov=cov[:q, :q], linear_mean=mean[q:], linear_slope=slope,
        linear_cov=cov[q:, q:] - slope @ cov[:q, q:], log_sigma=(middle, sd), lengths=tuple(chances / np.sum(chances)),
    )  # fmt: skip


def _widened(prior: Prior, runs: int) -> Prior:
    """As the variance of one more draw from a normal population of which only this many are known (Student's t)."""
    d = len(prior.mean) + len(prior.linear_mean)
    factor = (1 + 1 / runs) * (runs - 1) / max(runs - d - 2, 1)
    mean, sd = prior.log_sigma
    return replace(
        prior,
        cov=prior.cov * factor,
        linear_cov=prior.linear_cov * factor,
        log_sigma=(mean, sd * float(np.sqrt(factor))),
    )
