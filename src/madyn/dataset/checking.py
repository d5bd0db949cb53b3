"""Whether a folder is what the layout says, file by file: shapes, values, names, and whether fits match statistics.

`check_dataset` finds everything that is wrong instead of stopping at the first fault, and tells what is merely absent
(pictures that were not drawn, a step that failed) from what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from madyn.dataset import fit_files, layout, manifest
from madyn.dataset.statistics import read_statistics
from madyn.dataset.view import Dataset, open_dataset
from madyn.errors import DatasetError, MadynError


@dataclass
class CheckReport:
    """What was found: `faults` are wrong, `absences` are not there and need not be."""

    faults: list[str] = field(default_factory=list)
    absences: list[str] = field(default_factory=list)


def check_dataset(path: str | Path) -> CheckReport:
    """Validate a dataset's layout, shapes and values.

    Raises:
        DatasetError: there is no dataset at all.
    """
    dataset = open_dataset(path)
    report = CheckReport()
    for model in dataset:
        report.faults += _statistics_faults(dataset, model)
        report.faults += _manifest_faults(dataset, model)
        report.faults += _fit_faults(dataset, model, report.absences)
        for folder in ("series", "per_layer_evolution", "example_fits", "metrics"):
            if not any((dataset.path / model / folder).rglob("*.png")):
                report.absences.append(f"{dataset.path / model / folder}: no figures")
    report.faults += _table_faults(dataset, report.absences)
    return report


def _statistics_faults(dataset: Dataset, model: str) -> Iterator[str]:
    files = layout.statistics_files(dataset.path, model)
    for path in layout.statistics_folder(dataset.path, model).iterdir():
        if path not in files.values() and not path.name.startswith("."):
            yield f"{path}: not a statistics file's name (exp2_{model}_stepN)"
    if not files:
        yield f"{layout.statistics_folder(dataset.path, model)}: no statistics files"
    shape: tuple[int, ...] | None = None
    for path in files.values():
        try:
            values = read_statistics(path)
        except DatasetError as e:
            yield str(e)
            continue
        shape = shape or values.shape
        if values.shape != shape:
            yield f"{path}: shape {values.shape} where the first step has {shape}"
        yield from (f"{path}: {fault}" for fault in _value_faults(values))


def _value_faults(values: np.ndarray) -> Iterator[str]:
    if not np.isfinite(values).all():
        yield f"{int((~np.isfinite(values)).sum())} values are not finite"
    elif (values < 0).any():
        yield "a magnitude is below zero"
    elif (np.diff(values, axis=1) > 0).any():
        yield "not in the order top1 >= top2 >= top3 >= median"


def _manifest_faults(dataset: Dataset, model: str) -> Iterator[str]:
    try:
        units = manifest.read_units(dataset.path, model)
    except DatasetError as e:
        yield str(e)
        return
    measured = set(layout.statistics_files(dataset.path, model))
    for step, unit in units.items():
        path = layout.manifest_path(dataset.path, model, step)
        if unit.failure is not None and step not in measured:
            yield f"{path}: step {step} failed: {unit.failure}"
        elif unit.failure is None and step not in measured:
            yield f"{path}: step {step} has no statistics file; run `madyn trace` again"
    if len({unit.tokens_sha256 for step, unit in units.items() if step in measured}) > 1:
        yield f"{dataset.path / 'manifest' / model}: steps were measured on different tokens"


def _fit_faults(dataset: Dataset, model: str, absences: list[str]) -> Iterator[str]:
    if not (dataset.path / model / "params").is_dir():
        absences.append(f"{dataset.path / model / 'params'}: not fitted yet")
        return
    try:
        layers, current = dataset.statistics(model).sizes["layer"], dataset.statistics_hash(model)
    except MadynError:
        return  # the statistics themselves are at fault, and that is said already
    for quantity in layout.FITTED_QUANTITIES:
        path = layout.params_path(dataset.path, model, quantity)
        if not path.exists():
            absences.append(f"{path}: no fits of the {quantity}")
            continue
        try:
            records = fit_files.read_fit_records(dataset.path, model, quantity)
            if {_made_from(record) for layer in records for record in layer.values()} - {None, current}:
                yield f"{path}: fitted to other statistics than are there now; run `madyn fit` again"
                continue
            dataset.fits(model, quantity)
        except DatasetError as e:
            yield str(e)
            continue
        if len(records) != layers:
            yield f"{path}: {len(records)} layers where the statistics have {layers}"
        for number, layer in enumerate(records):
            for name, record in layer.items():
                missing = [key for key in fit_files.RECORD_KEYS if key not in record]
                if missing:
                    yield f"{path}: layer {number}, {name}: no {', '.join(missing)}"


def _made_from(record: dict[str, Any]) -> str | None:
    """The hash of the statistics that a fit came from; None for one that does not say."""
    return record.get("provenance", {}).get("statistics_sha256")


def _table_faults(dataset: Dataset, absences: list[str]) -> Iterator[str]:
    path = dataset.path / layout.PARAMETER_TABLE
    if not path.exists():
        absences.append(f"{path}: not fitted yet")
        return
    try:
        table = fit_files.read_parameter_table(dataset.path)
    except DatasetError as e:
        yield str(e)
        return
    for model in sorted(set(table["model"]) - set(dataset.models)):
        yield f"{path}: rows of {model}, which has no statistics"
    for model in dataset:
        found = sorted(table.loc[table["model"] == model, "layer_index"])
        try:
            layers = dataset.statistics(model).sizes["layer"]
        except MadynError:
            continue
        if not found:
            absences.append(f"{path}: no rows of {model}")
        elif found != list(range(layers)):
            yield f"{path}: {model}: the layers of its rows are not 0 to {layers - 1}, once each"
