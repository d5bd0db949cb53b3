"""Where a fitted curve has its maximum, in closed form.

The derivative of exp(-beta t) (A1 log s + A2) + K with s = t + tau0 vanishes where

    beta s (log s + A2/A1) = 1.

Put w = 1/(beta s): then w + log w = A2/A1 - log beta, so w = omega(A2/A1 - log beta) with omega the Wright omega
function (Corless and Jeffrey 2002), and log s + A2/A1 = w gives the height without cancellation. For A1 > 0 the
derivative changes sign once, from + to -: the stationary point is the only maximum. In original's terms the same w is
the Lambert W of 1/lam. Omega takes the logarithm of W's argument, which is why nothing overflows when A2/A1 is large.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import wrightomega

from madyn.typing import Array


def peak(beta: ArrayLike, tau0: ArrayLike, A1: ArrayLike, A2: ArrayLike, K: ArrayLike) -> tuple[Array, Array]:
    """Step and height of the maximum of reparam's curve; the parameters broadcast.

    The step is that of the formula's stationary point in t > -tau0. It may be negative, and then the observed curve
    only falls from step 0: ask `observable`. It is infinite where it exceeds the largest float (the height is then K).

    Returns:
        (t_peak, height), in steps and in the data's unit; nan in both where there is no maximum: A1 <= 0 (the
        stationary point is a minimum, or there is none), beta <= 0 (the curve grows for ever), or a parameter that is
        not finite.

    >>> t_peak, height = peak(beta=0.5, tau0=1.0, A1=2.0, A2=0.0, K=3.0)
    >>> round(float(t_peak), 4), round(float(height), 4)
    (1.3458, 3.8701)
    """
    arrays = np.broadcast_arrays(*(np.asarray(p, float) for p in (beta, tau0, A1, A2, K)))
    b, s0, a1, a2, k = arrays
    with np.errstate(all="ignore"):
        w = wrightomega(a2 / a1 - np.log(b))
        t_peak = 1 / (b * w) - s0
        height = a1 * w * np.exp(b * s0 - 1 / w) + k
        exists = (a1 > 0) & (b > 0) & np.isfinite(a2 / a1) & np.all([np.isfinite(p) for p in arrays], axis=0)
    return np.where(exists, t_peak, np.nan), np.where(exists, height, np.nan)


def peak_original(A: ArrayLike, lam: ArrayLike, gamma: ArrayLike, t0: ArrayLike, K: ArrayLike) -> tuple[Array, Array]:
    """Step and height of the maximum of original's curve: x* = exp(W(1/lam)), t_peak = (x* - t0)/gamma.

    The same conventions as `peak`: nan in both where A, lam or gamma is not positive or a parameter is not finite.
    """
    arrays = np.broadcast_arrays(*(np.asarray(p, float) for p in (A, lam, gamma, t0, K)))
    a, l, g, x0, k = arrays  # noqa: E741
    with np.errstate(all="ignore"):
        w = wrightomega(-np.log(l))
        t_peak = (1 / (l * w) - x0) / g
        height = a * w * np.exp(-1 / w) + k
        exists = (a > 0) & (l > 0) & (g > 0) & np.all([np.isfinite(p) for p in arrays], axis=0)
    return np.where(exists, t_peak, np.nan), np.where(exists, height, np.nan)


def observable(t_peak: ArrayLike, T: ArrayLike) -> NDArray[np.bool_]:
    """Whether a peak falls inside the training run: 0 < t_peak <= T. False for nan."""
    t_peak = np.asarray(t_peak, float)
    return (t_peak > 0) & (t_peak <= np.asarray(T, float))
