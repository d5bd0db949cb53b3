"""Fits: whether they were made from the statistics that are there, and say what their residuals say.

Every record's parameters are put into its curve again, and the residuals that come of it are held against those that it
has: all layers of a hypothesis at once. Records of other programs, which say nothing of how they were made, may mean
their parameters in other units, and are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.dataset import Dataset, fit_files, layout, seals
from madyn.dataset.files import is_folder, is_there, read_json
from madyn.dataset.view import RatioOf
from madyn.errors import DatasetError, MadynError, one_line

Layers = Sequence[Mapping[str, Mapping[str, Any]]]
Values = Mapping[RatioOf, np.ndarray]
"""The trajectories (step, layer) that records were fitted to, by the mean that they name."""

_CLOSE = 1e-6  # of a series' range: rounding leaves 1e-10


def fit_faults(dataset: Dataset, model: str, absences: list[str]) -> Iterator[str]:
    if not is_folder(dataset.path / model / "params"):
        absences.append(f"{dataset.path / model / 'params'}: not fitted yet")
        return
    try:
        layers, current = dataset.statistics(model).sizes["layer"], dataset.statistics_hash(model)
    except MadynError:
        return  # the statistics themselves are at fault, and that is said already
    for quantity in layout.FITTED_QUANTITIES:
        path = layout.params_path(dataset.path, model, quantity)
        if not is_there(path):
            absences.append(f"{path}: no fits of the {quantity}")
            continue
        try:
            records = fit_files.read_fit_records(dataset.path, model, quantity)
            if {made_from(record) for layer in records for record in layer.values()} - {None, current}:
                yield f"{path}: fitted to other statistics than are there now; run `madyn fit` again"
                continue
            dataset.fits(model, quantity)
        except DatasetError as e:
            yield str(e)
            continue
        if len(records) != layers:
            yield f"{path}: {len(records)} layers where the statistics have {layers}"
            continue
        values: Values = {mean: dataset.trajectories(model, quantity, mean).values for mean in _means(records)}
        steps = np.asarray(dataset.steps(model), float)
        found = [*_record_faults(values, records, (model, quantity)), *_curve_faults(values, records, steps)]
        yield from (f"{path}: layer {layer}, {one_line(name, 60)}: {fault}" for layer, name, fault in found)
        yield from (f"{path}: {fault}" for fault in _gap_faults(records))
    yield from _combined_faults(dataset, model)


Fault = tuple[int, str, str]


def _record_faults(values: Values, records: Layers, place: tuple[str, str]) -> Iterator[Fault]:
    """What each record says of itself: layer, hypothesis and what is wrong."""
    for number, layer in enumerate(records):
        for name, record in layer.items():
            missing = [key for key in fit_files.RECORD_KEYS if key not in record]
            fault = f"no {', '.join(missing)}" if missing else _r2_fault(record, values[_mean(record)][:, number])
            if fault is None and not _whole(record):
                fault = "a part of what madyn writes in a fit is missing"
            fault = fault or seals.seal_fault(record, *place, number, name)
            if fault:
                yield number, name, fault


def _means(records: Layers) -> set[RatioOf]:
    return {_mean(record) for layer in records for record in layer.values()}


def _mean(record: Mapping[str, Any]) -> RatioOf:
    """Which mean of the ratio a record was fitted to."""
    return "means" if _provenance(record).get("ratio_of") == "means" else "sequences"


def _provenance(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return record.get("provenance") or {}


def _whole(record: Mapping[str, Any]) -> bool:
    """Whether a record that is one of madyn's says what it came from."""
    return seals.KEY not in record or made_from(record) is not None


def made_from(record: Mapping[str, Any]) -> str | None:
    """The hash of the statistics that a fit came from; None for one that does not say."""
    return _provenance(record).get("statistics_sha256")


def _r2_fault(record: Mapping[str, Any], values: np.ndarray) -> str | None:
    if record["r2"] is None or record["residuals"] is None:
        return None
    residuals = _floats(record["residuals"])
    seen = np.isfinite(residuals)
    with np.errstate(all="ignore"):  # values that no measurement has; what comes of them is not close
        r2 = 1 - np.sum(residuals[seen] ** 2) / np.sum((values[seen] - values[seen].mean()) ** 2)
        close = np.isclose(r2, record["r2"], rtol=1e-6, atol=1e-6)
    return None if close else f"r2 is {record['r2']:.6g}, and its residuals give {r2:.6g}"


def _curve_faults(values: Values, records: Layers, steps: np.ndarray) -> Iterator[Fault]:
    """Records whose parameters, put into the curve, do not leave the residuals that they have."""
    for name, hypothesis in HYPOTHESES.items():
        kept: list[tuple[int, Mapping[str, Any], RatioOf]] = [
            (number, layer[name], _mean(layer[name]))
            for number, layer in enumerate(records)
            if name in layer and _can_be_drawn(layer[name], hypothesis.param_names)
        ]
        if not kept:
            continue
        popt = np.array([_ordered(record, hypothesis.param_names) for _, record, _ in kept])
        residuals = np.array([_floats(record["residuals"]) for _, record, _ in kept])
        measured = np.array([values[mean][:, number] for number, _, mean in kept])
        edge = np.array([bool(record.get("at_edge")) for _, record, _ in kept])[:, None]
        with np.errstate(all="ignore"):
            drawn = hypothesis.values(steps, popt)
            off = np.abs(measured - drawn - residuals)
            wrong = ~(off <= _CLOSE * np.ptp(measured, axis=1, keepdims=True)) & np.isfinite(residuals)
            # On an edge of the box original's parameters can be so large (1e305) that its formula overflows.
            wrong &= np.isfinite(drawn) | ~edge
        for (number, _, _), bad in zip(kept, wrong, strict=True):
            if bad.any():
                at = int(np.argmax(bad))
                yield number, name, f"its parameters do not give its residuals, at step {steps[at]:.0f} first"


def _can_be_drawn(record: Mapping[str, Any], names: Sequence[str]) -> bool:
    whole = made_from(record) is not None and record.get("residuals") is not None and record.get("popt") is not None
    return whole and set(record["param_names"] or []) == set(names) and None not in record["popt"]


def _ordered(record: Mapping[str, Any], names: Sequence[str]) -> list[float]:
    by_name = dict(zip(record["param_names"], record["popt"], strict=True))
    return [by_name[name] for name in names]


def _floats(numbers: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if number is None else number for number in numbers], float)


def _gap_faults(records: Layers) -> Iterator[str]:
    """A hypothesis is fitted to all layers at once, and so is in all of them or in none; and all have seals or none."""
    names = {name for layer in records for name in layer}
    for number, layer in enumerate(records):
        missing = sorted(names - set(layer))
        if missing:
            yield f"layer {number}: no {one_line(', '.join(missing), 100)}, which other layers have"
    sealed = {seals.KEY in record for layer in records for record in layer.values()}
    if len(sealed) == 2:
        yield "some fits have a seal and some have none; run `madyn fit` again"


def _combined_faults(dataset: Dataset, model: str) -> Iterator[str]:
    """The file for all quantities must say what the files of each say, and the ratio's fits at its top."""
    path = layout.params_path(dataset.path, model)
    by_quantity = {q: layout.params_path(dataset.path, model, q) for q in layout.FITTED_QUANTITIES}
    try:
        combined = read_json(path)
        if not isinstance(combined, list) or not all(isinstance(layer, dict) for layer in combined):
            yield f"{path}: not a list of layers"
            return
        top = [{k: v for k, v in layer.items() if k not in by_quantity} for layer in combined]
        for quantity, own in by_quantity.items():
            if not is_there(own):
                continue
            try:
                one = seals.canonical(read_json(own))
            except DatasetError:
                continue  # that file is at fault, which is said already
            same = seals.canonical([layer.get(quantity) for layer in combined]) == one
            if not same or (quantity == "ratio" and any(top) and seals.canonical(top) != one):
                yield f"{path}: its fits of the {quantity} are not those of {own.name}; run `madyn fit` again"
    except DatasetError as e:
        yield str(e)
