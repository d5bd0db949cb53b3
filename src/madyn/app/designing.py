"""What the tab "Design" shows: what a model of a shape that nobody trained would do, and what it is held to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.architecture import SEARCHED
from madyn.dataset import Dataset
from madyn.errors import MadynError
from madyn.prediction import Predictor
from madyn.prediction.table import nearest_models
from madyn.quantization import effective_bits
from madyn.report import charts, words

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Slider:
    """A size that may be chosen: its field, its words, its ends, and the value that it starts from."""

    field: str
    words: str
    low: float
    high: float
    start: float
    is_whole: bool


class Designer:
    """A predictor that learned from a dataset, and what the tab asks of it."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    @cached_property
    def predictor(self) -> Predictor:
        """Fitted when it is first needed; seconds for a hundred models."""
        return Predictor().fit(self.dataset)

    def sliders(self) -> list[Slider]:
        """The sizes in which the models differ, with the range that they have."""
        family = [self.dataset.architecture(model) for model in self.dataset]
        found = []
        for name, one in SEARCHED.items():
            values = np.array([float(one.of(shape)) for shape in family])
            if one.formula is not None and name != "mlp_ratio":
                continue
            if name == "intermediate_size" or values.min() == values.max():
                continue
            middle = float(np.sort(values)[len(values) // 2])  # one that there is
            whole = bool((values == np.rint(values)).all())
            found.append(Slider(name, one.words, values.min(), values.max(), middle, whole))
        return found

    def predicted(self, sizes: dict[str, Any], layer: str) -> tuple[Figure, str]:
        """A picture of a layer's predicted ratio with its 90 % band beside the nearest trained model, and words.

        Raises:
            ArchitectureError: no such model can be built; it says why, and what could be.
        """
        shape = self.predictor.architecture(**sizes)
        ratio = self.predictor.predict(shape)
        last = ratio.isel(step=-1).sel(quantile=0.5)
        largest = int(last.values.argmax())
        chosen = largest if layer == "largest" else min(int(layer), ratio.sizes["layer"] - 1)
        nearest, distance = self._nearest(shape)
        measured = self._measured(nearest, chosen, ratio.sizes["layer"])
        chart = charts.predicted(ratio.sel(layer=chosen), chosen, measured, nearest)
        low, middle, high = (float(ratio.isel(step=-1).sel(layer=largest, quantile=q)) for q in (0.05, 0.5, 0.95))
        bits = effective_bits([high, middle, low], 1.0)
        said = [
            f"{shape.num_parameters:,} parameters. At the last step layer {largest} has the largest ratio: "
            f"**{words(middle)}** ({words(low)} to {words(high)}, 90 % of single runs).",
            f"int8 with one scale a tensor would leave {bits[1]:.1f} effective bits to its bulk ({bits[0]:.1f} to "
            f"{bits[2]:.1f}).",
            f"Nearest trained model: {nearest}, {distance:.2f} standard deviations of the shapes away"
            + (" (the same shape)." if distance == 0 else "."),
        ]
        caution = self.predictor.caution(shape)
        return chart, "\n\n".join([*said, *([f"⚠ {caution}"] if caution else [])])

    def _nearest(self, shape: Any) -> tuple[str, float]:
        from madyn.prediction.inputs import Subject

        subject = Subject(shape, self.predictor.training, self.predictor.wiring)
        return next(iter(nearest_models(self.predictor.state.table, subject).items()))

    def _measured(self, model: str, layer: int, layers: int) -> Any:
        """The nearest model's layer at the same relative depth; None where it cannot be read."""
        try:
            ratio = self.dataset.trajectories(model, "ratio")
        except MadynError:
            return None
        depth = ratio.sizes["layer"]
        return ratio.isel(layer=round(layer / max(layers - 1, 1) * (depth - 1)))
