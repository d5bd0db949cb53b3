"""The parameter table: its columns, and each row, cell by cell, against the fits that it was made from.

Where the fits themselves are not there (a dataset may be passed on without them), a row is held against what can be
made of it alone: the statistics that it names, and the peak and R2 that its parameters give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from madyn.analysis.fitting import table_rows
from madyn.architecture import CARD, FIELDS
from madyn.checking.fits import made_from
from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.dataset import Dataset, fit_files, layout
from madyn.dataset.files import is_there
from madyn.dataset.table_cells import as_number
from madyn.errors import DatasetError, MadynError, one_line

Row = Mapping[str, str]


def table_faults(dataset: Dataset, absences: list[str]) -> Iterator[str]:
    path = dataset.path / layout.PARAMETER_TABLE
    if not is_there(path):
        absences.append(f"{path}: not fitted yet")
        return
    try:
        fit_files.read_parameter_table(dataset.path)
        rows = fit_files.read_table_rows(dataset.path)
    except DatasetError as e:
        yield str(e)
        return
    missing = [column for column in fit_files.CARD_COLUMNS if rows and column not in rows[0]]
    if missing:
        yield f"{path}: no column {', '.join(missing)}"
        return
    by_model: dict[str, list[Row]] = {}
    for row in rows:
        by_model.setdefault(row["model"], []).append(row)
    for model in sorted(set(by_model) - set(dataset.models)):
        yield f"{path}: rows of {one_line(model, 60)}, which has no statistics"
    for model in dataset:
        try:
            yield from (f"{path}: {fault}" for fault in _model_faults(dataset, model, by_model.get(model, [])))
        except MadynError:
            continue  # its statistics or fits cannot be read, and that is said already
        if model not in by_model:
            absences.append(f"{path}: no rows of {model}")


def _later(name: str, row: Row) -> bool:
    """Whether a column is of a feature that the table was written before."""
    return name in FIELDS and name not in CARD and name not in row


def _model_faults(dataset: Dataset, model: str, rows: Sequence[Row]) -> Iterator[str]:
    layers = dataset.statistics(model).sizes["layer"]
    records = _records(dataset, model)
    if not rows:
        if records and all(made_from(layer["reparam"]) for layer in records):
            yield f"no rows of {model}, whose ratio is fitted; run `madyn fit` again"
        return
    by_layer = {int(as_number(row["layer_index"]) or 0): row for row in rows}
    if len(by_layer) < len(rows) or sorted(by_layer) != list(range(layers)):
        yield f"{model}: the layers of its rows are not 0 to {layers - 1}, once each"
        return
    if not any(row.get("statistics_sha256") or row.get("madyn") for row in rows):
        return  # made by another program, which may mean its columns in other ways
    current = dataset.statistics_hash(model)
    for layer, row in by_layer.items():
        if row.get("statistics_sha256") != current:
            yield f"{model}: layer {layer}: fitted to other statistics than are there now; run `madyn fit` again"
            return
    if records and not any(made_from(layer["reparam"]) for layer in records):
        yield f"{model}: its rows say what they were made from, and its fits do not; run `madyn fit` again"
        return
    if records and {made_from(layer["reparam"]) for layer in records} == {current}:
        expected = table_rows(dataset, model, records, dataset.steps(model)[-1])
    else:
        expected = _by_themselves(dataset, model, [by_layer[number] for number in range(layers)])
    for layer, whole in enumerate(expected):
        wrong = [
            name
            for name, value in whole.items()
            if not _same(by_layer[layer].get(name), value) and not _later(name, by_layer[layer])
        ]
        if wrong:
            cell = by_layer[layer].get(wrong[0])
            found = "not there" if cell is None else one_line(repr(cell[:80]), 40)
            yield (
                f"{model}: layer {layer}: {wrong[0]} is {found}, where its fit and its model say "
                f"{one_line(repr(whole[wrong[0]]), 60)}; run `madyn fit` again"
            )


def _records(dataset: Dataset, model: str) -> list[dict[str, dict[str, Any]]]:
    """The ratio's fits by layer; none where there are none, or not of the curve that the table is of."""
    try:
        records = dataset.fit_records(model, "ratio")
    except DatasetError:
        return []
    return records if all("reparam" in layer for layer in records) else []


def _by_themselves(dataset: Dataset, model: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What the rows of a model must say, one a layer, if their own parameters, its statistics and its shape are
    believed."""
    names = fit_files.PARAMETER_COLUMNS.items()
    parameters = [{name: as_number(row[column]) for column, name in names} for row in rows]
    records = [{"reparam": _as_record(row, popt)} for row, popt in zip(rows, parameters, strict=True)]
    expected = table_rows(dataset, model, records, dataset.steps(model)[-1])
    for layer, (row, whole, popt) in enumerate(zip(rows, expected, parameters, strict=True)):
        del whole["bounds"]
        if None not in popt.values():
            r2, given = _r2_of(dataset, model, layer, popt, row.get("ratio_of", "")), whole["r2"]
            if given is None or not np.isclose(given, r2, rtol=1e-6, atol=1e-6):
                whole["r2"] = r2
    return expected


def _as_record(row: Row, popt: Mapping[str, float | None]) -> dict[str, Any]:
    """A row of the table as a fit's record, so far as it has one's fields."""
    known = ("method", "ratio_of", "robust", "seed", "statistics_sha256", "madyn")
    return {
        "param_names": list(popt),
        "popt": list(popt.values()),
        "r2": as_number(row.get("r2", "")),
        "aic": as_number(row.get("aic", "")),
        "message": row.get("message", ""),
        "provenance": {name: row.get(name) or None for name in known},
    }


def _r2_of(dataset: Dataset, model: str, layer: int, popt: Mapping[str, Any], ratio_of: str) -> float:
    """R2 of a reparam curve over the ratio of a layer."""
    curve = HYPOTHESES["reparam"]
    values = dataset.trajectories(model, "ratio", "means" if ratio_of == "means" else "sequences").values[:, layer]
    drawn = curve.values(np.asarray(dataset.steps(model), float), [popt[name] for name in curve.param_names])
    with np.errstate(all="ignore"):
        return float(1 - np.sum((values - drawn) ** 2) / np.sum((values - values.mean()) ** 2))


def _same(cell: str | None, value: Any) -> bool:
    """Whether a cell says a value; one that is not there says nothing."""
    if cell is None:
        return False
    if value is None:
        return cell == ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return as_number(cell) == value
    return cell == str(value)
