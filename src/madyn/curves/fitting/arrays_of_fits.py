"""The arrays that fits are, without what they say of themselves, which is made from these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madyn.arrays import read_row
from madyn.curves.alignment import Lead
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.typing import Array


@dataclass(frozen=True, eq=False, repr=False)
class FitArrays:
    """The fields of `Fits`, which says what each is.

    `mapped_from` are the fits of the same curves in other parameters that these were mapped from, if they were.
    """

    hypothesis: SeparableModel
    popt: Array
    pcov: Array
    r2: Array
    aic: Array
    aicc: Array
    bic: Array
    residuals: Array
    success: NDArray[np.bool_]
    message: NDArray[Any]
    at_edge: NDArray[np.bool_]
    suspects: NDArray[np.bool_]
    num_points: NDArray[np.int64]
    weights: Array
    steps: Array
    method: str
    jacobian: Array = field(repr=False)
    lead: Lead = field(default=Lead(()), repr=False)
    mapped_from: Self | None = field(default=None, repr=False)

    def predict(self, t: ArrayLike) -> Array:
        """The fitted curves at steps t, shape (..., len(t)); nan where there is no fit, or no step."""
        if self.mapped_from is not None:
            return self.mapped_from.predict(t)
        return self.hypothesis.values(read_row(t, "steps"), self.popt)
