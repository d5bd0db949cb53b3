"""Records of monitors: whether each can be read, is as it was written, and tells of a model that is there."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from madyn.dataset import layout, seals
from madyn.dataset.files import list_folder, read_json
from madyn.dataset.monitoring import read_monitor
from madyn.errors import DatasetError, one_line

_AGAIN = "put the file back, or go on without it: a monitor that goes on with the run writes it anew"


def monitor_faults(root: Path, models: Collection[str]) -> Iterator[str]:
    """What is wrong with the records of monitors.

    Args:
        models: those that the dataset has measurements of, or failures. A run of which no step was measured yet is no
            fault.
    """
    files = layout.monitor_files(root)
    for path in sorted(set(list_folder(layout.monitor_folder(root))) - set(files.values())):
        if path != layout.monitor_inputs_path(root) and not path.name.startswith("."):
            yield f"{path}: not read: a monitor's record is called MODEL.json, after a model's directory"
    for model, path in files.items():
        try:
            record, fault = read_monitor(root, model), seals.seal_fault(read_json(path), model)
        except DatasetError as e:
            yield f"{e}; {_AGAIN}"
            continue
        if fault:
            yield f"{path}: {fault}; {_AGAIN}"
        elif record is not None and record.model != model:
            yield f"{path}: is the record of {one_line(record.model, 60)}; {_AGAIN}"
        elif record is not None and record.step is not None and model not in models:
            yield f"{path}: tells of {model} at step {record.step}, and the dataset has no measurement of it"
