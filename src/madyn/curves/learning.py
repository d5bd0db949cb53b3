"""A prior from finished runs: what a young run may borrow from old ones.

The runs' own posteriors under a prior say where their parameters are; the prior is replaced by the normal distribution
that has the mean and covariance of them all together, and so on: the EM algorithm for a normal population seen through
noise. A value is expressed in units of what a young run has too, the level of its last points seen, so that a trajectory
of 200 and one of 10 are alike if both double. Layers of one model are far from independent, so that runs are counted and
not layers, and every covariance is widened as the prediction of one more run from so few has to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.curves.posterior import posterior
from madyn.curves.priors import LENGTHS, Prior, curve_of
from madyn.curves.separable import SeparableModel
from madyn.errors import SeriesError, UsageError

Array = NDArray[np.float64]

LAST_SEEN = 3  # points whose mean |y| is the unit
ROUNDS = 6
GROWTHS = (0.0, 0.5, 0.9)
FEWEST = 4  # runs
_SEPARATE = 0.1  # share by which covariances shrink towards none
_LEAST = 0.05  # standard deviation of a search coordinate or coefficient, for runs that are all alike
_WIDE = 4.0  # standard deviation of a coefficient at the start, in units of the largest |y|


def learn_prior(
    t: ArrayLike,
    y: ArrayLike,
    model: str | SeparableModel = "reparam",
    runs: Sequence[object] | None = None,
    seen: float | None = None,
    last_step: float | None = None,
) -> Prior:
    """A prior learned from finished runs, for a run of which the part up to the share `seen` is known.

    Args:
        t: steps, (n,), or one row for each series.
        y: trajectories of finished runs, (S, n); nan is a missing point.
        model: the curve.
        runs: which run each series is of, S labels; each series is a run of its own by default.
        seen: the step up to which the young run is seen, in the steps of `t`; it sets the units.
        last_step: of the finished runs; by default their last step measured.

    Raises:
        SeriesError: there are fewer than four runs.
        UsageError: shapes do not match.
    """
    t, y = np.asarray(t, float), np.asarray(y, float)
    if y.ndim != 2:
        raise UsageError(f"values have shape {y.shape}; expected (series, steps)")
    runs = list(range(len(y))) if runs is None else list(runs)
    if len(runs) != len(y):
        raise UsageError(f"{len(runs)} labels of runs for {len(y)} series")
    scale = levels(np.broadcast_to(t, y.shape), y, seen)
    good = np.isfinite(scale) & (scale > 0) & (np.sum(np.isfinite(y), axis=1) >= 3) & ~np.any(np.isinf(y), axis=1)
    names, which = np.unique(np.array([str(run) for run in runs])[good], return_inverse=True)
    if len(names) < FEWEST:
        raise SeriesError(f"a prior is learned from at least {FEWEST} finished runs, and there are {len(names)}")
    y = y[good] / scale[good, np.newaxis]
    t = t if t.ndim == 1 else t[good]
    weight = 1 / (len(names) * np.bincount(which)[which])
    chosen = curve_of(model)
    size = float(np.nanmax(np.abs(y)))
    k = len(chosen.linear)
    prior = replace(Prior.default(chosen), linear_cov=(_WIDE * size) ** 2 * np.eye(k), growth=GROWTHS[1]).given()
    for _ in range(ROUNDS):
        prior = _next(prior, t, y, weight, len(names), last_step)
    prior = max((replace(prior, growth=growth) for growth in GROWTHS), key=lambda p: _support(p, t, y, weight, last_step))
    prior = _next(prior, t, y, weight, len(names), last_step)
    return replace(_widened(prior, len(names)), units="level", source=f"learned from {len(names)} finished runs")


def levels(t: Array, y: Array, seen: float | None) -> Array:
    """(S,), the mean |y| of the last three points up to step `seen`; nan where there is none."""
    early = np.isfinite(y) & (t <= (np.inf if seen is None else seen))
    late = early & (np.cumsum(early[:, ::-1], axis=1)[:, ::-1] <= LAST_SEEN)
    total = np.sum(np.abs(y), axis=1, where=late, initial=0.0)
    with np.errstate(all="ignore"):
        return np.where(np.any(late, axis=1), total / np.sum(late, axis=1), np.nan)


def _support(prior: Prior, t: Array, y: Array, weight: Array, last_step: float | None) -> float:
    return float(np.nansum(weight * posterior(t, y, prior.model, prior, last_step).log_evidence))


def _next(prior: Prior, t: Array, y: Array, weight: Array, runs: int, last_step: float | None) -> Prior:
    """One round of EM."""
    found = posterior(t, y, prior.model, prior, last_step).components()
    share = found.weight * (weight / np.sum(weight))[:, np.newaxis]
    q = found.u.shape[-1]
    place = np.concatenate([found.u, found.mean], axis=-1)
    mean = np.einsum("sj,sjd->d", share, place)
    off = place - mean
    cov = np.einsum("sj,sja,sjb->ab", share, off, off)
    cov[q:, q:] += np.einsum("sj,sjab->ab", share, found.cov)
    cov = (1 - _SEPARATE) * cov + _SEPARATE * np.diag(np.diag(cov)) + _LEAST**2 * np.eye(len(cov))
    slope = np.linalg.solve(cov[:q, :q], cov[:q, q:]).T
    log_sigma = np.log(found.sigma)
    middle = float(np.sum(share * log_sigma))
    sd = float(np.sqrt(np.sum(share * (log_sigma - middle) ** 2) + _LEAST**2))
    counts = np.array([np.sum(share[found.length == length]) for length in LENGTHS])
    chances = (runs * counts + np.full(len(LENGTHS), 1 / len(LENGTHS))) / (runs + 1)
    return replace(
        prior, mean=mean[:q], cov=cov[:q, :q], linear_mean=mean[q:], linear_slope=slope,
        linear_cov=cov[q:, q:] - slope @ cov[:q, q:], log_sigma=(middle, sd), lengths=tuple(chances / np.sum(chances)),
    )  # fmt: skip


def _widened(prior: Prior, runs: int) -> Prior:
    """As the variance of one more draw from a normal population of which only this many are known (Student's t)."""
    factor = (1 + 1 / runs) * (runs - 1) / (runs - 3)
    mean, sd = prior.log_sigma
    return replace(
        prior, cov=prior.cov * factor, linear_cov=prior.linear_cov * factor, log_sigma=(mean, sd * float(np.sqrt(factor)))
    )
