"""Quantiles of mixtures of normal distributions, from their distribution function and not from draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, ndtri

from madyn.typing import Array

CLOSE = 1e-4  # of a probability
STEPS = 60


def quantiles(
    weights: Array, mean: Array, sd: Array, probabilities: Sequence[float], floor: Array | None = None
) -> Array:
    """Where the distribution function of each mixture reaches these probabilities.

    Newton's steps inside a bracket that shrinks, so that a gap between two modes does no harm.

    Args:
        weights: (..., J), which sum to 1.
        mean: (..., J).
        sd: (..., J), not negative.
        probabilities: between 0 and 1.
        floor: (...), below which there is nothing: quantiles of what of the mixture lies above. Where nothing does, the
            floor.

    Returns:
        (len(probabilities), ...).
    """
    lead = mean.shape[:-1]
    below = np.full(lead, -np.inf) if floor is None else np.broadcast_to(floor, lead)
    weights, mean, sd = (np.broadcast_to(part, mean.shape).reshape(-1, mean.shape[-1]) for part in (weights, mean, sd))
    by_probability = [_one(weights, mean, sd, p, below.ravel()) for p in probabilities]
    return np.array(by_probability).reshape(len(probabilities), *lead)


def _one(weights: Array, mean: Array, sd: Array, p: float, floor: Array) -> Array:
    size = np.max(np.abs(mean), axis=1, keepdims=True) + np.max(sd, axis=1, keepdims=True)
    sd = np.maximum(sd, 1e-12 * size + 1e-300)
    low, high = np.min(mean - 9 * sd, axis=1), np.max(mean + 9 * sd, axis=1)
    middle = np.einsum("rj,rj->r", weights, mean)
    spread = np.sqrt(np.einsum("rj,rj->r", weights, sd * sd + np.square(mean - middle[:, np.newaxis])))
    cut = floor > low
    low = np.maximum(low, floor)
    high = np.where(cut, np.maximum(high, floor + 3 * np.max(sd, axis=1)), high)
    left = np.ones(len(mean))
    left[cut] = np.einsum("rj,rj->r", weights[cut], ndtr((mean[cut] - floor[cut, np.newaxis]) / sd[cut]))
    at = np.clip(middle - ndtri((1 - p) * left) * spread, low, high)
    at[left == 0] = floor[left == 0]
    going = np.flatnonzero(np.isfinite(at) & (left > 0))
    for _ in range(STEPS):
        z = (at[going, np.newaxis] - mean[going]) / sd[going]
        # By way of what lies above: far in the tail what lies below differs from 1 by rounding.
        off = 1 - np.einsum("rj,rj->r", weights[going], ndtr(-z)) / left[going] - p
        far = np.abs(off) > CLOSE
        going, off, z = going[far], off[far], z[far]
        if not going.size:
            break
        slope = np.einsum("rj,rj->r", weights[going] / sd[going], np.exp(-0.5 * z * z)) / np.sqrt(2 * np.pi)
        slope /= left[going]
        low[going] = np.where(off < 0, at[going], low[going])
        high[going] = np.where(off < 0, high[going], at[going])
        with np.errstate(all="ignore"):
            step = at[going] - off / slope
        inside = (step > low[going]) & (step < high[going])
        at[going] = np.where(inside, step, (low[going] + high[going]) / 2)
    return at
