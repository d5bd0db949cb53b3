"""Manifests and training records: whether they can be read, say what was measured, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from madyn.dataset import Dataset, layout, manifest, seals
from madyn.dataset.files import read_json
from madyn.dataset.training import TrainingRecord, read_record
from madyn.errors import DatasetError, one_line
from madyn.suites import PYTHIA


def manifest_faults(dataset: Dataset, model: str, absences: list[str]) -> Iterator[str]:
    units, _ = manifest.read_sound_units(dataset.path, model)
    there = layout.manifest_files(dataset.path, model)
    if not there:
        absences.append(f"{dataset.path / 'manifest' / model}: no manifest")
        return
    yield from failures_of(dataset.path, model)
    tokens = set()
    for step in layout.statistics_files(dataset.path, model):
        unit = units.get(step)
        if unit is None:
            if step not in there:
                yield f"{layout.manifest_path(dataset.path, model, step)}: no such file, and the step is measured"
            continue
        tokens.add(unit.tokens_sha256)
    if len(tokens) > 1:
        yield f"{dataset.path / 'manifest' / model}: steps were measured on different tokens"


def missing_units(dataset: Dataset, model: str) -> list[str]:
    """What keeps a model from being complete: failures, units cut short, for Pythia published steps not there."""
    (units, _), measured = manifest.read_sound_units(dataset.path, model), set(dataset.steps(model))
    missing = failures_of(dataset.path, model)
    record, _ = _record(dataset.path, model)
    if record is not None and not record.complete and not record.failure:
        missing.append(f"{model}: its training stopped at step {max(record.losses, default=0)}; run `madyn lab` again")
    known = next((name for name in PYTHIA.architectures if layout.directory_name(name) == model), None)
    absent = [step for step in PYTHIA.grids["paper"] if step not in measured and step not in units] if known else []
    if absent:
        missing.append(f"{model}: {len(absent)} of the paper's steps are not measured, {absent[0]} first")
    return missing


def damaged_records(root: Path, model: str) -> list[str]:
    """What is wrong with the manifests and the training record of a model that cannot be read."""
    _, damaged = manifest.read_sound_units(root, model)
    _, record = _record(root, model)
    return [*damaged, *([record] if record else [])]


def failures_of(root: Path, model: str) -> list[str]:
    """The units of a model that have a manifest and no statistics, each with the reason; manifests that are damaged."""
    measured = layout.statistics_files(root, model)
    record, damaged_record = _record(root, model)
    again = "madyn lab" if layout.training_path(root, model).exists() else "madyn trace"
    found = [f"{damaged_record}; put the file back, or train the model again"] if damaged_record else []
    if record is not None and record.failure:
        found.append(f"{layout.training_path(root, model)}: {model} failed: {one_line(record.failure)}")
    units, damaged = manifest.read_sound_units(root, model)
    found += [f"{fault}; delete the file and its step's statistics, and run `{again}` again" for fault in damaged]
    for step, unit in units.items():
        if step not in measured:
            reason = f"failed: {one_line(unit.failure)}" if unit.failure else f"was cut short; run `{again}` again"
            found.append(f"{layout.manifest_path(root, model, step)}: {model} step {step} {reason}")
    return found


def _record(root: Path, model: str) -> tuple[TrainingRecord | None, str | None]:
    """A model's training record, or what is wrong with it."""
    try:
        return read_record(root, model), None
    except DatasetError as e:
        return None, str(e)


def training_faults(root: Path, model: str) -> Iterator[str]:
    """Whether a training record is what was written. One that cannot be read is among `failures_of`."""
    path = layout.training_path(root, model)
    record, _ = _record(root, model)
    fault = seals.seal_fault(read_json(path), model) if record is not None else None
    if fault:
        yield f"{path}: {fault}; put the file back, or train the model again"


def remarks_of(dataset: Dataset, model: str) -> Iterator[str]:
    """What the manifest says of units that were measured all the same."""
    units, _ = manifest.read_sound_units(dataset.path, model)  # the damaged ones are said already
    for step, unit in units.items():
        yield from (f"{layout.manifest_path(dataset.path, model, step)}: {one_line(remark)}" for remark in unit.remarks)
    sources = list(dict.fromkeys(unit.source for unit in units.values() if unit.failure is None))
    if len(sources) > 1:
        named = f"{one_line(sources[0], 200)} and {one_line(sources[1], 200)}"
        yield f"{dataset.path / 'manifest' / model}: steps were measured from several places, {named} among them"
