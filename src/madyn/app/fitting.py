"""What the tab "Fit" shows: somebody's own numbers with curves, what those determine, and what they say of later steps.

Files are read as safely as those of a dataset: nothing is evaluated, and sizes are bounded.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from madyn.curves import fit_curves, posterior
from madyn.dataset.files import read_bytes
from madyn.dataset.layout import step_of_file
from madyn.dataset.statistics import parse_statistics
from madyn.errors import DatasetError, UsageError, quoted
from madyn.report import charts
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

MOST_BYTES = 20_000_000
"""Of what is dropped, all files together."""

_MOST_SERIES = 200
_MOST_ROWS = 100_000


@dataclass(frozen=True)
class Series:
    """Numbers to fit: steps (n,), values (series, n), and what each series is called."""

    steps: Array
    values: Array
    names: list[str]


@dataclass(frozen=True)
class Fitted:
    """What came of a fit: a picture, what it says in words, and a row a series and hypothesis."""

    chart: Figure
    words: str
    table: pd.DataFrame


def read_series(paths: Sequence[str | Path]) -> Series:
    """Numbers from a CSV file (steps, then a column a series), or from statistics files of one model.

    Raises:
        UsageError: nothing was given, or more than `MOST_BYTES`.
        DatasetError: a file is not what it should be; it says where.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise UsageError("drop a CSV file (steps, then a column a series), or the files of a model's stats folder")
    size = sum(path.stat().st_size for path in files)
    if size > MOST_BYTES:
        raise UsageError(f"{size / 1e6:.0f} MB are more than the {MOST_BYTES / 1e6:.0f} MB that are read here")
    if len(files) == 1 and step_of_file(files[0].name) is None:
        return _of_csv(files[0])
    return _of_statistics(files)


def _of_csv(path: Path) -> Series:
    name = path.name
    try:
        text = read_bytes(path, MOST_BYTES).decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as e:
        raise DatasetError(f"{name}: not a table of comma-separated values in UTF-8: {e}") from e
    if len(rows) > _MOST_ROWS or (rows and len(rows[0]) > 1 + _MOST_SERIES):
        raise DatasetError(f"{name}: at most {_MOST_ROWS:,} rows and {_MOST_SERIES} series are read")
    head = rows[0] if rows and any(_number(cell) is None for cell in rows[0]) else []
    body = rows[1:] if head else rows
    width = len(rows[0]) if rows else 0
    if width < 2 or not body:
        raise DatasetError(f"{name}: a column of steps and at least one of values are needed")
    numbers = np.empty((len(body), width))
    for i, row in enumerate(body):
        where = f"{name}: line {i + 1 + bool(head)}"
        if len(row) != width:
            raise DatasetError(f"{where} has {len(row)} cells where the first has {width}")
        for j, cell in enumerate(row):
            value = _number(cell)
            if value is None:
                raise DatasetError(f"{where}, column {j + 1}: {quoted(cell)} is no number")
            numbers[i, j] = value
    names = [cell.strip() for cell in head[1:]] if head else [f"column {j + 1}" for j in range(1, width)]
    order = np.argsort(numbers[:, 0], kind="stable")
    return Series(numbers[order, 0], numbers[order, 1:].T, names)


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _of_statistics(files: Sequence[Path]) -> Series:
    steps = {path: step_of_file(path.name) for path in files}
    strange = next((path.name for path, step in steps.items() if step is None), None)
    if strange is not None:
        raise DatasetError(f"{quoted(strange)} has not the name of a statistics file, exp2_MODEL_stepN")
    found = {int(step or 0): parse_statistics(path, read_bytes(path, MOST_BYTES)) for path, step in steps.items()}
    shapes = {values.shape for values in found.values()}
    if len(shapes) > 1:
        raise DatasetError(
            f"these files differ in shape: {', '.join(map(str, sorted(shapes)))}; give those of one model"
        )
    ordered = sorted(found)
    table = np.stack([found[step] for step in ordered])  # step, sequence, quantity, layer
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (table[:, :, 0] / table[:, :, 3]).mean(axis=1)
    return Series(np.array(ordered, float), ratio.T, [f"ratio of layer {layer}" for layer in range(ratio.shape[1])])


def fit_series(series: Series, hypotheses: Sequence[str], shown: str, last_step: float | None = None) -> Fitted:
    """Fit curves to all series, and show one.

    Args:
        hypotheses: names of curves; of several the picture shows each.
        shown: the name of the series in the picture.
        last_step: up to which step the band goes on; the last one of the data by default.

    Raises:
        UsageError: no curve or no such series, too few steps, or a last step within the data.
    """
    import pandas as pd

    if not hypotheses:
        raise UsageError("choose a hypothesis")
    if shown not in series.names:
        raise UsageError(f"there is no series {quoted(shown)}")
    end = float(series.steps[-1])
    if last_step is not None and last_step < end:
        raise UsageError(f"the last step is {last_step:g}, before the last one of the data, {end:g}")
    at, fine = series.names.index(shown), charts.fine_steps(series.steps, last_step)
    rows, curves, words = [], {}, []
    for name in hypotheses:
        fits = fit_curves(series.steps, series.values, hypothesis=name)
        for one, r2, aic, popt in zip(series.names, fits.r2, fits.aic, fits.popt, strict=True):
            rows.append({"series": one, "hypothesis": name, "R2": r2, "AIC": aic,
                         **dict(zip(fits.hypothesis.param_names, popt, strict=True))})  # fmt: skip
        words.append(fits.summary(at))
        curves[name] = fits.predict(fine)[at]
    band = None
    if "reparam" in hypotheses and (series.values[at] > 0).all():
        found = posterior(series.steps, series.values[[at]], last_step=last_step or end)
        band = found.forecast(fine).isel(series=0)
    chart = charts.own_fit(series.steps, series.values[at], shown, curves, fine, band)
    return Fitted(chart, "\n\n".join(words), pd.DataFrame(rows))
