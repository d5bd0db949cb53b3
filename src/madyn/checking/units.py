"""A unit's files against its manifest, and each manifest, record and probe against its own seal.

Everything that madyn writes of a unit carries a hash: the statistics, locations and groups of positions in the unit's
manifest, the manifest in its seal, the probe in each unit that was measured on it. Files of earlier versions have fewer
hashes, which is no fault; a hash that is missing where its siblings are there is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from madyn.checking.records import Records
from madyn.checking.statistics import remedy
from madyn.dataset import Dataset, layout, manifest, seals
from madyn.dataset.files import is_there, read_bytes, read_json
from madyn.dataset.locations import read_unit_locations
from madyn.errors import DatasetError, MadynError, one_line


def probe_faults(root: Path) -> Iterator[str]:
    """What is wrong with the probe's record."""
    path = layout.probe_path(root)
    probe = manifest.read_probe(root)
    if probe is not None:
        fault = seals.seal_fault(read_json(path), "probe")
        if fault:
            yield f"{path}: {fault}"


def unit_faults(dataset: Dataset, records: Records) -> Iterator[str]:
    """What is wrong between the manifests of a model and what lies beside them."""
    root, model, units, measured = records.root, records.model, records.units, records.measured
    hashed = any(unit.statistics_sha256 for step, unit in units.items() if step in measured)
    probe = _probe_hash(root)
    for step, unit in units.items():
        path = layout.manifest_path(root, model, step)
        if (unit.model, unit.step) != (model, step):
            yield f"{path}: is the manifest of {one_line(unit.model, 60)} at step {unit.step}"
        fault = seals.seal_fault(read_json(path), model, step)
        if fault:
            yield f"{path}: {fault}; delete it and its step's statistics, and measure the step again"
        if step in measured and unit.failure:
            yield f"{path}: says that the step failed, and there are statistics of it"
        if step in measured and hashed and unit.statistics_sha256 is None and not unit.failure:
            yield f"{path}: has no hash of the statistics, which the other steps have"
        if unit.probe_sha256 is not None and unit.probe_sha256 != probe:
            told = "is not there, or is damaged" if probe is None else "is of another text"
            yield f"{path}: measured on a probe whose record, {layout.probe_path(root)}, {told}"
        yield from _hash_faults(dataset, model, step, unit, measured)


def _probe_hash(root: Path) -> str | None:
    try:
        probe = manifest.read_probe(root)
    except DatasetError:
        return None
    return probe.sha256 if probe else None


def _hash_faults(
    dataset: Dataset, model: str, step: int, unit: manifest.Unit, measured: dict[int, Path]
) -> Iterator[str]:
    """The unit's files against the hashes in its manifest."""
    root = dataset.path
    files = {
        "statistics": (measured.get(step), unit.statistics_sha256),
        "locations": (layout.locations_path(root, model, step), unit.locations_sha256),
        "positions": (layout.positions_path(root, model, step), unit.positions_sha256),
    }
    if step not in measured:
        return
    for what, (path, known) in files.items():
        if path is None or known is None:
            continue
        if not is_there(path):
            yield f"{path}: no such file, and the manifest has its hash; run `madyn trace` again to measure the step"
            continue
        if hashlib.sha256(read_bytes(path)).hexdigest() != known:
            advice = remedy(dataset, model, measured[step])
            yield f"{path}: not what was measured: its SHA-256 is not that of the {what} in the manifest; {advice}"


def location_faults(dataset: Dataset, model: str) -> Iterator[str]:
    """Whether each file of locations can be read, and has the shape of the statistics."""
    try:
        sizes = dataset.statistics(model).sizes
    except MadynError:
        sizes = None  # which is said already
    for step in dataset.steps(model):
        path = layout.locations_path(dataset.path, model, step)
        if not is_there(path):
            continue
        try:
            sequences, _, layers = read_unit_locations(path).shape
        except DatasetError as e:
            yield str(e)
            continue
        if sizes is not None and (sequences, layers) != (sizes["sequence"], sizes["layer"]):
            yield (
                f"{path}: {sequences} sequences and {layers} layers where the statistics have {sizes['sequence']} and "
                f"{sizes['layer']}"
            )
