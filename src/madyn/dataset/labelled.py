"""What was read of a model's files as labelled arrays: statistics as one DataArray, fits as one Dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from madyn.dataset import layout
from madyn.errors import DatasetError, one_line
from madyn.labels import MAGNITUDES, describe

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

_MOST_CELLS = 2 * 10**7  # of the covariances of all fits of a quantity


def labelled_statistics(arrays: Mapping[int, np.ndarray], model: str) -> xr.DataArray:
    """The statistics of a model from those of each step (sequence, quantity, layer), all of one shape."""
    import numpy as np
    import xarray as xr

    values = np.stack(list(arrays.values()))
    return describe(
        xr.DataArray(
            values,
            dims=("step", "sequence", "quantity", "layer"),
            coords={
                "step": list(arrays),
                "sequence": np.arange(values.shape[1]),
                "quantity": list(layout.QUANTITIES),
                "layer": np.arange(values.shape[3]),
            },
            name="|h|",
            attrs={"model": model},
        )
    )


def quantity_of(statistics: xr.DataArray, quantity: str, model: str) -> xr.DataArray:
    """A quantity, or the ratio of top 1 to the median, of statistics with the dimension `quantity`."""
    if quantity != "ratio":
        return named_quantity(statistics.sel(quantity=quantity, drop=True), quantity, model)
    top1, median = (statistics.sel(quantity=name, drop=True) for name in ("top1", "median"))
    return named_quantity(top1 / median, quantity, model)


def named_quantity(values: xr.DataArray, quantity: str, model: str) -> xr.DataArray:
    """Values that are this quantity, with its name and what it means."""
    named = values.rename(quantity)
    named.attrs = {"model": model}
    return describe(named, MAGNITUDES)


def labelled_fits(layers: list[dict[str, dict[str, Any]]], steps: list[int], where: str) -> xr.Dataset:
    """The fits of a quantity from its records, a mapping of hypotheses a layer, as `Dataset.fits` says.

    Args:
        layers: the records.
        steps: that the residuals are at.
        where: said in errors.

    Raises:
        DatasetError: a record holds no numbers, or numbers of another shape, or all of them more than any model has.
    """
    import numpy as np
    import xarray as xr

    hypotheses = list(dict.fromkeys(name for layer in layers for name in layer))
    records = {(h, number): layer[h] for number, layer in enumerate(layers) for h in hypotheses if h in layer}
    parameters = list(dict.fromkeys(str(p) for r in records.values() for p in r.get("param_names") or []))
    shape = (len(hypotheses), len(layers))
    if math.prod(shape) * max(1, len(parameters)) ** 2 > _MOST_CELLS or len(layers) * len(steps) > _MOST_CELLS:
        raise DatasetError(
            f"{where}: {len(hypotheses)} hypotheses with {len(parameters)} parameters in {len(layers)} layers are more "
            "than any model has fits of; fit it again with `madyn fit`"
        )
    popt = np.full((*shape, len(parameters)), np.nan)
    pcov = np.full((*shape, len(parameters), len(parameters)), np.nan)
    r2, aic = np.full(shape, np.nan), np.full(shape, np.nan)
    residuals = np.full((*shape, len(steps)), np.nan)
    message = np.full(shape, "", dtype=object)
    for (hypothesis, layer), record in records.items():
        h = hypotheses.index(hypothesis)
        names = [parameters.index(str(p)) for p in record.get("param_names") or []]
        try:
            popt[h, layer, names] = _floats(record["popt"])
            if record.get("pcov") is not None:
                pcov[h, layer][np.ix_(names, names)] = _floats(record["pcov"])
            r2[h, layer], aic[h, layer] = _floats(record.get("r2")), _floats(record.get("aic"))
            if record.get("residuals") is not None:
                residuals[h, layer] = _floats(record["residuals"])
        except (TypeError, ValueError, IndexError, OverflowError) as e:
            raise DatasetError(
                f"{where}: layer {layer}, {one_line(hypothesis, 60)}: {one_line(e)}; fit it again with `madyn fit`"
            ) from e
        message[h, layer] = record.get("message", "")
    fits = xr.Dataset(
        {
            "popt": (("hypothesis", "layer", "parameter"), popt),
            "pcov": (("hypothesis", "layer", "parameter", "parameter_2"), pcov),
            "r2": (("hypothesis", "layer"), r2),
            "aic": (("hypothesis", "layer"), aic),
            "residuals": (("hypothesis", "layer", "step"), residuals),
            "message": (("hypothesis", "layer"), message),
        },
        coords={
            "hypothesis": hypotheses,
            "layer": np.arange(len(layers)),
            "parameter": parameters,
            "parameter_2": parameters,
            "step": steps,
        },
    )
    # The values that were fitted are |h| or the ratio, and without a unit.
    return describe(fits, {"residuals": ("measured - fitted", "1"), "popt": ("fitted parameter", "steps, or 1")})


def _floats(value: Any) -> Any:
    """Numbers of any nesting as float64, None and infinity as NaN."""
    import numpy as np

    numbers = np.array(value, dtype=object).astype(float)
    return np.where(np.isfinite(numbers), numbers, np.nan)
