"""Whether a folder is what the layout says, file by file: shapes, values, names, and whether fits match statistics.

`check_dataset` finds everything that is wrong instead of stopping at the first fault, and tells what is merely absent
(pictures that were not drawn, a step that failed) from what is wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from madyn.dataset import fit_files, layout, manifest
from madyn.dataset.files import read_bytes, read_json
from madyn.dataset.repeats import describe_repeats
from madyn.dataset.statistics import read_statistics
from madyn.dataset.training import read_record
from madyn.dataset.view import Dataset, open_dataset
from madyn.errors import DatasetError, MadynError
from madyn.suites import PYTHIA


@dataclass
class CheckReport:
    """What was found: `faults` are wrong, `absences` are not there and need not be, `remarks` are worth knowing."""

    faults: list[str] = field(default_factory=list)
    absences: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        first = f"\n {self.faults[0]}" if self.faults else ""
        return (
            f"<madyn CheckReport: {len(self.faults)} faults, {len(self.remarks)} remarks, {len(self.absences)} absences"
            f"{first}>"
        )


def check_dataset(path: str | Path) -> CheckReport:
    """Validate a dataset's layout, shapes and values.

    Raises:
        DatasetError: there is no dataset at all.
    """
    dataset = open_dataset(path)
    report = CheckReport()
    try:
        manifest.read_probe(dataset.path)
    except DatasetError as e:
        report.faults.append(str(e))
    for model in layout.manifest_models(dataset.path):
        if model not in dataset.models:
            report.faults += failures_of(dataset.path, model)
    for model in dataset:
        report.faults += _statistics_faults(dataset, model)
        report.faults += _manifest_faults(dataset, model, report.absences)
        for fault, said in describe_repeats(dataset, model):
            (report.faults if fault else report.remarks).append(f"{dataset.path / model}: {said}")
        report.faults += _fit_faults(dataset, model, report.absences)
        report.remarks += _remarks(dataset, model)
        for folder in ("series", "per_layer_evolution", "example_fits", "metrics"):
            if not any((dataset.path / model / folder).rglob("*.png")):
                report.absences.append(f"{dataset.path / model / folder}: no figures")
    report.faults += _table_faults(dataset, report.absences)
    return report


def _statistics_faults(dataset: Dataset, model: str) -> Iterator[str]:
    files = layout.statistics_files(dataset.path, model)
    expected = {layout.statistics_path(dataset.path, model, step) for step in files}
    for path in sorted(layout.statistics_folder(dataset.path, model).iterdir()):
        if path not in expected and not path.name.startswith("."):
            yield f"{path}: not a statistics file's name (exp2_{model}_stepN)"
    if not files:
        yield f"{layout.statistics_folder(dataset.path, model)}: no statistics files"
    shape: tuple[int, ...] | None = None
    for path in files.values():
        try:
            values = read_statistics(path)
        except DatasetError as e:
            yield f"{e}; {_remedy(dataset, model, path)}"
            continue
        shape = shape or values.shape
        if values.shape != shape:
            yield (
                f"{path}: shape {values.shape} where the first step has {shape}; {_remedy(dataset, model, path)} if it "
                "is the one that is wrong"
            )
        yield from (f"{path}: {fault}" for fault in _value_faults(values))


def _remedy(dataset: Dataset, model: str, path: Path) -> str:
    """What to do with a statistics file that is damaged."""
    if layout.training_path(dataset.path, model).exists():
        return f"delete {path} and run `madyn lab` again"
    if layout.manifest_files(dataset.path, model):
        return f"delete {path} and run `madyn trace` again"
    return f"fetch it again, or delete {path} and run `madyn trace` to measure the step anew"


def _value_faults(values: np.ndarray) -> Iterator[str]:
    if not np.isfinite(values).all():
        yield f"{int((~np.isfinite(values)).sum())} values are not finite"
    elif (values < 0).any():
        yield "a magnitude is below zero"
    elif (np.diff(values, axis=1) > 0).any():
        yield "not in the order top1 >= top2 >= top3 >= median"


def missing_units(dataset: Dataset, model: str) -> list[str]:
    """What keeps a model from being complete: failures, units cut short, for Pythia published steps not there."""
    (units, _), measured = manifest.read_sound_units(dataset.path, model), set(dataset.steps(model))
    missing = failures_of(dataset.path, model)
    record = dataset.training(model)
    if record is not None and not record.complete and not record.failure:
        missing.append(f"{model}: its training stopped at step {max(record.losses, default=0)}; run `madyn lab` again")
    known = next((name for name in PYTHIA.architectures if layout.directory_name(name) == model), None)
    absent = [step for step in PYTHIA.grids["paper"] if step not in measured and step not in units] if known else []
    if absent:
        missing.append(f"{model}: {len(absent)} of the paper's steps are not measured, {absent[0]} first")
    return missing


def failures_of(root: Path, model: str) -> list[str]:
    """The units of a model that have a manifest and no statistics, each with the reason; manifests that are damaged."""
    measured = layout.statistics_files(root, model)
    record = read_record(root, model)
    again = "madyn lab" if record else "madyn trace"
    found = []
    if record is not None and record.failure:
        found.append(f"{layout.training_path(root, model)}: {model} failed: {record.failure}")
    units, damaged = manifest.read_sound_units(root, model)
    found += [f"{fault}; delete the file and its step's statistics, and run `{again}` again" for fault in damaged]
    for step, unit in units.items():
        if step not in measured:
            reason = f"failed: {unit.failure}" if unit.failure else f"was cut short; run `{again}` again"
            found.append(f"{layout.manifest_path(root, model, step)}: {model} step {step} {reason}")
    return found


def _manifest_faults(dataset: Dataset, model: str, absences: list[str]) -> Iterator[str]:
    units, _ = manifest.read_sound_units(dataset.path, model)
    there = layout.manifest_files(dataset.path, model)
    if not there:
        absences.append(f"{dataset.path / 'manifest' / model}: no manifest")
        return
    yield from failures_of(dataset.path, model)
    tokens = set()
    for step, path in layout.statistics_files(dataset.path, model).items():
        unit = units.get(step)
        if unit is None:
            if step not in there:
                yield f"{layout.manifest_path(dataset.path, model, step)}: no such file, and the step is measured"
            continue
        tokens.add(unit.tokens_sha256)
        if unit.statistics_sha256 not in (None, hashlib.sha256(read_bytes(path)).hexdigest()):
            what = f"{path}: not what was measured: its SHA-256 is not the one in the manifest"
            yield f"{what}; {_remedy(dataset, model, path)}"
    if len(tokens) > 1:
        yield f"{dataset.path / 'manifest' / model}: steps were measured on different tokens"


def _remarks(dataset: Dataset, model: str) -> Iterator[str]:
    """What the manifest says of units that were measured all the same."""
    units, _ = manifest.read_sound_units(dataset.path, model)  # the damaged ones are said already
    for step, unit in units.items():
        yield from (f"{layout.manifest_path(dataset.path, model, step)}: {remark}" for remark in unit.remarks)


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
            continue
        for number, layer in enumerate(records):
            values = _fitted_values(dataset, model, quantity, number, layer)
            for name, record in layer.items():
                yield from (f"{path}: layer {number}, {name}: {fault}" for fault in _record_faults(record, values))
    yield from _combined_faults(dataset, model)


def _fitted_values(dataset: Dataset, model: str, quantity: str, number: int, layer: Mapping[str, Any]) -> np.ndarray:
    """The trajectory that the records of a layer were fitted to, by the mean that they name."""
    kinds = {(record.get("provenance") or {}).get("ratio_of") for record in layer.values()}
    ratio_of = "means" if kinds == {"means"} else "sequences"
    return dataset.trajectories(model, quantity, ratio_of).values[:, number]


def _record_faults(record: Mapping[str, Any], values: np.ndarray) -> Iterator[str]:
    missing = [key for key in fit_files.RECORD_KEYS if key not in record]
    if missing:
        yield f"no {', '.join(missing)}"
        return
    if record["r2"] is None:
        return
    residuals = np.array(record["residuals"], dtype=object).astype(float)
    seen = np.isfinite(residuals)
    r2 = 1 - np.sum(residuals[seen] ** 2) / np.sum((values[seen] - values[seen].mean()) ** 2)
    if not np.isclose(r2, record["r2"], rtol=1e-6, atol=1e-6):
        yield f"r2 is {record['r2']:.6g}, and its residuals give {r2:.6g}"


def _combined_faults(dataset: Dataset, model: str) -> Iterator[str]:
    """The file for all quantities must say what the files of each say."""
    path = layout.params_path(dataset.path, model)
    by_quantity = {q: layout.params_path(dataset.path, model, q) for q in layout.FITTED_QUANTITIES}
    try:
        combined = read_json(path)
        for quantity, own in by_quantity.items():
            if own.exists() and [layer.get(quantity) for layer in combined] != read_json(own):
                yield f"{path}: its fits of the {quantity} are not those of {own.name}"
    except DatasetError as e:
        yield str(e)
    except (AttributeError, TypeError):
        yield f"{path}: not a list of layers"


def _made_from(record: dict[str, Any]) -> str | None:
    """The hash of the statistics that a fit came from; None for one that does not say."""
    return (record.get("provenance") or {}).get("statistics_sha256")


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
    missing = [column for column in fit_files.CARD_COLUMNS if column not in table.columns]
    if missing:
        yield f"{path}: no column {', '.join(missing)}"
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
