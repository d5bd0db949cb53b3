"""What the tab "Explore" shows: trajectories of some models side by side, and maps of all layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from madyn.dataset import Dataset
from madyn.errors import UsageError
from madyn.report import charts, fitted_bands, peak_table
from madyn.report.reading import ENOUGH_STEPS
from madyn.terminal import few

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

QUANTITIES = ("ratio", "top1", "median", "top2", "top3")
LARGEST = "largest of all"
ALL = "all"
MOST_MODELS = 6  # in one picture: of more no line is told from another


class Explorer:
    """A dataset as the tab looks at it. What is computed of a model is kept: a page asks for it again and again."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._peaks: pd.DataFrame | None = None

    def layers(self, models: Sequence[str]) -> list[str]:
        """What may be chosen as a layer of these models."""
        depth = max((self.dataset.statistics(model).sizes["layer"] for model in models), default=0)
        return [LARGEST, ALL, *map(str, range(depth))]

    def trajectories(self, models: Sequence[str], layer: str, quantity: str, axis: str, steps: str) -> Figure:
        """A line a model, of a layer or of the largest over the layers; or all layers of one model.

        Args:
            layer: a number, `ALL`, or `LARGEST`.
            axis: of values, "log" or "linear".
            steps: their axis, "log" (linear up to the first step after 0) or "linear".

        Raises:
            UsageError: no model is chosen, or more than `MOST_MODELS`.
        """
        if not models:
            raise UsageError("choose a model")
        if len(models) > MOST_MODELS:
            raise UsageError(f"choose at most {MOST_MODELS} models: there are {few(models)}")
        values = {model: self.dataset.trajectories(model, quantity) for model in models}
        if layer == ALL and len(models) == 1:
            return charts.trajectories(values[models[0]], log=axis == "log", log_steps=steps == "log")
        if layer == ALL:
            raise UsageError("all layers are shown of one model at a time: choose one model, or one layer")
        if layer == LARGEST:
            shown = {model: one.max("layer") for model, one in values.items()}
            return charts.side_by_side(shown, quantity, {}, log=axis == "log", log_steps=steps == "log")
        there = {model: one for model, one in values.items() if int(layer) < one.sizes["layer"]}
        if not there:
            raise UsageError(f"none of these models has a layer {layer}")
        shown = {model: one.sel(layer=int(layer)) for model, one in there.items()}
        bands = {model: fitted_bands(one.sel(layer=[int(layer)])) for model, one in there.items()}
        return charts.side_by_side(shown, quantity, bands, log=axis == "log", log_steps=steps == "log")

    def peaks(self, what: str) -> Figure:
        """A cell a model and layer: the height or the step of the largest ratio over the run.

        Raises:
            UsageError: no model is measured at enough steps.
        """
        if self._peaks is None:
            self._peaks = peak_table(self.dataset)
        if self._peaks.empty:
            raise UsageError(f"no map of peaks: no model is measured at {ENOUGH_STEPS} steps or more")
        return charts.peak_map(self._peaks, what)
