"""What an approach to prediction is: what it learns from, and what it has learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from madyn.prediction.inputs import DEPTH
from madyn.prediction.table import CurveTable
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd

Settings = Mapping[str, Any]


class Fitted(Protocol):
    """What an approach has learned."""

    @property
    def settings(self) -> Settings:
        """The hyper-parameters chosen from the data, as JSON; given back to the approach they spare the search."""
        ...

    def predict(self, rows: pd.DataFrame) -> tuple[Array, Array]:
        """Log curves (n, P) for rows with the table's features, and their standard deviations before calibration."""
        ...


@dataclass(frozen=True)
class Approach:
    """A way to predict.

    Attributes:
        label: its name in tables.
        fit: (curves averaged over seeds, seed, settings to take over or None) -> what it has learned.
    """

    label: str
    fit: Callable[[CurveTable, int, Settings | None], Fitted]


class Inputs:
    """A table's features, standardised: n rows to (n, F), the model's features first. One that is the same in all rows
    (of a part of a table) is 0."""

    def __init__(self, table: CurveTable) -> None:
        self.of_model = list(table.features)
        raw = self._raw(table.rows)
        # The mean of what is all the same may be another number, by a rounding, and its deviation more than 0.
        varies = np.ptp(raw, axis=0) > 0
        self._centre = np.where(varies, raw.mean(axis=0), raw[0])
        self._scale = np.where(varies, raw.std(axis=0), 1.0)

    def __call__(self, rows: pd.DataFrame) -> Array:
        return (self._raw(rows) - self._centre) / self._scale

    def shape(self, rows: pd.DataFrame) -> Array:
        """The model's features alone, (n, F - 3)."""
        return self(rows)[:, : len(self.of_model)]

    def _raw(self, rows: pd.DataFrame) -> Array:
        # The first layer and the last do something of their own, which no smooth function of depth has.
        depth = rows[DEPTH].to_numpy(float)
        return np.column_stack([rows[self.of_model].to_numpy(float), depth, depth == 0, depth == 1])
