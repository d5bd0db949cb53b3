"""What every fitting method returns, and how it is put back among series that no method could fit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from madyn.typing import Array

# Of the largest singular value of a Jacobian whose columns have one length: a smaller one is rounding.
RANK = 1e-13


class Solution(NamedTuple):
    """What a method returns for m series.

    Attributes:
        popt: (m, p), in raw units; nan where there is no fit.
        pcov: (m, p, p); infinite where the data do not determine every parameter.
        messages: why there is no fit; "" for success.
        at_low, at_high: (m, q), whether a nonlinear parameter ended on an edge of its box.
        residuals: (m, n), y less the curve at every point.
        jacobian: (m, rows, p), of the square root of the weights times the curve by popt, then of a penalty's rows.
    """

    popt: Array
    pcov: Array
    messages: list[str]
    at_low: NDArray[np.bool_]
    at_high: NDArray[np.bool_]
    residuals: Array
    jacobian: Array

    def among(self, chosen: NDArray[np.bool_], messages: list[str]) -> Solution:
        """The same solutions among series that were not tried, which have the messages given."""
        own = iter(self.messages)
        popt, pcov, residuals, jacobian = (
            np.full((len(chosen), *part.shape[1:]), np.nan)
            for part in (self.popt, self.pcov, self.residuals, self.jacobian)
        )
        low, high = (np.zeros((len(chosen), part.shape[1]), bool) for part in (self.at_low, self.at_high))
        popt[chosen], pcov[chosen], residuals[chosen] = self.popt, self.pcov, self.residuals
        jacobian[chosen], low[chosen], high[chosen] = self.jacobian, self.at_low, self.at_high
        said = [next(own) if tried else message for tried, message in zip(chosen, messages, strict=True)]
        return Solution(popt, pcov, said, low, high, residuals, jacobian)

    @classmethod
    def joined(cls, parts: list[Solution]) -> Solution:
        """The solutions of several lots of series, one after the other."""
        messages = [message for part in parts for message in part.messages]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in cls._fields
                  if name != "messages"}  # fmt: skip
        return cls(messages=messages, **arrays)
