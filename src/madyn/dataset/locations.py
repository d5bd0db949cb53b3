"""Where the largest values stand, and since when.

A massive activation does not wander: after some step the largest value of a layer is always in the same feature, and
usually at the same position. That step is when the coordinate has locked in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import MinLen

from madyn.dataset import layout
from madyn.dataset.files import is_there
from madyn.dataset.schema import Count, read_as
from madyn.errors import DatasetError
from madyn.labels import describe

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd
    import xarray as xr

    from madyn.dataset.view import Dataset

_MOST_BYTES = 1 << 26
_Grid = Annotated[list[Annotated[list[Annotated[list[Count], MinLen(1)]], MinLen(1)]], MinLen(1)]  # B x k x L


@dataclass(frozen=True, kw_only=True)
class Locations:
    """Where the largest values of a unit stand, each a nested list B x k x L; `token_id` of text alone."""

    position: _Grid
    feature: _Grid
    token_id: _Grid | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sequences, ranks, layers."""
        return len(self.feature), len(self.feature[0]), len(self.feature[0][0])


def read_locations(dataset: Dataset, model: str) -> xr.Dataset:
    """Position, feature and (of text) token id of the largest values.

    Returns:
        dims (step, sequence, rank, layer), rank 1 the largest; the steps that have locations, ascending.

    Raises:
        DatasetError: the model has none, as the published dataset has none, or a file is malformed.
    """
    import numpy as np
    import xarray as xr

    files = {step: layout.locations_path(dataset.path, model, step) for step in dataset.steps(model)}
    files = {step: path for step, path in files.items() if is_there(path)}
    if not files:
        raise DatasetError(f"{dataset.path}: no locations of {model}; only what madyn measured has them")
    read = {step: read_unit_locations(path) for step, path in files.items()}
    shape = next(iter(read.values())).shape
    for step, found in read.items():
        if found.shape != shape:
            raise DatasetError(f"{files[step]}: of shape {found.shape} where the first step's locations have {shape}")
    names = [name for name in ("position", "feature", "token_id") if all(getattr(r, name) for r in read.values())]
    arrays = {name: np.array([getattr(r, name) for r in read.values()], dtype=np.int64) for name in names}
    return describe(
        xr.Dataset(
            {name: (("step", "sequence", "rank", "layer"), values) for name, values in arrays.items()},
            coords={"step": list(files), "rank": np.arange(1, 1 + arrays["feature"].shape[2])},
            attrs={"model": model},
        )
    )


def has_locations(dataset: Dataset, model: str) -> bool:
    """Whether a model has any locations, sound or not."""
    return any(is_there(layout.locations_path(dataset.path, model, step)) for step in dataset.steps(model))


def read_unit_locations(path: Path) -> Locations:
    """The locations of a unit. Raises DatasetError where the file is malformed, or its lists differ in shape."""
    found = read_as(path, Locations, _MOST_BYTES, "a file of locations")
    for name in ("feature", "position", "token_id"):
        grid = getattr(found, name)
        if grid is not None and _shape(grid) != found.shape:
            raise DatasetError(f"{path}: {name}: not sequences x ranks x layers, as the first sequence's features are")
    return found


def _shape(grid: list[list[list[int]]]) -> tuple[int, int, int] | None:
    """(B, k, L) of a grid; None where its rows differ in length."""
    ranks, layers = {len(sequence) for sequence in grid}, {len(row) for sequence in grid for row in sequence}
    return (len(grid), ranks.pop(), layers.pop()) if len(ranks) == len(layers) == 1 else None


def locked_in(locations: xr.Dataset) -> pd.DataFrame:
    """The coordinate of each layer's largest value at the last step, and since which step it has been that one.

    The coordinate at a step is the feature that most sequences have their largest value in. It has locked in at the
    first step from which it stays the same to the last.

    Returns:
        a row a layer: feature, position (the most common), locked_in_step, and the shares of the sequences that have
        their largest value in that feature and at that position at the last step.
    """
    import numpy as np
    import pandas as pd

    top = locations.sel(rank=1).transpose("step", "layer", "sequence")
    feature, position = top["feature"].values, top["position"].values
    steps = locations["step"].values
    rows = []
    for layer in range(feature.shape[1]):
        modal = np.array([most_common(feature[step, layer]) for step in range(len(steps))])
        since = len(modal) - int(np.argmin((modal == modal[-1])[::-1])) if (modal != modal[-1]).any() else 0
        place = most_common(position[-1, layer])
        rows.append(
            {
                "feature": int(modal[-1]),
                "position": place,
                "locked_in_step": int(steps[since]),
                "feature_share": float((feature[-1, layer] == modal[-1]).mean()),
                "position_share": float((position[-1, layer] == place).mean()),
            }
        )
    return pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="layer"))


def most_common(values: np.ndarray) -> int:
    """The whole number that occurs most often, of several the smallest."""
    import numpy as np

    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])
