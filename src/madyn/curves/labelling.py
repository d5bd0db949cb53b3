"""Fits as labelled arrays, for whoever goes on with xarray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from madyn.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

    from madyn.curves.fits import Fits


def labelled(fits: Fits, dims: Sequence[str] | None, coords: Mapping[str, ArrayLike] | None) -> xr.Dataset:
    """The report of `Fits.to_dataset`."""
    import xarray as xr

    lead = _leading(fits, dims)
    names = list(fits.model.param_names)
    steps = fits.steps if fits.steps.ndim == 1 else None
    variables = {
        "popt": ((*lead, "parameter"), fits.popt),
        "pcov": ((*lead, "parameter", "parameter_2"), fits.pcov),
        **{name: (lead, getattr(fits, name)) for name in ("r2", "aic", "aicc", "bic", "success", "num_points")},
        "message": (lead, fits.message.astype(str)),
        "at_edge": ((*lead, "nonlinear_parameter"), fits.at_edge),
        **{name: ((*lead, "step"), getattr(fits, name)) for name in ("residuals", "suspects", "weights")},
    }
    labels: dict[str, ArrayLike] = {
        "parameter": names, "parameter_2": names, "nonlinear_parameter": list(fits.model.nonlinear),
    }  # fmt: skip
    if steps is not None:
        labels["step"] = steps
    else:
        variables["steps"] = ((*lead, "step"), fits.steps)
    attrs = {"model": fits.model.name, "method": fits.method}
    return xr.Dataset(variables, coords={**labels, **(coords or {})}, attrs=attrs)


def _leading(fits: Fits, dims: Sequence[str] | None) -> tuple[str, ...]:
    axes = np.ndim(fits.r2)
    if dims is None:
        return ("series",) if axes == 1 else tuple(f"series_{i}" for i in range(axes))
    if isinstance(dims, str) or len(dims) != axes:
        raise UsageError(f"dims is {dims!r}; the fits have {axes} leading axes, and each needs a name")
    return tuple(dims)
