"""The names of the array types that the package's signatures use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""Numbers in double precision."""

Mask = NDArray[np.bool_]
"""Yes or no for each."""

Rows = NDArray[np.intp]
"""Which of the rows, or whose."""
