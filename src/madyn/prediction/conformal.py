"""Intervals that hold for architectures that were not learned from.

Residuals of left-out architectures, each divided by the uncertainty that its approach gave it, say how far off such
an uncertainty is; a new one is scaled by their quantiles. That is split conformal prediction with normalised scores
(Papadopoulos et al. 2002; Lei et al. 2018). Layers and steps of one architecture are not exchangeable with those of
another, architectures are: so each counts for one, whatever its number of layers and seeds, and the quantiles are
corrected for the number of architectures (Dunn, Wasserman & Ramdas 2023, arXiv 1809.07441, pooling distribution
functions). The residuals are those of single runs, so that an interval is one for a run and holds its seed's chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from madyn.typing import Array


@dataclass(frozen=True)
class Calibration:
    """Residuals over uncalibrated standard deviations of architectures that were left out.

    Attributes:
        scale: (P,) what a standard deviation is multiplied by at each position, for residuals of about unit size.
        scores: (n, P) residuals over scaled standard deviations.
        weights: (n,) of each row; the rows of an architecture weigh the same together, all of them 1.
        architectures: how many were left out in turn.
    """

    scale: Array
    scores: Array
    weights: Array
    architectures: int

    @classmethod
    def of(cls, residuals: Array, uncalibrated: Array, groups: NDArray[np.intp]) -> Calibration:
        """From residuals, observed less predicted, and standard deviations as the approach gave them, both (n, P), of n
        rows in groups (n,)."""
        distinct, number, counts = np.unique(groups, return_inverse=True, return_counts=True)
        weights = 1 / (len(distinct) * counts[number])
        raw = residuals / uncalibrated
        scale = np.maximum(np.sqrt(weights @ np.square(raw)), 1e-9)
        return cls(scale, raw / scale, weights, len(distinct))

    @property
    def is_proven(self) -> bool:
        """Whether there are architectures enough for the quantiles of a 90 % interval."""
        return self.shows(0.05)

    def shows(self, p: float) -> bool:
        """Whether there are architectures enough for a quantile so far out."""
        return 0 < self._corrected(p) < 1

    def quantile(self, p: float) -> float:
        """How many scaled standard deviations the p-quantile lies from the prediction, at any position.

        With too few architectures for a quantile so far out, it is the farthest residual, or if that is farther the
        quantile of Student's t with as many degrees of freedom as architectures but one.
        """
        corrected = self._corrected(p)
        scores, below = self._sorted
        if self.shows(p):
            return float(np.interp(corrected, below, scores))
        from scipy.stats import t as student  # slow to load, and seldom asked

        assumed = float(student.ppf(p, max(1, self.architectures - 1)))
        return min(assumed, scores[0]) if p < 0.5 else max(assumed, scores[-1])

    def possible(self, curve: Array, spread: Array) -> Array:
        """What a run may do whose predicted curve and scaled spread are these, (P,): n curves, (n, P), of `weights`.

        Each departs from the prediction as a left-out layer did, over the whole run at once, so that what depends on
        more than one position (a largest value, the step of a peak) can be read off.
        """
        return curve + spread * self.scores

    def quantile_of(self, values: Array, p: float) -> float:
        """The p-quantile of values (n,) that were read off the curves of `possible`, passing over those that are nan.

        Corrected as `quantile` is; where there are too few architectures, it is their least or largest.
        """
        known = np.isfinite(values)
        if not known.any():
            return np.nan
        order = np.argsort(values[known], kind="stable")
        weights = self.weights[known][order]
        below = (np.cumsum(weights) - weights / 2) / weights.sum()
        return float(np.interp(self._corrected(p), below, values[known][order]))

    @cached_property
    def _sorted(self) -> tuple[Array, Array]:
        """All scores, ascending, and what weighs less than each of them."""
        scores = self.scores.ravel()
        order = np.argsort(scores, kind="stable")
        weights = np.repeat(self.weights / self.scores.shape[1], self.scores.shape[1])[order]
        return scores[order], np.cumsum(weights) - weights / 2

    def _corrected(self, p: float) -> float:
        """A finite number of architectures moves both tails outward: ceil((G + 1) p) / G, without the rounding."""
        if p == 0.5:
            return p
        return p - (1 - p) / self.architectures if p < 0.5 else p + p / self.architectures


def one_spread(spread: Array) -> Array:
    """One uncertainty for a whole curve, or for all curves of a model: the root mean square over all but the first
    axis of (n, ..., P), shape (n,)."""
    return np.sqrt(np.square(spread).mean(axis=tuple(range(1, spread.ndim))))
