"""A population given what was seen of a young run: the mean and covariance of what comes, in the logarithm."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from madyn.curves.population.populations import LEVEL_VARIANCE, Population
from madyn.typing import Array

_LEAST = 1e-6  # of a share and of a variance
_LAST_SEEN = 3  # points whose mean is where a series stands
_OLDEST = 1e-5  # of the share seen: step 0 counts as this old


class Seen(NamedTuple):
    """What S series, seen at the same steps, say of the shares ahead (m,).

    Attributes:
        median: (S, m), of log y.
        cov: (m, m), of log y under the population alone, the same for all.
        stretch: (S,), the factor f of the variance, 1 for a series that is like the population.
        horizon: (m,), the logarithm of a share over the last one seen.
        distance: (S,), d^2 of what was seen, and `points`, what it is in the mean for runs that are as the population.
    """

    median: Array
    cov: Array
    stretch: Array
    horizon: Array
    distance: Array
    points: int

    def total(self, population: Population, series: int) -> Array:
        """(m, m), the scale matrix of one series' t distribution."""
        own = population.widening**2 * self.stretch[series] * self.cov
        return own + population.growth**2 * np.outer(self.horizon, self.horizon)

    def scale(self, population: Population) -> Array:
        """(S, m), the scale of each value's t distribution."""
        own = population.widening**2 * self.stretch[:, np.newaxis] * np.diag(self.cov)
        return np.sqrt(own + population.growth**2 * np.square(self.horizon))


def condition(population: Population, shares: Array, logs: Array, ahead: Array) -> Seen:
    """What follows from log values (S, n) at shares (n,), ascending, for the shares ahead (m,)."""
    seen, later = population.weights(shares), population.weights(ahead)
    # Relative to where the series stands, so that its unit does not matter at all.
    level = np.mean(logs[:, -_LAST_SEEN:], axis=1, keepdims=True) - np.mean(seen[-_LAST_SEEN:] @ population.mean)
    off = logs - level - seen @ population.mean
    noise = population.noise**2
    age = np.log(np.maximum(shares[-1], _LEAST) / np.maximum(shares, _OLDEST * max(shares[-1], _LEAST)))
    known = seen @ population.cov @ seen.T + LEVEL_VARIANCE
    known += np.diag(noise + _LEAST + np.square(population.forgetting * age))
    across = later @ population.cov @ seen.T + LEVEL_VARIANCE
    solved = np.linalg.solve(known, np.concatenate([off.T, across.T], axis=1))
    explained, gain = solved[:, : len(off)], solved[:, len(off) :]
    median = level + later @ population.mean + (across @ explained).T
    cov = later @ population.cov @ later.T + LEVEL_VARIANCE + noise * np.eye(len(ahead)) - across @ gain
    distance = np.einsum("sn,ns->s", off, explained)
    points = len(shares) - 1
    stretch = (population.firmness + distance) / (population.firmness + points)
    horizon = np.log(np.maximum(ahead, _LEAST) / np.maximum(shares[-1], _LEAST))
    return Seen(median, (cov + cov.T) / 2, stretch, np.maximum(horizon, 0.0), distance, points)
