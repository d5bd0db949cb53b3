"""A population from finished runs, and its widths from runs of kinds that were held out.

Mean and covariance are those of the runs' logarithms on the grid of shares; layers share the weight of their run. How
far such a population is to be trusted, its own runs cannot say: `dof`, `firmness`, `widening` and `growth` are those
under which runs were likeliest whose kind (their widths, their depths, their recipe) had been left out, widened until
bands of 90 % hold 90 % of what came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln, stdtrit

from madyn.curves.population.conditioning import condition
from madyn.curves.population.populations import Population
from madyn.errors import SeriesError, UsageError
from madyn.typing import Array

NOISE = 0.03
"""Of a single measurement's logarithm: what a mean over ten sequences differs by from one step to the next."""

FORGETTING = 0.1
"""Chosen among 0, 0.1, 0.2 and 0.3 by forecasts of recipes that were left out."""

SHARES_SEEN = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
_FEWEST = 4  # runs
_LEAST_DOF, _MOST_DOF = 2.1, 20.0  # runs of other kinds are not normal, even if those that are known are
_FIRMNESS = (-2.0, 5.0)  # bounds of its logarithm
_STARTS = ((-1.5, 0.0, 0.2, -3.0), (0.0, 2.5, 0.0, -2.0))
_ROUNDS = 400
_LEVEL = 0.9


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """One run: steps (n,) from its first to its last, and values (L, n) of its layers, all above 0.

    Attributes:
        kinds: what it has in common with others, each of which is left out in turn: a width, a recipe.
    """

    steps: Array
    values: Array
    kinds: tuple[str, ...] = ()


def learn_population(
    shares: Array, groups: Sequence[Sequence[FinishedRun]], source: str = "a population"
) -> Population:
    """The mean and covariance of runs, and the widths that held-out runs call for.

    Args:
        shares: (G,), the grid, from 0 to 1.
        groups: runs; each group has the same weight in the mean and covariance and in the widths, as each run has in
            its group and each layer in its run. Each kind of a group is left out in turn, and its runs are forecast
            from what the others give.

    Raises:
        SeriesError: there are fewer than four runs, or a group is empty.
        UsageError: a value is not above 0, or the grid is none.
    """
    whole = _population(shares, groups, source)
    held_out = []
    for i, group in enumerate(groups):
        judged = []
        for kind in dict.fromkeys(kind for run in group for kind in run.kinds):
            rest = [run for run in group if kind not in run.kinds]
            without = _population(shares, [*groups[:i], *([rest] if rest else []), *groups[i + 1 :]], source)
            judged += judge(without, [run for run in group if kind in run.kinds])
        held_out.append(judged)
    if any(held_out):
        whole = _with_widths(whole, [judged for judged in held_out if judged])
        whole = replace(whole, together=_together(whole, [one for judged in held_out for one in judged]))
    return whole


def _population(shares: Array, groups: Sequence[Sequence[FinishedRun]], source: str) -> Population:
    count = sum(len(group) for group in groups)
    if count < _FEWEST or not all(groups):
        raise SeriesError(f"a population is learned from at least {_FEWEST} finished runs, and there are {count}")
    size = len(shares)
    blank = Population(shares, np.zeros(size), np.eye(size), NOISE, FORGETTING, 5.0, 5.0, 1.0, 0.0, 0.0, source)
    grid = np.log(blank.shares + blank.shares[1])
    rows, weights = [], []
    for group in groups:
        for run in group:
            if not np.all(run.values > 0):
                raise UsageError(f"a run ({', '.join(run.kinds)}) has a value that is not above 0")
            x = np.log(run.steps / run.steps[-1] + blank.shares[1])
            rows += [np.interp(grid, x, row) for row in np.log(run.values)]
            weights += [1 / (len(groups) * len(group) * len(run.values))] * len(run.values)
    logs, weight = np.array(rows), np.array(weights)
    # The level is free, so that it is taken out: what varies is how a run differs from itself.
    logs = logs - np.mean(logs, axis=1, keepdims=True)
    mean = weight @ logs
    off = logs - mean
    return replace(blank, mean=mean, cov=(off * weight[:, np.newaxis]).T @ off)


class Judged(NamedTuple):
    """One run forecast from one of its beginnings.

    Attributes:
        off: (L, m), how far log y lay from the median.
        variance: (m,), under the population alone.
        distance: (L,), of the seen part, and `points`, what it would be in the mean; see `conditioning`.
        horizon: (m,), log share ahead over share seen.
    """

    off: Array
    variance: Array
    distance: Array
    points: int
    horizon: Array

    def rows(self) -> tuple[Array, ...]:
        """off, variance, distance, points, horizon and the weight of a value, (L m,) each."""
        size = self.off.shape
        spread = (self.off, self.variance, self.distance[:, np.newaxis], self.points, self.horizon, 1 / self.off.size)
        return tuple(np.ravel(np.broadcast_to(part, size)) for part in spread)


def judge(
    population: Population, runs: Sequence[FinishedRun], shares_seen: Sequence[float] = SHARES_SEEN
) -> list[Judged]:
    """Forecast each run from each of its beginnings."""
    found = []
    for run in runs:
        own, logs = run.steps / run.steps[-1], np.log(run.values)
        for share in shares_seen:
            seen = own <= share
            if np.sum(seen) < 2:
                continue
            told = condition(population, own[seen], logs[:, seen], own[~seen])
            off = logs[:, ~seen] - told.median
            found.append(Judged(off, np.diag(told.cov), told.distance, told.points, told.horizon))
    return found


class _Widths(NamedTuple):
    """What a population is judged by, see `Population`."""

    dof: float
    firmness: float
    widening: float
    growth: float

    @classmethod
    def of(cls, u: Array) -> _Widths:
        """From numbers without bounds."""
        dof = _LEAST_DOF + (_MOST_DOF - _LEAST_DOF) / (1 + np.exp(-np.clip(u[0], -50, 50)))
        firmness = np.exp(np.clip(u[1], *_FIRMNESS))
        return cls(float(dof), float(firmness), *(float(value) for value in np.exp(u[2:])))

    def scale(self, rows: Sequence[Array]) -> Array:
        _, variance, distance, points, horizon, _ = rows
        stretch = (self.firmness + distance) / (self.firmness + points)
        return np.sqrt(self.widening**2 * stretch * variance + self.growth**2 * np.square(horizon))


def _with_widths(population: Population, held_out: Sequence[Sequence[Judged]]) -> Population:
    """The population with the widths under which what came was likeliest; each set counts as much as another.

    Then they are widened until bands of 90 % hold 90 % of what came in the set that lies farthest off.
    """
    sets = [[np.concatenate(part) for part in zip(*(one.rows() for one in judged), strict=True)] for judged in held_out]

    def unlikely(u: Array) -> float:
        own, total = _Widths.of(u), 0.0
        for rows in sets:
            scale = own.scale(rows)
            tail = (own.dof + 1) / 2 * np.log1p(np.square(rows[0] / scale) / own.dof)
            total += float(np.average(np.log(scale) + tail, weights=rows[-1]))
        constant = gammaln((own.dof + 1) / 2) - gammaln(own.dof / 2) - 0.5 * np.log(own.dof)
        return total - len(sets) * float(constant)

    tried = [minimize(unlikely, np.array(start), method="Nelder-Mead",
                      options={"maxiter": _ROUNDS, "xatol": 1e-3, "fatol": 1e-5}) for start in _STARTS]  # fmt: skip
    best = _Widths.of(min(tried, key=lambda one: one.fun).x)
    called_for = 1.0
    for rows in sets:
        off = np.abs(rows[0]) / (best.scale(rows) * stdtrit(best.dof, (1 + _LEVEL) / 2))
        order = np.argsort(off)
        reached = np.cumsum(rows[-1][order]) / np.sum(rows[-1])
        called_for = max(called_for, float(off[order][np.argmax(reached >= _LEVEL)]))
    return replace(
        population, dof=best.dof, firmness=best.firmness, widening=best.widening * called_for,
        growth=best.growth * called_for,
    )  # fmt: skip


def _together(population: Population, judged: Sequence[Judged]) -> float:
    """The correlation of the layers of a run: of how far each lies off at the run's end, in its scale."""
    widths = _Widths(population.dof, population.firmness, population.widening, population.growth)
    across, own = [], []
    for one in judged:
        if len(one.off) < 2:
            continue
        rows = one.rows()
        z = (rows[0] / widths.scale(rows)).reshape(one.off.shape)[:, -1]
        across.append((np.sum(z) ** 2 - np.sum(z * z)) / (len(z) * (len(z) - 1)))
        own.append(np.mean(z * z))
    if not own:
        return 0.0
    return float(np.clip(np.mean(across) / np.mean(own), 0.0, 0.95))
