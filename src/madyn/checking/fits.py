"""Fits: whether they were made from the statistics that are there, and say what their residuals say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from madyn.dataset import Dataset, fit_files, layout
from madyn.dataset.files import read_json
from madyn.errors import DatasetError, MadynError


def fit_faults(dataset: Dataset, model: str, absences: list[str]) -> Iterator[str]:
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
    with np.errstate(all="ignore"):  # values that no measurement has; what comes of them is not close
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
