"""Fits as labelled arrays, for whoever goes on with xarray."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from madyn.curves.alignment import Coords
from madyn.curves.fitting.arrays_of_fits import FitArrays
from madyn.errors import UsageError, listed, one_line, quoted
from madyn.labels import describe

if TYPE_CHECKING:
    import xarray as xr


def labelled(fits: FitArrays, dims: Sequence[str] | None, coords: Mapping[str, ArrayLike] | None) -> xr.Dataset:
    """The report of `Fits.to_dataset`."""
    import xarray as xr

    names = list(fits.hypothesis.param_names)
    variables: dict[str, tuple[tuple[str, ...], ArrayLike]] = {
        "popt": (("parameter",), fits.popt),
        "pcov": (("parameter", "parameter_2"), fits.pcov),
        **{name: ((), getattr(fits, name)) for name in ("r2", "aic", "aicc", "bic", "success", "num_points")},
        "message": ((), fits.message.astype(str)),
        "at_edge": (("nonlinear_parameter",), fits.at_edge),
        **{name: (("step",), getattr(fits, name)) for name in ("residuals", "suspects", "weights")},
    }
    labels: dict[str, ArrayLike] = {
        "parameter": names, "parameter_2": names, "nonlinear_parameter": list(fits.hypothesis.nonlinear),
    }  # fmt: skip
    if fits.steps.ndim == 1:
        labels["step"] = fits.steps
    else:
        variables["steps"] = (("step",), fits.steps)
    lead, given = _leading(fits, dims, {*variables, *labels, "step"})
    if coords is not None and not isinstance(coords, Mapping):
        raise UsageError(f"coords is {quoted(coords)}; it is a mapping of names to labels")
    dataset = xr.Dataset(
        {name: ((*lead, *own), values) for name, (own, values) in variables.items()},
        coords={**given, **labels},
        # "model" is what 0.1 called it.
        attrs={"hypothesis": fits.hypothesis.name, "model": fits.hypothesis.name, "method": fits.method},
    )
    try:
        return describe(dataset.assign_coords(coords or {}))
    except Exception as e:  # xarray raises one of its own for each thing that can be wrong
        raise UsageError(f"coords do not fit: {one_line(e)}") from e


def _leading(fits: FitArrays, dims: Sequence[str] | None, taken: Collection[str]) -> tuple[tuple[str, ...], Coords]:
    """Names of the leading axes, and their labels."""
    axes = np.ndim(fits.r2)
    if dims is None:
        return fits.lead.names(taken), fits.lead.labels(taken)
    names = [] if isinstance(dims, str) else listed("dims", dims)
    if len(names) != axes or not all(isinstance(name, str) for name in names) or len({*names}) < axes:
        raise UsageError(f"dims is {quoted(dims)}; the fits have {axes} leading axes, and each needs a name")
    return tuple(names), {}
