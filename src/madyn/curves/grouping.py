"""Series that are alike in something, together: the same steps, the same points seen, the same weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from madyn.typing import Rows


def alike(keys: NDArray[np.float64]) -> list[Rows]:
    """The rows of each set of equal rows of keys (m, n), ascending; the sets in the order of their keys."""
    if not len(keys):
        return []
    if np.all(keys == keys[:1]):
        return [np.arange(len(keys))]
    _, which = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    return np.split(order, np.flatnonzero(np.diff(which.ravel()[order])) + 1)
