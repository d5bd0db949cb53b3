"""Fits as tables: long, a row a series and parameter, to go on with; and wide, a row a series, to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from madyn.curves.fitting.arrays_of_fits import FitArrays
from madyn.curves.fitting.labelling import labelled

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def long_table(fits: FitArrays) -> pd.DataFrame:
    """The report of `Fits.to_dataframe`."""
    with np.errstate(all="ignore"):
        errors = np.sqrt(np.diagonal(fits.pcov, axis1=-2, axis2=-1))
    found = labelled(fits, None, None)
    found = found.assign(value=found["popt"], standard_error=found["popt"].copy(data=errors))
    table = found[["value", "standard_error", "r2", "aicc", "success", "message"]].to_dataframe().reset_index()
    table.insert(list(table.columns).index("parameter"), "hypothesis", fits.hypothesis.name)
    return table


def wide_table(fits: FitArrays) -> pd.DataFrame:
    """A row a series: its labels, its parameters by name, r2 and message."""
    found = labelled(fits, None, None)
    table = label_rows(found["r2"])
    for number, name in enumerate(fits.hypothesis.param_names):
        table[name] = fits.popt[..., number].ravel()
    return table.assign(r2=np.ravel(fits.r2), message=np.ravel(fits.message))


def label_rows(of_series: xr.DataArray) -> pd.DataFrame:
    """The labels of the leading axes, a row a series; no column where there is one series and no axis."""
    import pandas as pd

    if not of_series.ndim:
        return pd.DataFrame(index=[0])
    return of_series.to_dataframe(name="").reset_index().drop(columns="")
