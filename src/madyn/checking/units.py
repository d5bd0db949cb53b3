"""A unit's files against its manifest, and each manifest, record and probe against its own seal.

Everything that madyn writes of a unit carries a hash: the statistics, locations and groups of positions in the unit's
manifest, the manifest in its seal, the probe in each unit that was measured on it. Files of earlier versions have fewer
hashes, which is no fault; a hash that is missing where its siblings are there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from madyn.checking.records import Records
from madyn.dataset import Dataset, layout, manifest, seals
from madyn.dataset.files import is_there, read_json
from madyn.dataset.locations import read_unit_locations
from madyn.errors import DatasetError, MadynError


def probe_faults(root: Path) -> Iterator[str]:
    """What is wrong with the probe's record."""
    path = layout.probe_path(root)
    probe = manifest.read_probe(root)
    if probe is not None:
        fault = seals.seal_fault(read_json(path), "probe")
        if fault:
            yield f"{path}: {fault}"


def unit_faults(records: Records) -> Iterator[str]:
    """What is wrong between the manifests of a model and what lies beside them."""
    root, model, measured = records.root, records.model, records.measured
    hashed = any(unit.statistics_sha256 for step, unit in records.units.items() if step in measured)
    probe = _probe_hash(root)
    yield from (f"{fault}; {records.again}" for fault in records.unit_faults)
    for step, unit in records.units.items():
        path = layout.manifest_path(root, model, step)
        if step not in measured:
            yield from (f"{fault}; {records.again}" for fault in manifest.read_record(path, model, step)[1])
        if step in measured and hashed and unit.statistics_sha256 is None and not unit.failure:
            yield f"{path}: has no hash of the statistics, which the other steps have"
        if unit.probe_sha256 is not None and unit.probe_sha256 != probe:
            told = "is not there, or is damaged" if probe is None else "is of another text"
            yield f"{path}: measured on a probe whose record, {layout.probe_path(root)}, {told}"


def _probe_hash(root: Path) -> str | None:
    try:
        probe = manifest.read_probe(root)
    except DatasetError:
        return None
    return probe.sha256 if probe else None


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
