"""The linear parameters integrated out, in closed form.

With whitened data y and columns X, noise variance sigma^2 and a prior c ~ N(m, P^-1),

    p(y | theta, sigma) = (2 pi sigma^2)^(-n/2) |P|^(1/2) |A|^(-1/2) exp(-(y'y/sigma^2 + m'Pm - b'A^-1 b)/2),
    A = X'X/sigma^2 + P,    b = X'y/sigma^2 + P m,    c | y, theta, sigma ~ N(A^-1 b, A^-1).

There are millions of these of order three, so they are solved element by element, all of them together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from madyn.typing import Array


class Moments(NamedTuple):
    """What data and columns say to the linear parameters; the trailing shape `...` is that of the nodes.

    Attributes:
        gram: (k, k, ...), X'X.
        cross: (k, ...), X'y.
        power: y'y.
        points: how many.
        log_det: log |det| of the whitening.
    """

    gram: Array
    cross: Array
    power: Array
    points: int
    log_det: Array

    def at(self, which: NDArray[np.intp]) -> Moments:
        """Those of index which[s, j] along the first trailing axis, for every s and j."""
        power, log_det = (np.take_along_axis(part[..., 0], which.T, axis=0).T for part in (self.power, self.log_det))
        return Moments(_chosen(self.gram, which), _chosen(self.cross, which), power, self.points, log_det)


def _chosen(array: Array, which: NDArray[np.intp]) -> Array:
    """array[..., which[s, j], s, j]."""
    index = which.reshape(*(1,) * (array.ndim - 2), *which.shape)
    return np.take_along_axis(array, index, axis=-3)[..., 0, :, :]


class Conditional(NamedTuple):
    """The linear parameters given the others: log evidence (...), mean (k, ...), and L (k, k, ...) of A = L L'."""

    log_evidence: Array
    mean: Array
    factor: Array


def conditional(moments: Moments, precision: Array, prior_mean: Array, sigma: Array) -> Conditional:
    """Evidence, mean and Cholesky factor of the precision at noise levels sigma.

    Args:
        moments: of trailing shape `...`.
        precision: (k, k), P.
        prior_mean: (k, ...), m.
        sigma: broadcasts with `...`.
    """
    k = len(precision)
    factor, half, log_factor, prior_power = _half_solved(moments, precision, prior_mean, sigma)
    mean = list(half)
    for i in reversed(range(k)):
        for j in range(i + 1, k):
            mean[i] = mean[i] - factor[j][i] * mean[j]
        mean[i] = mean[i] / factor[i][i]
    evidence = _log_evidence(moments, precision, sigma, half, log_factor, prior_power)
    full = np.zeros((k, k, *np.shape(evidence)))
    for i in range(k):
        for j in range(i + 1):
            full[i, j] = factor[i][j]
    return Conditional(evidence, np.array(mean), full)


def log_evidence(moments: Moments, precision: Array, prior_mean: Array, sigma: Array) -> Array:
    """The evidence alone, as `conditional`."""
    _, half, log_factor, prior_power = _half_solved(moments, precision, prior_mean, sigma)
    return _log_evidence(moments, precision, sigma, half, log_factor, prior_power)


def misfit(moments: Moments, precision: Array, prior_mean: Array, sigma: Array) -> Array:
    """(...), y'y/sigma^2 + m'Pm - b'A^-1 b: the squared residuals and the distance from the prior, in units of both."""
    _, half, _, prior_power = _half_solved(moments, precision, prior_mean, sigma)
    explained = sum(np.square(value) for value in half)
    return np.maximum(moments.power / np.square(sigma) + prior_power - explained, 0.0)


def _half_solved(moments: Moments, precision: Array, prior_mean: Array, sigma: Array):
    """(L of A = L L', L^-1 b, log |L|, m'Pm), all as lists of arrays over the nodes."""
    k, inverse = len(precision), 1 / np.square(sigma)
    pull = np.einsum("ij,j...->i...", precision, prior_mean)
    factor: list[list[Array]] = []
    half: list[Array] = []
    log_factor = np.zeros(())
    for i in range(k):
        row: list[Array] = []
        for j in range(i + 1):
            entry = moments.gram[i, j] * inverse + precision[i, j]
            for m in range(j):
                entry = entry - row[m] * (row[m] if j == i else factor[j][m])
            row.append(np.sqrt(entry) if j == i else entry / factor[j][j])
        factor.append(row)
        value = moments.cross[i] * inverse + pull[i]
        for m in range(i):
            value = value - row[m] * half[m]
        half.append(value / row[i])
        log_factor = log_factor + np.log(row[i])
    return factor, half, log_factor, np.einsum("i...,i...->...", prior_mean, pull)


def _log_evidence(
    moments: Moments, precision: Array, sigma: Array, half, log_factor: Array, prior_power: Array
) -> Array:
    explained = sum(np.square(value) for value in half)
    left = moments.power / np.square(sigma) + prior_power - explained
    constant = 0.5 * np.linalg.slogdet(precision)[1]
    return (
        moments.log_det
        - moments.points * (np.log(sigma) + 0.5 * np.log(2 * np.pi))
        + constant
        - log_factor
        - 0.5 * np.maximum(left, 0.0)
    )
