"""Manifests and training records: whether they can be read, say what was measured, and what is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from madyn.checking.statistics import remedy
from madyn.dataset import Dataset, layout, manifest
from madyn.dataset.files import read_bytes
from madyn.dataset.training import read_record
from madyn.suites import PYTHIA


def manifest_faults(dataset: Dataset, model: str, absences: list[str]) -> Iterator[str]:
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
            yield f"{what}; {remedy(dataset, model, path)}"
    if len(tokens) > 1:
        yield f"{dataset.path / 'manifest' / model}: steps were measured on different tokens"


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


def remarks_of(dataset: Dataset, model: str) -> Iterator[str]:
    """What the manifest says of units that were measured all the same."""
    units, _ = manifest.read_sound_units(dataset.path, model)  # the damaged ones are said already
    for step, unit in units.items():
        yield from (f"{layout.manifest_path(dataset.path, model, step)}: {remark}" for remark in unit.remarks)
