"""Statistics files: names, shapes and values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from madyn.dataset import Dataset, layout
from madyn.dataset.files import list_folder
from madyn.dataset.statistics import read_statistics
from madyn.errors import DatasetError, one_line


def statistics_faults(dataset: Dataset, model: str) -> Iterator[str]:
    files = layout.statistics_files(dataset.path, model)
    expected = {layout.statistics_path(dataset.path, model, step) for step in files}
    for path in sorted(list_folder(layout.statistics_folder(dataset.path, model))):
        if path not in expected and not path.name.startswith("."):
            yield f"{one_line(path)}: not a statistics file's name (exp2_{model}_stepN)"
    if not files:
        yield f"{layout.statistics_folder(dataset.path, model)}: no statistics files"
    shape: tuple[int, ...] | None = None
    for path in files.values():
        try:
            values = read_statistics(path)
        except DatasetError as e:
            yield f"{e}; {remedy(dataset, model, path)}"
            continue
        shape = shape or values.shape
        if values.shape != shape:
            yield (
                f"{path}: shape {values.shape} where the first step has {shape}; {remedy(dataset, model, path)} if it "
                "is the one that is wrong"
            )
        yield from (f"{path}: {fault}" for fault in _value_faults(values))


def remedy(dataset: Dataset, model: str, path: Path) -> str:
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
