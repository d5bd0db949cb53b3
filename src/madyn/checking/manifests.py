"""Manifests and training records: whether they can be read, say what was measured, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator

from madyn.checking.records import Records
from madyn.dataset import layout, seals
from madyn.dataset.files import read_json
from madyn.errors import one_line
from madyn.suites import PYTHIA


def manifest_faults(records: Records, absences: list[str]) -> Iterator[str]:
    if not records.manifests:
        absences.append(f"{records.root / 'manifest' / records.model}: no manifest")
        return
    yield from failures_of(records)
    tokens = set()
    for step in records.measured:
        if step not in records.manifests:
            path = layout.manifest_path(records.root, records.model, step)
            yield f"{path}: no such file, and the step is measured"
        elif step in records.units:
            unit = records.units[step]
            tokens.add("a training batch" if unit.sampled else unit.tokens_sha256)
    if len(tokens) > 1:
        yield f"{records.root / 'manifest' / records.model}: steps were measured on different tokens"


def missing_units(records: Records) -> list[str]:
    """What keeps a model from being complete: failures, units cut short, for Pythia published steps not there.

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> import madyn
    >>> root = Path(mkdtemp())
    >>> (root / "tiny" / "stats").mkdir(parents=True)
    >>> values = "[[[9.0], [2.0], [1.5], [0.5]]]"  # sequences x (top1, top2, top3, median) x layers
    >>> for step in (0, 1000):
    ...     written = (root / "tiny" / "stats" / f"exp2_tiny_step{step}").write_text(values)
    >>> madyn.checking.missing_units(madyn.checking.read_records(root, "tiny"))
    []
    """
    model, training, missing = records.model, records.training, failures_of(records)
    if training is not None and not training.complete and not training.failure:
        missing.append(
            f"{model}: its training stopped at step {max(training.losses, default=0)}; run `madyn lab` again"
        )
    if any(layout.directory_name(name) == model for name in PYTHIA.architectures):
        known = records.measured.keys() | records.units.keys()
        absent = [step for step in PYTHIA.grids["paper"] if step not in known]
        if absent:
            missing.append(f"{model}: {len(absent)} of the paper's steps are not measured, {absent[0]} first")
    return missing


def failures_of(records: Records) -> list[str]:
    """The units of a model that do not count as measured, each with the reason; records that are damaged.

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> import madyn
    >>> root = Path(mkdtemp())
    >>> (root / "tiny" / "stats").mkdir(parents=True)
    >>> values = "[[[9.0], [2.0], [1.5], [0.5]]]"  # sequences x (top1, top2, top3, median) x layers
    >>> for step in (0, 1000):
    ...     written = (root / "tiny" / "stats" / f"exp2_tiny_step{step}").write_text(values)
    >>> madyn.checking.failures_of(madyn.checking.read_records(root, "tiny"))
    []
    """
    root, model = records.root, records.model
    again = "madyn lab" if layout.training_path(root, model).exists() else "madyn trace"
    damaged = records.damaged_training
    found = [f"{damaged}; put the file back, or train the model again"] if damaged else []
    if records.training is not None and records.training.failure:
        found.append(f"{layout.training_path(root, model)}: {model} failed: {one_line(records.training.failure)}")
    found += [f"{fault}; {records.again}" for fault in dict.fromkeys([*records.damaged_units, *records.unit_faults])]
    for step, unit in records.units.items():
        if step not in records.measured:
            reason = f"failed: {one_line(unit.failure)}" if unit.failure else f"was cut short; run `{again}` again"
            found.append(f"{layout.manifest_path(root, model, step)}: {model} step {step} {reason}")
    return found


def training_faults(records: Records) -> Iterator[str]:
    """Whether a training record is what was written. One that cannot be read is among `failures_of`."""
    path = layout.training_path(records.root, records.model)
    fault = seals.seal_fault(read_json(path), records.model) if records.training is not None else None
    if fault:
        yield f"{path}: {fault}; put the file back, or train the model again"


def remarks_of(records: Records) -> Iterator[str]:
    """What the manifest says of units that were measured all the same."""
    for step, unit in records.units.items():
        path = layout.manifest_path(records.root, records.model, step)
        yield from (f"{path}: {one_line(remark)}" for remark in unit.remarks)
        if unit.failure is not None and unit.statistics_sha256 is not None and step in records.measured:
            yield f"{path}: measuring the step again failed: {one_line(unit.failure)}"
    sources = list(dict.fromkeys(unit.source for unit in records.units.values() if unit.failure is None))
    if len(sources) > 1:
        named = f"{one_line(sources[0], 200)} and {one_line(sources[1], 200)}"
        folder = records.root / "manifest" / records.model
        yield f"{folder}: steps were measured from several places, {named} among them"
