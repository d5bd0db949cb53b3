"""The noise about a curve: how large it is at each step, and how it hangs together from step to step.

    e_i = sigma g_i z_i,    g_i^2 = (1 - p) + p (f(t_i)/F)^2,    corr(z_i, z_j) = exp(-|xi_i - xi_j| / length)

with p the share of the variance that goes with the squared curve, F the largest |f| at the steps seen and
xi = log(s + 1/1000), s the share of the run that is over. What is measured again and again on the same sequences is a
slowly wandering value and not a fresh draw; residuals of real trajectories are correlated over a constant factor of the
step rather than over a number of steps, hence the logarithm. The process in xi is Ornstein and Uhlenbeck's, which is
Markov: each point depends on the one before it alone, and the inverse of the correlation matrix has three diagonals. A
length of 0 is white noise.

The spread of the sequences at one step says nothing about it: they are the same sequences at every step.
"""

from __future__ import annotations

import numpy as np

from madyn.typing import Array

FIRST = 1e-3  # of the run: before it, xi is linear in the step
CLOSEST = 1e-2  # points that stand closer, repeated ones among them, count as this far apart in xi


def coordinate(share: Array) -> Array:
    """xi of points at these shares of the run."""
    return np.log(np.maximum(share, 0.0) + FIRST)


def autocorrelation(distance: Array, length: Array | float) -> Array:
    """Correlation of two points this far apart in xi; lengths broadcast."""
    distance = np.maximum(np.abs(distance), CLOSEST)
    with np.errstate(divide="ignore"):
        return np.exp(-distance / np.asarray(length, float))


def noise_scale(curve: Array, largest: Array, proportional_share: float) -> Array:
    """g of points where the curve has these values, of p `proportional_share`; `largest` broadcasts."""
    share = curve / np.where(largest == 0, 1.0, largest)  # a curve may be 0 all along
    return np.sqrt((1 - proportional_share) + proportional_share * np.square(share))


def precision(xi: Array, length: float) -> tuple[Array, Array, float]:
    """Inverse of the correlation matrix of points at xi (n,), ascending: it has three diagonals.

    Returns:
        (its diagonal (n,), the one beside it (n - 1,), log of the square root of its determinant).
    """
    a = autocorrelation(np.diff(xi), length)
    new = 1 - a * a
    diagonal = np.concatenate([[1.0], 1 / new]) + np.concatenate([a * a / new, [0.0]])
    return diagonal, -a / new, -0.5 * float(np.sum(np.log(new)))
