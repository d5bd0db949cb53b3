"""From series to the components of their posteriors: the nonlinear parameters searched, the linear ones integrated out.

The search works with the evidence of the linear parameters (`evidence`), summed over the correlation lengths and at the
best noise level, which is enough to say where the mass is (`cells`). At the places picked from it all noise levels are
summed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, qmc

from madyn.curves.bayes import adaptive_grid, evidence, noise
from madyn.curves.bayes.evidence import Moments
from madyn.curves.bayes.priors import LENGTHS, Prior, RunTime, sizes
from madyn.typing import Array, Rows

COARSE = {1: 128, 2: 24, 3: 12}  # cells along each axis of the first grid, by the number of nonlinear parameters
COMPONENTS = 256
AT_ONCE = 4_000_000  # values of a column of the basis, of all nodes and series together
LEVELS = 9  # nodes of sigma, a standard deviation of its logarithm apart


class Mixture(NamedTuple):
    """Components of S posteriors, J each.

    Attributes:
        theta: (S, J, q).
        mean: (S, J, k), of the coefficients of the basis.
        factor: (S, J, k, k), B with B B' their covariance.
        sigma, length, weight: (S, J).
        log_evidence: (S,), of the series in their units.
    """

    theta: Array
    mean: Array
    factor: Array
    sigma: Array
    length: Array
    weight: Array
    log_evidence: Array


class Marginal:
    """From series in their units to the components of their posteriors."""

    def __init__(self, prior: Prior, time: RunTime, x: Array, xi: Array, v: Array, shift: Array) -> None:
        self.prior, self.time, self.x, self.xi, self.v = prior, time, x, xi, v
        self.precision: Array = np.asarray(np.linalg.inv(prior.linear_cov), float)
        self.lengths = [l for l, chance in zip(LENGTHS, prior.lengths, strict=True) if chance > 0]  # noqa: E741
        self.length_logs = np.log([chance for chance in prior.lengths if chance > 0])[:, np.newaxis, np.newaxis]
        self.everyone = np.arange(len(v))
        self.largest, g = self._noise_scale(shift)
        self.noise = _Precision.of(xi, g, self.lengths)

    def _noise_scale(self, shift: Array) -> tuple[Array, Array]:
        """The plug-in, (the largest |curve| (S,), g (S, n)): the curve is that of a first pass with equal variances."""
        self.noise = _Precision.of(self.xi, np.ones(self.v.shape), [0.0])
        curve = self._first_curve() + shift[:, np.newaxis]
        largest = np.max(np.abs(curve), axis=1)
        largest = np.where(largest > 0, largest, 1.0)
        return largest, noise.noise_scale(curve, largest[:, np.newaxis], self.prior.proportional_share)

    def _first_curve(self) -> Array:
        """(S, n), the posterior mean of the curve over the coarse grid, with white noise of equal variance."""
        grid = adaptive_grid.grid(self.prior.box, COARSE[len(self.prior.mean)])[np.newaxis]
        moments, _, bad = self._seen(grid, self.everyone)
        prior_mean = self._prior_mean(grid)
        fixed = np.where(bad, -np.inf, self._u_log(grid))
        given = [evidence.conditional(moments, self.precision, prior_mean, np.array(level)) for level in self._levels()]
        logs = np.array(
            [one.log_evidence[0] + self._sigma_log(s) + fixed for one, s in zip(given, self._levels(), strict=True)]
        )
        weight = np.exp(logs - _log_sum(logs, axis=(0, 2), keepdims=True))
        mean = np.sum([w * one.mean[:, 0] for w, one in zip(weight, given, strict=True)], axis=0)
        blocks = [np.einsum("ksN,Nnk->sn", mean[:, :, some], self._columns(grid[:, some])[0][0], optimize=True)
                  for some in self._blocks(grid)]  # fmt: skip
        return blocks[0] if len(blocks) == 1 else np.sum(blocks, axis=0)

    def _blocks(self, u: Array) -> list[slice]:
        """The nodes of u (S, N, q), as many at a time as memory is meant for."""
        size = max(1, AT_ONCE // (len(u) * len(self.x)))
        return [slice(i, i + size) for i in range(0, u.shape[1], size)]

    def _seen(self, u: Array, rows: Rows) -> tuple[Moments, Array, NDArray[np.bool_]]:
        """(the moments at nodes u, the sizes of the columns (S, N, k), where they are not finite (S, N))."""
        parts = []
        for some in self._blocks(u):
            columns, size, bad = self._columns(u[:, some])
            parts.append((self._moments(columns, rows), size, bad))
        if len(parts) == 1:
            return parts[0]
        moments, sizes, bad = zip(*parts, strict=True)
        gram, cross = (np.concatenate([getattr(one, name) for one in moments], axis=-1) for name in ("gram", "cross"))
        whole = moments[0]._replace(gram=gram, cross=cross)
        return whole, np.concatenate(sizes, axis=1), np.concatenate(bad, axis=1)

    def _columns(self, u: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """(columns (S, N, n, k) divided by their sizes, the sizes (S, N, k), where they are not finite (S, N))."""
        theta = self.prior.hypothesis.nonlinear_at(u)
        with np.errstate(all="ignore"):
            size = sizes(self.prior.hypothesis, theta, self.time)
            columns = self.prior.hypothesis.columns(self.x, theta) / size[..., np.newaxis, :]
        bad = ~np.isfinite(np.sum(columns, axis=(-2, -1)))
        if np.any(bad):
            columns[bad] = 0.0
        return columns, size, bad

    def _moments(self, columns: Array, rows: Rows) -> Moments:
        """Of columns (S, N, n, k), or (1, N, n, k) that all series share: trailing shape (lengths, S, N)."""
        bands, pull = self.noise.bands[:, rows], self.noise.times(self.v)[:, rows]
        S, N, n, k = columns.shape
        parts = [np.ascontiguousarray(columns[..., i]) for i in range(k)]
        gram = np.empty((k, k, len(bands), len(rows), N))
        cross = np.empty((k, len(bands), len(rows), N))
        pair = np.empty((S, N, 2 * n - 1))
        for i, a in enumerate(parts):
            cross[i] = _dot(a, pull)
            for j, b in enumerate(parts[: i + 1]):
                np.multiply(a, b, out=pair[..., :n])
                np.multiply(a[..., 1:], b[..., :-1], out=pair[..., n:])
                pair[..., n:] += a[..., :-1] * b[..., 1:]
                gram[i, j] = gram[j, i] = _dot(pair, bands)
        power = np.einsum("lsn,sn->ls", pull, self.v[rows])[..., np.newaxis]
        return Moments(gram, cross, power, n, self.noise.log_det[:, rows][..., np.newaxis])

    def _prior_mean(self, u: Array) -> Array:
        """(k, S, N) for u (S, N, q)."""
        mean = self.prior.linear_mean + (u - self.prior.mean) @ self.prior.linear_slope.T
        return np.moveaxis(mean, -1, 0)

    def _u_log(self, u: Array) -> Array:
        """Log prior of the search coordinates, up to its normalisation over the box."""
        off = u - self.prior.mean
        inverse = np.linalg.inv(self.prior.cov)
        return -0.5 * np.einsum("...i,ij,...j->...", off, inverse, off)

    def _sigma_log(self, sigma: Array | float) -> Array:
        mean, sd = self.prior.log_sigma
        return -0.5 * np.square((np.log(sigma) - mean) / sd) - np.log(sd * np.sqrt(2 * np.pi))

    def _levels(self) -> Array:
        """Noise levels from end to end of the prior, about 0.7 apart in the logarithm."""
        mean, sd = self.prior.log_sigma
        return np.exp(mean + sd * np.linspace(-3.2, 3.2, max(5, int(np.ceil(6.4 * sd / 0.7)))))

    def _log_density(self, u: Array, rows: Rows) -> Array:
        """(S, N), with the lengths summed over and the noise level at its best: it only says where to look."""
        moments, _, bad = self._seen(u, rows)
        prior_mean = self._prior_mean(u)
        sigma = self._best_level(moments, prior_mean)
        logs = evidence.log_evidence(moments, self.precision, prior_mean, sigma) + self._sigma_log(sigma)
        return np.where(bad, -np.inf, np.logaddexp.reduce(logs + self.length_logs, axis=0) + self._u_log(u))

    def _best_level(self, moments: Moments, prior_mean: Array) -> Array:
        """About the most likely noise level at each node, (S, N).

        With the prior of log sigma taken as one of the inverse gamma kind with as many degrees of freedom f as have its
        width, sigma^2 = (RSS + f s^2)/(n + f).
        """
        mean, sd = self.prior.log_sigma
        freedom, level = 0.5 / sd**2, np.exp(mean)
        misfit = evidence.misfit(moments, self.precision, prior_mean, np.array(level)) * level**2
        return np.sqrt((misfit + freedom * level**2) / (moments.points + freedom))

    def components(self) -> Mixture:
        """The mixture that each posterior is.

        Cells are picked by the mass that the search gives them, a place is taken in each, and how much denser the
        posterior is there than the search said is the component's weight. That makes up for cells that are wide still.
        """
        box, q = self.prior.box, len(self.prior.mean)
        u, half, log_f = adaptive_grid.refined(self._log_density, box, COARSE[q], len(self.v))
        log_mass = log_f + np.sum(np.log(2 * half), axis=2)
        cell = _systematic(log_mass, COMPONENTS)
        place = qmc.Sobol(q + 1, rng=5).random(COMPONENTS)
        pick = self.everyone[:, np.newaxis]
        u = u[pick, cell] + half[pick, cell] * (2 * place[:, :q] - 1)
        components, log_marginal = self._at(u, place[:, q])
        log_w = log_marginal - log_f[pick, cell]
        weight = np.exp(log_w - _log_sum(log_w, axis=1, keepdims=True))
        log_evidence = _log_sum(log_mass, axis=1) + _log_sum(log_w, axis=1) - np.log(COMPONENTS) + self._constant()
        return Mixture(*components, weight, log_evidence)

    def _constant(self) -> float:
        """Normalisation of the prior of u in the box."""
        prior, (low, high) = self.prior, self.prior.box.T
        inside = multivariate_normal.cdf(high, prior.mean, prior.cov, lower_limit=low)  # pyright: ignore
        return -0.5 * np.linalg.slogdet(2 * np.pi * prior.cov)[1] - float(np.log(inside))

    def _at(self, u: Array, chance: Array) -> tuple[tuple[Array, Array, Array, Array, Array], Array]:
        """((theta, mean, factor, sigma, length) at places u (S, J, q), the log density there with all else summed out).

        Noise level and length are those at which their distribution function, given u, reaches `chance` (J,).
        """
        moments, size, bad = self._seen(u, self.everyone)
        prior_mean, fixed = self._prior_mean(u), np.where(bad, -np.inf, self._u_log(u))
        sigma, spacing = self._nodes(moments, prior_mean, fixed)
        logs = [
            evidence.log_evidence(moments, self.precision, prior_mean, level) + self._sigma_log(level)
            for level in sigma
        ]
        table = (np.array(logs) + self.length_logs).reshape(-1, *u.shape[:2])
        total = _log_sum(table, axis=0)
        climb = np.cumsum(np.exp(table - total), axis=0)
        level, length = np.divmod(np.sum(climb < chance * climb[-1], axis=0), len(self.lengths))
        sigma = np.take_along_axis(sigma[:, :, 0].T, level, axis=1)
        one = evidence.conditional(moments.at(length), self.precision, prior_mean, sigma)
        factor = np.linalg.inv(np.moveaxis(one.factor, (0, 1), (-2, -1)))
        spread = np.swapaxes(factor, -2, -1) / size[..., :, np.newaxis]
        theta, mean = self.prior.hypothesis.nonlinear_at(u), np.moveaxis(one.mean, 0, -1) / size
        return (theta, mean, spread, sigma, np.array(self.lengths)[length]), total + np.log(spacing) + fixed

    def _nodes(self, moments: Moments, prior_mean: Array, fixed: Array) -> tuple[Array, float]:
        """(noise levels (levels, S, 1) about the most likely ones, their spacing in the logarithm)."""
        sigma = self._best_level(moments, prior_mean)
        logs = evidence.log_evidence(moments, self.precision, prior_mean, sigma) + self._sigma_log(sigma)
        logs += self.length_logs + fixed
        weight = np.exp(logs - _log_sum(logs, axis=(0, 2), keepdims=True))
        middle = np.sum(weight * np.log(sigma), axis=(0, 2))[:, np.newaxis]
        spacing = float(1 / np.sqrt(2 * len(self.x) + self.prior.log_sigma[1] ** -2))
        return np.exp(middle + spacing * (np.arange(LEVELS) - LEVELS // 2)[:, np.newaxis, np.newaxis]), spacing


class _Precision(NamedTuple):
    """Inverse covariances of the noise at sigma = 1, three diagonals each, for every length and series.

    Attributes:
        bands: (lengths, S, 2 n - 1), the diagonal and the one beside it.
        log_det: (lengths, S), log of the square root of the determinant.
    """

    bands: Array
    log_det: Array

    @classmethod
    def of(cls, xi: Array, g: Array, lengths: Sequence[float]) -> _Precision:
        beside = g[:, 1:] * g[:, :-1]
        each = [noise.precision(xi, length) for length in lengths]
        bands = [np.concatenate([diagonal / g**2, off / beside], axis=1) for diagonal, off, _ in each]
        return cls(np.array(bands), np.array([log - np.sum(np.log(g), axis=1) for _, _, log in each]))

    def times(self, v: Array) -> Array:
        """The matrices times series v (S, n): (lengths, S, n)."""
        n = v.shape[1]
        product = self.bands[..., :n] * v
        product[..., 1:] += self.bands[..., n:] * v[:, :-1]
        product[..., :-1] += self.bands[..., n:] * v[:, 1:]
        return product


def _dot(features: Array, weights: Array) -> Array:
    """Features (S, N, m), or (1, N, m) for all, with weights (lengths, S, m): (lengths, S, N)."""
    if len(features) == 1:
        return weights @ features[0].T
    return np.moveaxis(features @ np.moveaxis(weights, 0, -1), -1, 0)


def _systematic(log_mass: Array, count: int) -> Rows:
    """Evenly spaced picks from each row of log masses (S, N): (S, count)."""
    climb = np.cumsum(np.exp(log_mass - np.max(log_mass, axis=1, keepdims=True)), axis=1)
    places = (np.arange(count) + 0.5) / count
    return np.stack([np.searchsorted(row, places * row[-1]) for row in climb]).clip(0, log_mass.shape[1] - 1)


def _log_sum(logs: Array, axis: int | tuple[int, ...], keepdims: bool = False) -> Array:
    """log sum exp along axes."""
    return np.asarray(logsumexp(logs, axis=axis, keepdims=keepdims), float)
