"""The units that a curve is fitted in, and the way back: step = T x, value = scale v + low.

A built-in hypothesis is fitted on steps that are divided by the run's length and values that lie between 0 and 1, a
user's own curve on its own steps. What a run's length is (the last step seen, the one that is planned) is for the
methods to say; the arithmetic is the same for all of them, and is here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from madyn.curves.hypotheses.separable import SeparableModel
from madyn.typing import Array


class Units(NamedTuple):
    """The units of series that share their time; `...` is the shape of `scale` and `low`, one number a series.

    Attributes:
        T: what steps are divided by.
        scale: (...), what values are divided by.
        low: (...), what is subtracted from them before; 0 for a curve that cannot follow a shift.
    """

    T: float
    scale: Array
    low: Array

    @classmethod
    def of(cls, hypothesis: SeparableModel, T: float, low: Array, high: Array) -> Units:
        """Of series whose least and largest values are these, over a time that is as long."""
        T = T if hypothesis.normalised else 1.0
        if hypothesis.moves:
            return cls(T, high - low, low)
        return cls(T, np.maximum(np.abs(high), np.abs(low)), np.zeros(np.shape(low)))

    def scaled(self, y: Array) -> Array:
        """Values (..., n) in these units."""
        return (y - self.low[..., np.newaxis]) / self.scale[..., np.newaxis]

    def unscaled(self, v: Array) -> Array:
        """Values (..., n) that are in these units, in their own again."""
        return v * self.scale[..., np.newaxis] + self.low[..., np.newaxis]

    def matrices(self, hypothesis: SeparableModel) -> Array:
        """(..., p, p), by which parameters in these units become those in the series' own, but for `low`."""
        p = hypothesis.num_params
        each = [hypothesis.rescale(self.T, scale) for scale in np.ravel(self.scale)]
        return np.reshape(each, (*np.shape(self.scale), p, p))

    def parameters(self, hypothesis: SeparableModel, params: Array) -> Array:
        """Parameters (..., more, p) in these units, `more` any axes, in the series' own."""
        more = params.ndim - 1 - np.ndim(self.scale)
        matrices, low = self.matrices(hypothesis), self.low
        for _ in range(more):
            matrices, low = np.expand_dims(matrices, -3), low[..., np.newaxis]
        raw = np.einsum("...ij,...j->...i", matrices, params)
        if hypothesis.moves:
            raw[..., hypothesis.param_names.index("K")] += low
        return raw
