"""What a monitor hands to a trainer's logger: names and numbers.

Every logger takes numbers under names with slashes, and draws one panel for each prefix. docs/monitor.md has the names
in one table; they are a part of what users build on.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.dataset.monitoring import Alert

if TYPE_CHECKING:
    import xarray as xr

    from madyn.monitor.alerts import Seen


def logged_values(
    seen: Seen, locations: dict[str, Any], massive: np.ndarray, ahead: xr.Dataset | None, alerts: Iterable[Alert]
) -> dict[str, float]:
    """The values of one measurement, by name.

    Args:
        locations: where the largest values stand, as a unit's locations have it.
        massive: which layers are, bool (L,).
        ahead: the forecast of the ratio up to the run's end, where there is one.
    """
    ratio = seen.ratio
    layer, digits = int(ratio.argmax()), len(str(max(10, ratio.size - 1)))
    found: dict[str, float] = {f"massive/ratio/layer_{i:0{digits}d}": float(value) for i, value in enumerate(ratio)}
    found |= {
        "massive/largest_ratio": float(ratio[layer]),
        "massive/largest_ratio_layer": layer,
        "massive/largest_value": float(seen.top1.max()),
        "massive/layers_massive": int(massive.sum()),
        "massive/alerts": len(list(alerts)),
    }
    sequence = int(seen.top1[:, layer].argmax())
    for name, key in (("position", "position"), ("token", "token_id"), ("feature", "feature")):
        if key in locations:
            found[f"massive/{name}"] = int(locations[key][sequence][0][layer])
    if ahead is not None:
        found |= _forecast_of(ahead, layer)
    return {name: value for name, value in found.items() if isfinite(value)}


def _forecast_of(ahead: xr.Dataset, layer: int) -> dict[str, float]:
    """The forecast of the layer that is largest now."""
    last = ahead.isel(step=-1, layer=layer)
    found = {f"massive/forecast/final_ratio{_END[b]}": float(last[b]) for b in _END}
    for name, wanted in (("peak_step", "peak_step"), ("peak_ratio", "peak_height"), ("plateau", "plateau")):
        if wanted in ahead:
            found |= {
                f"massive/forecast/{name}{_END[bound]}": float(ahead[wanted].isel(layer=layer).sel(bound=bound))
                for bound in _END
            }
    if "peak_inside" in ahead:
        found["massive/forecast/peak_inside_run"] = float(ahead["peak_inside"].isel(layer=layer))
    return found


_END = {"median": "", "lower": "_lower", "upper": "_upper"}
