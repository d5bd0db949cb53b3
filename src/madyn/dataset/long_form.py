"""Statistics in long form: a row a model, step, sequence and layer, and a column a quantity, as whoever goes on with
pandas, Polars, R or a database wants them; and the same of several models as one labelled array.

`statistics_rows` is the one place that says what the columns are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from madyn.dataset.layout import QUANTITIES
from madyn.errors import UsageError
from madyn.labels import MAGNITUDES, describe

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

KEYS = ("model", "step", "sequence", "layer")
"""What a row is of; the four together occur once."""

COLUMNS = (*KEYS, *QUANTITIES, "ratio")
"""The columns in order: keys (text, then whole numbers from 0), then float64: |h| as measured, and top1 / median."""

_MOST_CELLS = 10**8  # of each quantity: 800 MB


def statistics_rows(statistics: xr.DataArray, model: str) -> pd.DataFrame:
    """A model's statistics in long form: the columns `COLUMNS`, ordered by step, sequence and layer.

    Args:
        statistics: dims (step, sequence, quantity, layer), as `Dataset.statistics` gives them, or some of their steps.
        model: the name in the first column.
    """
    import pandas as pd

    values = statistics.transpose("step", "sequence", "layer", "quantity").sel(quantity=list(QUANTITIES)).values
    grids = np.meshgrid(*(statistics[name].values for name in KEYS[1:]), indexing="ij")
    table = pd.DataFrame({name: grid.ravel() for name, grid in zip(KEYS[1:], grids, strict=True)})
    table.insert(0, "model", model)
    table[list(QUANTITIES)] = values.reshape(-1, len(QUANTITIES))
    table["ratio"] = _ratio(values[..., QUANTITIES.index("top1")], values[..., QUANTITIES.index("median")]).ravel()
    return table


def long_form(statistics: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """The rows of several models, one after the other, numbered from 0."""
    import pandas as pd

    parts = [statistics_rows(one, model) for model, one in statistics.items()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def joined(statistics: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """Several models as one xarray Dataset, joined by the labels: what a model was not measured at is nan.

    Returns:
        the variables top1, top2, top3, median and ratio, dims (model, step, sequence, layer); `layers` (model), how
        many each has.

    Raises:
        UsageError: so joined they would be more than 10^8 values of each quantity.
    """
    import xarray as xr

    labels = {name: np.array(sorted({int(v) for one in statistics.values() for v in one[name].values}), int)
              for name in KEYS[1:]}  # fmt: skip
    shape = (len(statistics), *(len(values) for values in labels.values()))
    if math.prod(shape) > _MOST_CELLS:
        raise UsageError(
            f"{shape[0]} models joined over {shape[1]} steps, {shape[2]} sequences and {shape[3]} layers are "
            f"{math.prod(shape):.1e} values of each quantity, most of them nan: select() fewer models, or take "
            "to_dataframe(), which has only what was measured"
        )
    values = {name: np.full(shape, np.nan) for name in (*QUANTITIES, "ratio")}
    for number, one in enumerate(statistics.values()):
        place = np.ix_([number], *(np.searchsorted(labels[name], one[name].values).tolist() for name in KEYS[1:]))
        for name in QUANTITIES:
            values[name][place] = one.sel(quantity=name).transpose(*KEYS[1:]).values
    values["ratio"] = _ratio(values["top1"], values["median"])
    layers = [one.sizes["layer"] for one in statistics.values()]
    found = xr.Dataset(
        {name: (KEYS, array) for name, array in values.items()},
        {"model": list(statistics), **labels, "layers": ("model", layers)},
    )
    return describe(found, MAGNITUDES)


def _ratio(top1: np.ndarray, median: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):  # a median of 0 has an infinite ratio, which is what `Dataset.per_sequence` has
        return top1 / median
