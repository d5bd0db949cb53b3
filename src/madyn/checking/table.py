"""The parameter table: its columns, and the rows of each model."""

from __future__ import annotations

from collections.abc import Iterator

from madyn.dataset import Dataset, fit_files, layout
from madyn.errors import DatasetError, MadynError


def table_faults(dataset: Dataset, absences: list[str]) -> Iterator[str]:
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
