"""The noise about a curve: how large it is at each step, and how it hangs together from step to step.

    e_i = sigma g_i z_i,    g_i^2 = (1 - growth) + growth (f(t_i)/F)^2,    corr(z_i, z_j) = exp(-|xi_i - xi_j| / length)

with F the largest |f| at the steps seen and xi = log(s + 1/1000), s the share of the run that is over. What is measured
again and again on the same sequences is a slowly wandering value and not a fresh draw; residuals of real trajectories
are correlated over a constant factor of the step rather than over a number of steps, hence the logarithm. The process
in xi is Ornstein and Uhlenbeck's, which is Markov: each point depends on the one before it alone, and whitening a series
takes one difference a point. A length of 0 is white noise.

The spread of the sequences at one step says nothing about it: they are the same sequences at every step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FIRST = 1e-3  # of the run: before it, xi is linear in the step
CLOSEST = 1e-2  # points that stand closer, repeated ones among them, count as this far apart in xi


def coordinate(share: Array) -> Array:
    """xi of points at these shares of the run."""
    return np.log(np.maximum(share, 0.0) + FIRST)


def carried(distance: Array, length: Array | float) -> Array:
    """Correlation of two points this far apart in xi; lengths broadcast."""
    distance = np.maximum(np.abs(distance), CLOSEST)
    with np.errstate(divide="ignore"):
        return np.exp(-distance / np.asarray(length, float))


def loudness(curve: Array, largest: Array, growth: float) -> Array:
    """g of points where the curve has these values; `largest` broadcasts."""
    return np.sqrt((1 - growth) + growth * np.square(curve / largest))


def links(xi: Array, seen: NDArray[np.bool_], length: float) -> tuple[Array, NDArray[np.intp]]:
    """What ties each point of series (S, n) in ascending order to the last one seen before it.

    Returns:
        (a, before): the correlation with that point, 0 for the first; and its index, the point's own for the first.
    """
    order = np.where(seen, np.arange(xi.shape[-1]), -1)
    latest = np.maximum.accumulate(order, axis=-1)
    before = np.concatenate([np.full((*latest.shape[:-1], 1), -1), latest[..., :-1]], axis=-1)
    first = before < 0
    before = np.where(first, np.arange(xi.shape[-1]), before)
    a = np.where(first, 0.0, carried(xi - np.take_along_axis(xi, before, axis=-1), length))
    return a, before


def whitening(xi: Array, seen: NDArray[np.bool_], g: Array, length: float) -> tuple[Array, Array]:
    """W (S, n, n) with W e white of variance sigma^2, its rows 0 at missing points; and log |det| of W, (S,).

    Args:
        xi: (S, n), ascending.
        seen: (S, n).
        g: (S, n).
    """
    a, before = links(xi, seen, length)
    S, n = xi.shape
    new = np.sqrt(1 - a * a)
    W = np.zeros((S, n, n))
    rows, points = np.arange(S)[:, np.newaxis], np.arange(n)[np.newaxis]
    W[rows, points, before] = -a / (new * np.take_along_axis(g, before, axis=-1))
    W[rows, points, points] = 1 / (new * g)
    W *= seen[:, :, np.newaxis]
    return W, -np.sum(np.log(new * g), axis=-1, where=seen)
