"""Statistics files: names, shapes and values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from madyn.checking.records import Records
from madyn.dataset import layout
from madyn.dataset.files import list_folder
from madyn.dataset.statistics import read_statistics
from madyn.errors import DatasetError, one_line


def statistics_faults(records: Records) -> Iterator[str]:
    root, model, files = records.root, records.model, records.measured
    expected = {layout.statistics_path(root, model, step) for step in files}
    for path in sorted(list_folder(layout.statistics_folder(root, model))):
        if path not in expected and not path.name.startswith("."):
            yield f"{one_line(path)}: not a statistics file's name (exp2_{model}_stepN)"
    if not files:
        yield f"{layout.statistics_folder(root, model)}: no statistics files"
    shape: tuple[int, ...] | None = None
    for path in files.values():
        try:
            values = read_statistics(path)
        except DatasetError as e:
            yield f"{e}; {records.again}"
            continue
        shape = shape or values.shape
        if values.shape != shape:
            yield (
                f"{path}: shape {values.shape} where the first step has {shape}; move the one that is wrong away and "
                "measure its step again"
            )
        yield from (f"{path}: {fault}" for fault in _value_faults(values))


def _value_faults(values: np.ndarray) -> Iterator[str]:
    if not np.isfinite(values).all():
        yield f"{int((~np.isfinite(values)).sum())} values are not finite"
    elif (values < 0).any():
        yield "a magnitude is below zero"
    elif (np.diff(values, axis=1) > 0).any():
        yield "not in the order top1 >= top2 >= top3 >= median"
