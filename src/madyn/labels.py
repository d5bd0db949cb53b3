"""What the names in labelled arrays mean: `long_name` and `units`, which xarray writes on the axes of its plots.

|h| and the ratio have no unit, which is "1", as the CF conventions write it. Where a result is in the unit of values
that somebody else gave, the unit says so.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

_OF_VALUES = "unit of the values"
_PARAMETERS = "steps and the unit of the values"

MEANINGS: Mapping[str, tuple[str, str]] = {
    "step": ("training step", "step"),
    "sequence": ("sequence, from 0", "1"),
    "layer": ("layer, from 0", "1"),
    "model": ("model", "1"),
    "layers": ("number of layers", "1"),
    "quantity": ("quantity", "1"),
    "quantile": ("quantile", "1"),
    "parameter": ("parameter", "1"),
    "parameter_2": ("parameter", "1"),
    "nonlinear_parameter": ("nonlinear parameter", "1"),
    "hypothesis": ("hypothesis", "1"),
    "|h|": ("|h|", "1"),
    "top1": ("largest |h|", "1"),
    "top2": ("second largest |h|", "1"),
    "top3": ("third largest |h|", "1"),
    "ratio": ("largest |h| / median of |h|", "1"),
    "published": ("sequences massive by the published rule", "1"),
    "r2": ("R2", "1"),
    "aic": ("AIC", "1"),
    "aicc": ("AICc", "1"),
    "bic": ("BIC", "1"),
    "success": ("whether there is a fit", "1"),
    "num_points": ("points fitted", "1"),
    "message": ("what to know of it", "1"),
    "at_edge": ("on an edge of the search's box", "1"),
    "suspects": ("far off the curve", "1"),
    "weights": ("weight", "1"),
    "steps": ("training step", "step"),
    "popt": ("fitted parameter", _PARAMETERS),
    "pcov": ("covariance of fitted parameters", "products of the parameters' units"),
    "residuals": ("measured - fitted", _OF_VALUES),
    "bound": ("which number of an interval", "1"),
    "class": ("class of the curve", "1"),
    "series": ("series, from 0", "1"),
    "value": ("value of the curve", _OF_VALUES),
    "top": ("highest value within the run", _OF_VALUES),
    "start": ("sequences massive beyond step 0", "1"),
    "half_rise_step": ("step of half the rise", "step"),
    "plateau": ("what the curve tends to", _OF_VALUES),
    "peak_step": ("step of the peak", "step"),
    "peak_height": ("height of the peak", _OF_VALUES),
    "peak_inside": ("probability that the peak lies inside the run", "1"),
    "peak_ahead": ("probability that the peak lies ahead", "1"),
    "peak_observable": ("probability that the peak lies inside the run", "1"),
    "class_probability": ("probability of the class", "1"),
    "seen_step": ("training step", "step"),
    "seen": ("measured up to the step looked at", "1"),
    "measured": ("measured later", "1"),
    "threshold": ("threshold", "1"),
    "exceed": ("probability that the layer passes the threshold", "1"),
    "exceed_any": ("probability that any layer passes the threshold", "1"),
    "stack": ("list of layers that it is in", "1"),
    "layer_in_stack": ("layer in its stack, from 0", "1"),
    "rank": ("rank of the value, 1 for the largest", "1"),
    "position": ("position in the sequence, from 0", "1"),
    "feature": ("feature, from 0", "1"),
    "token_id": ("token id", "1"),
    "inside": ("probability that the peak lies inside the run", "1"),
    "ahead": ("probability that the peak lies ahead", "1"),
}
"""(long name, unit) by the name of a coordinate or variable. "median" is a magnitude in one place and the middle of an
interval in another, so that whoever makes it says which."""

MAGNITUDES: Mapping[str, tuple[str, str]] = {"median": ("median of |h|", "1")}
"""Of the statistics."""

T = TypeVar("T")


def interval(of: str = "the value", unit: str = _OF_VALUES) -> Mapping[str, tuple[str, str]]:
    """The meanings of the three numbers of an interval."""
    return {
        "median": (f"median of {of}", unit),
        "lower": (f"lower end of the interval of {of}", unit),
        "upper": (f"upper end of the interval of {of}", unit),
    }


def describe(labelled: T, meanings: Mapping[str, tuple[str, str]] | None = None) -> T:
    """Write the meanings on an xarray object, its coordinates and variables, and give it back.

    Args:
        labelled: a Dataset or DataArray; its own attributes besides the two are kept.
        meanings: of names that mean something else here than in `MEANINGS`.
    """
    known = {**MEANINGS, **(meanings or {})}
    array: Any = labelled
    parts: dict[Hashable, Any] = dict(array.coords)
    parts.update(array.data_vars if hasattr(array, "data_vars") else {array.name: array})
    for name, part in parts.items():
        if name in known:
            part.attrs["long_name"], part.attrs["units"] = known[str(name)]
    return labelled
