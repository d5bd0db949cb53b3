"""Parts of a curve's entry: the penalty of a regularised fit, and what the published search needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from madyn.typing import Array

SMALLEST = 1e-10
"""Bounds positive parameters of the published search from below, in normalised units, so that logarithms stay defined
at step 0."""


@dataclass(frozen=True)
class Penalty:
    r"""Keeps a fit off its degenerate directions, as extra residual rows in normalised units.

    The sum of squares that is minimised becomes

        RSS + noise^2 [ sum_j ((log theta_j - log theta_j0) / log_width)^2 + sum_k (a_k / amplitude_width)^2 ]

    over the positive parameters theta_j, theta_0 the start of the published search, and the amplitudes a_k. This is
    the maximum a posteriori fit for noise of standard deviation `noise` (a share of the series' range), a prior that
    each theta_j lies within a factor exp(log_width) of its start, and amplitudes within `amplitude_width` ranges of
    zero. The baseline K is left free: data determine it once the amplitudes are bounded.

    With the defaults, a parameter 100 times its start costs what a rise of the RSS by 0.002 squared ranges would (about
    0.0007 of R2 for a series of 37 points); and the directions lam -> 0 with A -> inf, tau0 -> inf, and A against gamma
    and t0, are no longer flat.

    Attributes:
        positive: indices of the theta_j, the nonlinear parameters.
        amplitudes: indices of the a_k, linear parameters.
    """

    positive: tuple[int, ...]
    amplitudes: tuple[int, ...]
    noise: float = 0.03
    log_width: float = 3.0
    amplitude_width: float = 10.0

    def rows(self, params: Array, start: Array) -> Array:
        """The extra residuals, shape (len(positive) + len(amplitudes),)."""
        positive, amplitudes = list(self.positive), list(self.amplitudes)
        logs = np.log(params[positive] / start[positive])
        return self.noise * np.concatenate([logs / self.log_width, params[amplitudes] / self.amplitude_width])

    def jacobian(self, params: Array) -> Array:
        """Derivative of `rows`, shape (rows, p)."""
        matrix = np.zeros((len(self.positive) + len(self.amplitudes), len(params)))
        for row, j in enumerate(self.positive):
            matrix[row, j] = self.noise / (self.log_width * params[j])
        for row, k in enumerate(self.amplitudes, start=len(self.positive)):
            matrix[row, k] = self.noise / self.amplitude_width
        return matrix


@dataclass(frozen=True)
class Published:
    """What the published single-start search needs to know of a curve, in normalised units.

    Attributes:
        function: `function(t, *params)` -> values; t and parameters broadcast. NaN where the curve is not defined.
        jacobian: `jacobian(t, *params)` -> the derivatives by the parameters, shape (..., n, p).
        start: `start(t, y)` -> (p,).
        lower: bounds below, (p,). Above, no parameter is bounded.
    """

    function: Callable[..., Array]
    jacobian: Callable[..., Array]
    start: Callable[[Array, Array], Array]
    lower: tuple[float, ...]
