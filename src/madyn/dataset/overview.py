"""A line a model for whoever looks at a dataset at a prompt: from the names of its files and the last one of them, so
that a dataset of a thousand files shows itself at once, and a damaged one all the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.dataset import layout
from madyn.dataset.statistics import read_statistics
from madyn.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("model", "steps", "last step", "sequences", "layers", "largest ratio", "in layer")


def model_rows(path: Path, models: Iterable[str]) -> pd.DataFrame:
    """A row a model: how many steps were measured and the last of them; sequences, layers, and the largest ratio over
    the layers there (top1 / median, a mean over sequences). Nothing is said of a file that cannot be read."""
    import pandas as pd

    return pd.DataFrame([_row(path, model) for model in models], columns=list(_COLUMNS), dtype=object)


def _row(path: Path, model: str) -> dict[str, Any]:
    files = layout.statistics_files(path, model)
    row: dict[str, Any] = {"model": model, "steps": len(files)}
    if not files:
        return row
    last = max(files)
    row["last step"] = last
    try:
        values = read_statistics(files[last])
    except DatasetError:
        return row
    with np.errstate(all="ignore"):
        ratios = (values[:, 0] / values[:, 3]).mean(axis=0)
    row |= {"sequences": len(values), "layers": len(ratios), "largest ratio": float(ratios.max())}
    return {**row, "in layer": int(ratios.argmax())}
