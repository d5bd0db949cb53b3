"""What the report and the explorer compute of a dataset, and say, alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from madyn.curves import curve_quantities, fit_curves, posterior
from madyn.dataset import Dataset
from madyn.errors import MadynError
from madyn.figures.steps import StepScale
from madyn.terminal import note

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

LEVEL = 0.9
"""The probability of a band."""

ENOUGH_STEPS = 3
"""Fewer make no curve."""

_POINTS = 60  # of a fitted curve and its band


def fitted_bands(values: xr.DataArray) -> xr.Dataset | None:
    """The posterior of the reparam curve for each layer of a quantity, dims (step, layer): median, lower and upper of
    dims (layer, step), at some steps of its own. None where there are too few steps."""
    steps = values["step"].values.astype(float)
    if len(steps) < ENOUGH_STEPS:
        return None
    scale = StepScale(steps)
    first, last = scale.place(steps[[0, -1]]).tolist()
    at = np.unique(scale.step(np.linspace(first, last, _POINTS)).round(3))
    try:
        found = posterior(steps, values.transpose("layer", "step").values)
        return found.value(at, level=LEVEL).rename({"series": "layer"}).assign_coords(layer=values["layer"].values)
    except MadynError as e:
        note(f"no fitted curves: {e}")
        return None


def peak_table(dataset: Dataset) -> pd.DataFrame:
    """Where each layer's ratio peaks over the run.

    Returns:
        a row a model and layer: model, layer, height (the largest ratio that was measured), at (its step), fitted (the
        step of the reparam curve's peak, nan where that lies outside the run). Models measured at fewer than three
        steps are left out.
    """
    import pandas as pd

    tables = []
    for model in dataset:
        ratio = dataset.trajectories(model, "ratio")
        steps = ratio["step"].values.astype(float)
        if len(steps) < ENOUGH_STEPS:
            continue
        table = ratio.transpose("layer", "step").values
        fits = fit_curves(steps, table, hypothesis="reparam")
        read = curve_quantities(fits, last_step=float(steps[-1]))
        inside = np.asarray(read["peak_observable"].values, bool)
        tables.append(
            pd.DataFrame(
                {
                    "model": model,
                    "layer": ratio["layer"].values,
                    "height": table.max(axis=1),
                    "at": steps[np.argmax(table, axis=1)],
                    "fitted": np.where(inside, read["peak_step"].values, np.nan),
                }
            )
        )
    if not tables:
        return pd.DataFrame(columns=["model", "layer", "height", "at", "fitted"])
    return pd.concat(tables, ignore_index=True)


def words(value: float) -> str:
    """A number in a sentence: three digits, and no power of ten.

    >>> words(2821.4), words(0.01234), words(17.12)
    ('2,820', '0.0123', '17.1')
    """
    return f"{float(f'{value:.3g}'):,.15g}"
