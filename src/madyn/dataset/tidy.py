"""A dataset as tables that other programs read: a row a value, names in words, nothing nested.

`statistics` has a row for each model, step, sequence and layer. Pythia's nine models at all their steps and a hundred
sequences are three million rows, so they come in blocks of a hundred thousand, and never more than one model is held.
The other tables are small: the parameter table, all fits, the models (shape, what was measured, with what), and the
losses of models that the lab has trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from madyn.architecture import FIELDS
from madyn.dataset import fit_files, layout, manifest
from madyn.dataset.files import is_there
from madyn.dataset.long_form import statistics_rows
from madyn.dataset.manifest import Unit
from madyn.dataset.training import TrainingRecord
from madyn.dataset.view import Dataset
from madyn.errors import ArchitectureError, DatasetError
from madyn.features import SIZE
from madyn.terminal import say_wrong

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

BLOCK = 1 << 17
"""Rows of a block of statistics; a single step of a model is never cut."""


class Column(NamedTuple):
    """What a column of `statistics` holds, in words, and in which unit; "1" is a number without one."""

    about: str
    unit: str


STATISTICS: Mapping[str, Column] = {
    "model": Column("the model's directory in the dataset", ""),
    "step": Column("training step of the checkpoint", "step"),
    "sequence": Column("which sequence of the probe, from 0", ""),
    "layer": Column("decoder layer, from 0, whose own output the values are of", ""),
    "top1": Column("largest |h| over positions and features of the sequence", "1"),
    "top2": Column("second largest |h|", "1"),
    "top3": Column("third largest |h|", "1"),
    "median": Column("median |h|, of an even count the lower middle value", "1"),
    "ratio": Column("top1 / median", "1"),
}
"""The columns of `long_form`, in its order."""

VALUES = (*layout.QUANTITIES, "ratio")


Sizes = dict[str, tuple[int, int, list[int]]]
"""Of each model with statistics: sequences, layers, steps."""


def sound_models(dataset: Dataset, sizes: Sizes) -> Iterator[tuple[str, xr.DataArray]]:
    """The statistics of each model, one held at a time, without those whose files are damaged, which is said on
    standard error; `sizes` is filled as they come."""
    for model in dataset:
        part, faults = dataset.sound_part(model)
        for fault in faults:
            say_wrong(fault)
        try:
            values = part.statistics(model)
        except DatasetError as e:
            if not faults:
                say_wrong(str(e))
            continue
        sizes[model] = values.sizes["sequence"], values.sizes["layer"], values["step"].values.tolist()
        yield model, values


def statistics_blocks(dataset: Dataset, sizes: Sizes, rows: int = BLOCK) -> Iterator[pd.DataFrame]:
    """The statistics in long form, by model, step, sequence, layer: some steps of a model at a time.

    Args:
        sizes: filled as the models come.
        rows: of a block at most, where a step has no more.
    """
    for model, values in sound_models(dataset, sizes):
        at_once = max(1, rows // (values.sizes["sequence"] * values.sizes["layer"]))
        for start in range(0, values.sizes["step"], at_once):
            yield statistics_rows(values.isel(step=slice(start, start + at_once)), model)


def small_tables(dataset: Dataset, sizes: Sizes) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """The tables beside the statistics that a dataset has, and why it lacks the others, by name: `parameters`, `fits`,
    `models` and `losses`. Damaged ones are said on standard error."""
    tables, absent = {"models": models_table(dataset, sizes)}, {}
    if is_there(dataset.path / layout.PARAMETER_TABLE):
        try:
            tables["parameters"] = _typed(dataset.parameters)
        except DatasetError as e:
            say_wrong(str(e))
            absent["parameters"] = "damaged"
    else:
        absent["parameters"] = "nothing was fitted yet; `madyn fit` does it"
    fits = fits_table(dataset)
    if len(fits):
        tables["fits"] = fits
    else:
        absent["fits"] = "there are none; `madyn fit` makes them"
    losses = losses_table(dataset)
    if len(losses):
        tables["losses"] = losses
    else:
        absent["losses"] = "no model was trained by the lab"
    return tables, absent


def fits_table(dataset: Dataset) -> pd.DataFrame:
    """A row for each parameter of each fit: model, quantity, layer, hypothesis, parameter, value, standard_error (from
    the covariances), then what is said of the whole fit: r2, aic, message. A fit that failed has one row and no
    parameter."""
    import pandas as pd

    rows = [
        {"model": model, "quantity": quantity, "layer": layer, "hypothesis": name, **part}
        for model in dataset
        for quantity in layout.FITTED_QUANTITIES
        for layer, records in enumerate(dataset.readable_fits(model, quantity) or ())
        for name, record in records.items()
        for part in _parameters(record)
    ]
    return _typed(pd.DataFrame(rows, columns=[*_FIT, *_OF_PARAMETER, *_OF_FIT]))


_FIT = ("model", "quantity", "layer", "hypothesis")
_OF_PARAMETER = ("parameter", "value", "standard_error")
_OF_FIT = ("r2", "aic", "message")


def _parameters(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    whole = {name: record.get(name) for name in _OF_FIT}
    names, values, pcov = record.get("param_names") or (), record.get("popt"), record.get("pcov")
    if not names or values is None:
        yield whole
        return
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        variance = pcov[place][place] if pcov is not None else None
        error = math.sqrt(variance) if variance is not None and 0 <= variance < math.inf else None
        yield {"parameter": name, "value": value, "standard_error": error, **whole}


def models_table(dataset: Dataset, sizes: Sizes) -> pd.DataFrame:
    """A row a model.

    Returns:
        model; the fields of its architecture, empty where nobody knows it; parameters, their number; layers, sequences,
        steps, first_step and last_step, as measured; failed_steps, which could not be measured; source, dtype, length
        (positions of a sequence) and first_token, as the manifest has them; seed and plan (JSON) of the lab's models.
    """
    import pandas as pd

    return _typed(pd.DataFrame([_model_row(dataset, model, sizes) for model in dataset]))


def _model_row(dataset: Dataset, model: str, sizes: Sizes) -> dict[str, Any]:
    units, damaged = manifest.read_sound_units(dataset.path, model)
    for fault in damaged:
        say_wrong(fault)
    try:
        shape, count = dataset.architecture(model).to_dict(), dataset.parameter_count(model)
    except ArchitectureError:
        shape, count = dict.fromkeys(FIELDS), None
    sequences, layers, steps = sizes.get(model, (None, None, []))
    record = _training(dataset, model)
    unit = next((one for one in units.values() if one.failure is None), Unit(model=model, step=0, source=""))
    return {
        "model": model,
        **shape,
        "parameters": count,
        "layers": layers,
        "sequences": sequences,
        "steps": len(steps),
        "first_step": steps[0] if steps else None,
        "last_step": steps[-1] if steps else None,
        "failed_steps": sum(one.failure is not None for one in units.values()),
        "source": unit.source or None,
        "dtype": unit.dtype,
        "length": unit.length,
        "first_token": unit.first_token,
        "seed": record.plan.get("seed") if record else None,
        "plan": json.dumps(record.plan, sort_keys=True, ensure_ascii=False) if record else None,
    }


def losses_table(dataset: Dataset) -> pd.DataFrame:
    """A row for each model of the lab and step at which it was measured: model, step, train (the mean since the step
    before) and held_out, nats a token. No rows for a dataset without such models."""
    import pandas as pd

    rows = []
    for model in dataset:
        record = _training(dataset, model)
        for step, losses in sorted(record.losses.items()) if record else ():
            rows.append({"model": model, "step": step, **{name: losses.get(name) for name in ("train", "held_out")}})
    table = pd.DataFrame(rows, columns=["model", "step", "train", "held_out"])
    return table.astype({"train": float, "held_out": float})


def _training(dataset: Dataset, model: str) -> TrainingRecord | None:
    try:
        return dataset.training(model)
    except DatasetError as e:
        say_wrong(str(e))
        return None


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose columns have one type each, whatever is missing: a count stays a whole number, and text of which
    all is missing is text."""
    return table.assign(**{name: _column(table[name], name) for name in table.columns})


def _column(column: Any, name: str) -> Any:
    import pandas as pd

    if name not in _TEXT:
        known = column.dropna()
        if len(known) and all(isinstance(value, bool) for value in known):
            return column.astype("boolean")
        numbers: Any = pd.to_numeric(column, errors="coerce")
        if numbers.notna().sum() == len(known):
            is_count = name in _COUNTS and (numbers.dropna() % 1 == 0).all()
            return numbers.astype("Int64" if is_count else float)
    return column.map(str, na_action="ignore").astype("str")


_COUNTS = frozenset(
    ("layer", "layer_index", "layers", "sequences", "steps", "first_step", "last_step", "failed_steps", "parameters",
     "length", "seed", *(name for name, one in FIELDS.items() if one.kind is SIZE))
)  # fmt: skip
_TEXT = frozenset(
    ("source", "dtype", "first_token", "plan", "quantity", "hypothesis", "parameter", *fit_files.TEXT_COLUMNS)
)
