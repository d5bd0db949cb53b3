"""Models of the lab: whether their units are of the run that is recorded, and whether what the lab keeps is whole."""

from __future__ import annotations

from collections.abc import Iterator

from madyn.dataset import Dataset, layout, manifest
from madyn.dataset.files import is_local
from madyn.dataset.lab_files import kept_faults
from madyn.dataset.training import TrainingRecord, read_record
from madyn.errors import DatasetError


def lab_faults(dataset: Dataset) -> Iterator[str]:
    """What is wrong with the models of the lab. Records that cannot be read are said elsewhere."""
    records: dict[str, TrainingRecord] = {}
    for model in {*dataset.models, *layout.manifest_models(dataset.path)}:
        try:
            record = read_record(dataset.path, model)
        except DatasetError:
            continue
        if record is not None:
            records[model] = record
    for model, record in sorted(records.items()):
        units, _ = manifest.read_sound_units(dataset.path, model)
        for step, unit in units.items():
            if unit.run_sha256 not in (None, record.run_sha256):
                path, told = layout.manifest_path(dataset.path, model, step), layout.training_path(dataset.path, model)
                yield f"{path}: measured in another run than {told} tells of; run `madyn lab` again"
    if is_local(dataset.path):
        yield from kept_faults(dataset.path, records)
