"""What is ahead of a run that is watched: the forecast of its ratios at the end, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from madyn.dataset import Dataset
from madyn.errors import MadynError

FEWEST = 3
"""Measured steps that a forecast needs here: two lie on any curve."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlook:
    """A forecast of every layer's ratio.

    Attributes:
        at: the step up to which was looked.
        last_step: the end of the run.
        level: the probability of each band.
        prior: what runs are held to be like, in words.
        end: the ratio at the end, (layers, 3): median, lower, upper. NaN where a layer has no forecast.
        peak_step, peak_height: of the curve's maximum, given that it lies inside the run, (layers, 3).
        peak_inside, peak_ahead: probabilities that it does, and that it is still to come, (layers,).
        plateau: what the curve tends to long after the run, (layers, 3).
        message: (layers,), why a layer has no forecast; "" for one that has.
    """

    at: int
    last_step: int
    level: float
    prior: str
    end: np.ndarray
    peak_step: np.ndarray | None = None
    peak_height: np.ndarray | None = None
    peak_inside: np.ndarray | None = None
    peak_ahead: np.ndarray | None = None
    plateau: np.ndarray | None = None
    message: np.ndarray


def why_none(steps: np.ndarray, last_step: int | None) -> str:
    """Why nothing is forecast; "" where something can be."""
    if last_step is None:
        return "no forecast: the run's last step is not known"
    if steps.size and steps[-1] >= last_step:
        return ""
    if steps.size < FEWEST:
        return f"no forecast yet: it takes {FEWEST} measured steps"
    return ""


def outlook_of(dataset: Dataset, model: str, step: int, last_step: int) -> tuple[Outlook | None, str]:
    """The forecast of a run from all that was measured, and why there is none.

    Only the run itself is looked at. To learn from other runs takes minutes where there are many;
    `madyn forecast` does.
    """
    from madyn.analysis.forecasting import forecast

    try:
        found = forecast(dataset, model, at=step, last_step=last_step, steps=[last_step])
    except MadynError as e:
        return None, f"no forecast: {e}"
    bounds = ["median", "lower", "upper"]
    end = np.stack([found[bound].transpose("layer", "step").values[:, -1] for bound in bounds], axis=-1)
    own: dict[str, Any] = {
        name: found[name].transpose("layer", "bound").sel(bound=bounds).values
        for name in ("peak_step", "peak_height", "plateau")
        if name in found
    }
    chances: dict[str, Any] = {name: found[name].values for name in ("peak_inside", "peak_ahead") if name in found}
    about: dict[str, Any] = {
        "at": step,
        "last_step": last_step,
        "level": float(found.attrs["level"]),
        "prior": found.attrs["prior"],
    }
    return Outlook(**about, end=end, **own, **chances, message=found["message"].values), ""
