"""Curves as a few well determined numbers: principal components of their logarithm.

The five parameters of a fitted curve trade off against one another, so that neighbours in shape may have parameters
far apart. The principal components of the log curves do not: each is a weighted sum of measured values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from madyn.typing import Array

_KEPT = 0.99  # of the variance
_LEAST, _MOST = 2, 8

LEAST_SPREAD = 0.01
"""No curve's logarithm counts as known better than this: 1 %."""


@dataclass(frozen=True)
class Coordinates:
    """K principal components of curves at P positions.

    Attributes:
        centre: (P,) the mean curve.
        components: (K, P) orthonormal.
        scale: (K,) standard deviation of each coordinate over the curves.
        rest: (P,) variance of what the components leave out.
    """

    centre: Array
    components: Array
    scale: Array
    rest: Array

    @classmethod
    def of(cls, curves: Array) -> Coordinates:
        """The components that hold 99 % of the variance of these curves, (n, P), two to eight of them."""
        centre = curves.mean(axis=0)
        _, singular, components = np.linalg.svd(curves - centre, full_matrices=False)
        variance = np.square(singular)
        total = variance.sum()
        kept = 1 + int(np.searchsorted(np.cumsum(variance) / total, _KEPT)) if total > 0 else 1
        components = components[: min(max(kept, _LEAST), _MOST)]
        z = (curves - centre) @ components.T
        rest = np.square(curves - centre - z @ components).mean(axis=0)
        scale = z.std(axis=0)
        return cls(centre, components, np.where(scale > 0, scale, 1.0), rest)

    def forward(self, curves: Array) -> Array:
        """(n, P) curves to (n, K) coordinates of unit variance."""
        return (curves - self.centre) @ self.components.T / self.scale

    def back(self, z: Array) -> Array:
        """(n, K) coordinates to (n, P) curves."""
        return self.centre + (z * self.scale) @ self.components

    def spread(self, sd: Array) -> Array:
        """(n, P) standard deviation of curves whose coordinates have independent standard deviations `sd`, (n, K); at
        least `LEAST_SPREAD`."""
        variance = np.square(sd * self.scale) @ np.square(self.components) + self.rest
        return np.sqrt(np.maximum(variance, LEAST_SPREAD**2))
