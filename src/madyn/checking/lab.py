"""Models of the lab: whether their units are of the run that is recorded, and whether what the lab keeps is whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from madyn.checking.records import Records
from madyn.dataset import layout
from madyn.dataset.files import is_local
from madyn.dataset.lab_files import kept_faults


def lab_faults(root: Path, records: Mapping[str, Records]) -> Iterator[str]:
    """What is wrong with what the lab keeps for its models. Records that cannot be read are said elsewhere.

    Args:
        records: of all models of the dataset, by name.
    """
    if is_local(root):
        yield from kept_faults(root, {name: one.training for name, one in records.items() if one.training is not None})


def run_faults(records: Records) -> Iterator[str]:
    """Whether the units of a model are of the run that its training record tells of."""
    if records.training is None:
        return
    run, told = records.training.run_sha256, layout.training_path(records.root, records.model)
    for step, unit in records.units.items():
        if unit.run_sha256 not in (None, run):
            path = layout.manifest_path(records.root, records.model, step)
            yield f"{path}: measured in another run than {told} tells of; run `madyn lab` again"
