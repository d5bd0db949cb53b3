"""What can be wanted of a model: one number of it as a whole, read off its curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from madyn.errors import UsageError
from madyn.prediction.derived import LARGEST_LOG, in_units, quantity
from madyn.typing import Array


class Objective(NamedTuple):
    """One number of a model: `of` takes log curves (layers, P), their positions (P,) and the last step, and gives the
    natural logarithm of a ratio, or of 1 + a step."""

    name: str
    of: Callable[[Array, Array, float], float]

    @property
    def is_step(self) -> bool:
        return self.name == "peak step"

    def in_units(self, values: Array, last_step: float) -> Array:
        """The ratio, at least 1, or the step, within the run."""
        if self.is_step:
            return np.clip(in_units("peak step", values), 0.0, last_step)
        return in_units("ratio", np.clip(values, 0.0, LARGEST_LOG))


def _peak_of_model(curves: Array, at: Array, last: float) -> float:
    """Where the largest ratio over layers peaks; the last step where it never falls by a tenth."""
    step = float(quantity("peak step")(curves.max(axis=0), at, last))
    return step if math.isfinite(step) else math.log1p(last)


def largest_over_layers(name: str) -> Callable[[Array, Array, float], float]:
    """The largest of a quantity of single layers, by its name."""
    of_layer = quantity(name)
    return lambda curves, at, last: float(of_layer(curves, at, last).max())


OBJECTIVES: Mapping[str, Callable[[Array, Array, float], float]] = {
    "max ratio": largest_over_layers("largest ratio"),
    "final ratio": largest_over_layers("final ratio"),
    "peak step": _peak_of_model,
}
"""What can be wanted, by name: the largest ratio over all layers and steps, that over all layers at the last step, and
the step at which the largest ratio over the layers is reached."""

LARGEST = Objective("max ratio", OBJECTIVES["max ratio"])


def objective_named(minimize: str | None, maximize: str | None, at: int | None) -> Objective:
    """Raises UsageError where not one of both is given, or it is none of `OBJECTIVES`, or has no steps."""
    known = ", ".join(f"'{name}'" for name in OBJECTIVES)
    if (minimize is None) == (maximize is None):
        raise UsageError(f"say what is wanted, by either minimize or maximize; there are {known}")
    name = (minimize or maximize or "").strip().lower()
    if name not in OBJECTIVES:
        raise UsageError(f"there is no objective {name!r}; there are {known}")
    if at is None:
        return Objective(name, OBJECTIVES[name])
    if name != "max ratio":
        raise UsageError(f"a step goes with 'max ratio', not with {name!r}")
    if at < 0:
        raise UsageError(f"at is {at}; steps count from 0")
    return Objective(f"max ratio at {at}", largest_over_layers(f"ratio at {at}"))
