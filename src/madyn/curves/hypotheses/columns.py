"""How a basis and its derivative are put together from their columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from madyn.typing import Array

Value = float | Array
"""A parameter, or many of any shape."""


def columns(*parts: Value) -> Array:
    """The parts broadcast together and stacked last, each of them contiguous: np.stack spends four times as long."""
    stacked = np.empty((len(parts), *np.broadcast(*parts).shape), dtype=np.result_type(*parts, float))
    for column, part in zip(stacked, parts, strict=True):
        column[...] = part
    return np.moveaxis(stacked, 0, -1)


def derivatives(k: int, q: int, parts: Mapping[tuple[int, int], Array]) -> Array:
    """P + (n, k, q) with the parts at their (column, parameter), each of them contiguous, and 0 elsewhere."""
    stacked = np.zeros((k, q, *np.broadcast(*parts.values()).shape))
    for place, part in parts.items():
        stacked[place] = part
    return np.moveaxis(stacked, (0, 1), (-2, -1))


def from_zero(s: Array, of_log: Callable[[Array], Array]) -> Array:
    """A function of log s that tends to 0 as s does, and is 0 at s = 0, where there is no logarithm."""
    return np.where(s == 0, 0.0, of_log(np.log(np.where(s == 0, 1.0, s))))


def along(*nonlinear: Value) -> list[Array]:
    """Nonlinear parameters of shape P as P + (1,), to meet the points."""
    return [np.asarray(p)[..., np.newaxis] for p in nonlinear]
