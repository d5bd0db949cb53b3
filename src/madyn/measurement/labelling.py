"""Statistics as a labelled array, so that nobody has to remember which axis is which, or whose layer the ninth is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from madyn.labels import describe

if TYPE_CHECKING:
    import xarray as xr


def label(statistics: np.ndarray, stacks: Mapping[str, int]) -> xr.DataArray:
    """Statistics of shape (B, k + 1, L) with dims (sequence, quantity, layer).

    Coordinates: quantity is top1 to top k and median; layer counts through all stacks; along it `stack` is the path of
    the list of layers that a layer is in, and `layer_in_stack` which of them it is.

    Args:
        stacks: the path of each stack and how many of the layers are its own, in order.
    """
    import xarray as xr

    places = [(path, number) for path, count in stacks.items() for number in range(count)]
    return describe(
        xr.DataArray(
            statistics,
            dims=("sequence", "quantity", "layer"),
            coords={
                "sequence": np.arange(statistics.shape[0]),
                "quantity": [*(f"top{k}" for k in range(1, statistics.shape[1])), "median"],
                "layer": np.arange(statistics.shape[2]),
                "stack": ("layer", [path for path, _ in places]),
                "layer_in_stack": ("layer", [number for _, number in places]),
            },
            name="|h|",
        )
    )
