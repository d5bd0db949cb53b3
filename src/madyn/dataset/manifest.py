"""The manifest: for every checkpoint measured, what was measured with what, or why it could not be.

One file a unit (a model at a step), so that no two writers share a file. A unit's manifest says how its numbers came to
be, or carries the failure of a unit that has none. What counts as measured is said once, in `faults_of`, for all who
ask: what `madyn check` says is to be measured again is what `madyn trace` and `madyn lab` measure again. The probe's
text is recorded once for the dataset, its tokens in each unit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MaxLen

from madyn.architecture import Architecture
from madyn.dataset import layout
from madyn.dataset.files import create_bytes, encode_json, is_there, read_bytes, read_json, write_json
from madyn.dataset.schema import Count, Line, Name, Step, read_as
from madyn.dataset.seals import seal_fault, sealed
from madyn.dataset.statistics import read_statistics
from madyn.errors import ArchitectureError, DatasetError, ProbeMismatchError, one_line
from madyn.settings import GIVEN

_MOST_BYTES = 1 << 24  # a manifest that names ten thousand weight files has one
_Many = MaxLen(100_000)
_MOST_VALUES = 10**12  # of |h| in a sequence: a million tokens of a width of a million


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What is known of one measured checkpoint.

    Attributes:
        source: where the checkpoint came from, as the user named it.
        revision: its name on the Hub or the name of its folder; `commit` is the hash the Hub resolved it to,
            `weights_xxh3` that of the weight files of a checkpoint in a folder, `weights_sha256` what the Hub lists for
            each weight file.
        length: how many positions each of the sequences has: tokens, or what the layers make of an image; None where
            the layers differ in it.
        tokens_sha256: hash of the token ids of the sequences, in order.
        first_token: "bos" if each sequence starts with the tokenizer's BOS token in place of text, "given" where the
            user gave the token ids, else "text".
        exclude_positions: positions that were left out.
        sampled: the sequences are those of a training batch, which are others at every step; what they show is of the
            training's own forward, with its dropout.
        streamed: the weights passed through layer by layer, which may change the last bits.
        bytes_left_out: of weights that the decoder does not need and that were not fetched; such a file could not be
            held against its hash.
        stacks: the layers of each stack of the model, by its path.
        architecture: the fields of `Architecture`; `parameters` is the number the model really has, its head included.
        statistics_sha256, locations_sha256, positions_sha256: hashes of the unit's other files, as `sha256sum` gives
            them; None where there is no such file.
        probe_sha256: hash of the text, as the probe's record has it.
        versions: of Python and of the packages that the numbers depend on.
        run_sha256: of a model of the lab, which run it was measured in: `TrainingRecord.run_sha256`.
        failure: why it could not be measured when that was tried last; None where it could. Where it had been measured
            before, all else that is said of it stays, its hashes among them.
        remarks: what is worth knowing of a unit that was measured all the same, a sentence each; `madyn check` says it.
    """

    model: Name
    step: Step
    source: Line
    revision: Line | None = None
    commit: Line | None = None
    weights_xxh3: Line | None = None
    weights_sha256: Annotated[dict[Line, Line], _Many] = field(default_factory=dict)
    sequences: Count | None = None
    length: Count | None = None
    first_token: Line | None = None
    tokens_sha256: Line | None = None
    exclude_positions: Annotated[list[Count], _Many] = field(default_factory=list)
    dtype: Line | None = None
    device: Line | None = None
    threads: Count | None = None
    batch_size: Count | None = None
    sampled: bool = False
    streamed: bool = False
    bytes_left_out: Count | None = None
    stacks: Annotated[dict[Line, Count], _Many] = field(default_factory=dict)
    parameters: Count | None = None
    architecture: dict[Name, Any] = field(default_factory=dict)
    versions: Annotated[dict[Line, Line], _Many] = field(default_factory=dict)
    statistics_sha256: Line | None = None
    locations_sha256: Line | None = None
    positions_sha256: Line | None = None
    probe_sha256: Line | None = None
    run_sha256: Line | None = None
    failure: Line | None = None
    remarks: Annotated[list[Line], _Many] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ProbeRecord:
    """The text that every model of a dataset is measured on. `seed` is the one its documents were drawn with."""

    text: Line
    sha256: Line
    documents: Count
    seed: int


def values_of_sequence(unit: Unit) -> int | None:
    """How many values |h| a sequence has at a layer; None where the manifest does not say it, or something absurd."""
    if unit.length is None or not unit.architecture:
        return None
    try:
        width = Architecture.from_config(unit.architecture).hidden_size
    except ArchitectureError:
        return None
    values = (unit.length - len(unit.exclude_positions)) * width
    return values if 8 <= values < _MOST_VALUES else None


def write_unit(root: Path, unit: Unit) -> None:
    """Write a unit's manifest; a failure is one line, cut where a library says more than anyone reads."""
    failure = unit.failure and one_line(unit.failure, 2000)
    record = sealed({**asdict(unit), "failure": failure}, unit.model, unit.step)
    write_json(layout.inside(root, layout.manifest_path(root, unit.model, unit.step)), record)


def read_units(root: Path, model: str) -> dict[int, Unit]:
    """The units of a model by step, ascending; none for a dataset that has no manifest, such as the published one.

    Raises:
        DatasetError: a manifest is not what `write_unit` writes. Fields of later versions are passed over.
    """
    return {step: _read(path, Unit) for step, path in layout.manifest_files(root, model).items()}


def read_sound_units(root: Path, model: str) -> tuple[dict[int, Unit], list[str]]:
    """The units whose manifests can be read, by step, and what is wrong with the others, a sentence each."""
    units, faults = {}, []
    for step, path in layout.manifest_files(root, model).items():
        try:
            units[step] = _read(path, Unit)
        except DatasetError as e:
            faults.append(str(e))
    return units, faults


def write_failure(root: Path, unit: Unit) -> None:
    """Record that a unit could not be measured, and lose nothing that is known of statistics that were measured before.

    Beside them the failure alone is added to what their manifest says. One that is damaged is left as it is: it may
    still be mended by hand, and what is wrong with it is said by all that read it.
    """
    path = layout.manifest_path(root, unit.model, unit.step)
    known, faults = read_record(path, unit.model, unit.step) if is_there(path) else (None, [])
    if faults and is_there(layout.statistics_path(root, unit.model, unit.step)):
        return
    if known is not None and not faults and known.statistics_sha256 is not None:
        unit = replace(known, failure=unit.failure)
    write_unit(root, unit)


def is_measured(root: Path, model: str, step: int, path: Path | None = None, run_sha256: str | None = None) -> bool:
    """Whether a unit is measured, and its files are those that were: `faults_of` finds nothing."""
    return next(faults_of(root, model, step, path, run_sha256), None) is None


def faults_of(
    root: Path, model: str, step: int, path: Path | None = None, run_sha256: str | None = None
) -> Iterator[str]:
    """Why a unit does not count as measured, a sentence each, which names a file; nothing where it does.

    It does where its statistics are there, its manifest is its own and as madyn wrote it, and each of its files has the
    hash that the manifest has of it. Where nothing says what the statistics were, as in datasets of others, they are
    to be read, and no failure is to be recorded beside them.

    Args:
        path: of the statistics, where they lie under a name that another program gave them.
        run_sha256: the run of the lab that it is to be of; what another one measured does not count.
    """
    path, said = path or layout.statistics_path(root, model, step), layout.manifest_path(root, model, step)
    try:
        if not is_there(path):
            yield f"{path}: no such file"
            return
        unit, faults = read_record(said, model, step) if is_there(said) else (None, [])
        yield from faults
        if unit is not None:
            if run_sha256 is not None and unit.run_sha256 not in (None, run_sha256):
                yield f"{said}: measured in another run"
            if unit.failure is not None and unit.statistics_sha256 is None:
                yield f"{said}: says that the step failed, and there are statistics of it"
            yield from _hash_faults(root, unit, model, step, path)
        if unit is None or unit.statistics_sha256 is None:
            read_statistics(path)
    except DatasetError as e:
        yield str(e)


def read_record(path: Path, model: str, step: int) -> tuple[Unit | None, list[str]]:
    """A manifest that is there, None where it cannot be read, and what is wrong with it by itself, a sentence each."""
    try:
        unit, fault = _read(path, Unit), seal_fault(read_json(path), model, step)
    except DatasetError as e:
        return None, [str(e)]
    faults = [f"{path}: {fault}"] if fault else []
    if (unit.model, unit.step) != (model, step):
        faults.insert(0, f"{path}: is the manifest of {one_line(unit.model, 60)} at step {unit.step}")
    return unit, faults


def _hash_faults(root: Path, unit: Unit, model: str, step: int, path: Path) -> Iterator[str]:
    """The files of a model at a step against the hashes in its manifest."""
    files = {
        "statistics": (path, unit.statistics_sha256),
        "locations": (layout.locations_path(root, model, step), unit.locations_sha256),
        "positions": (layout.positions_path(root, model, step), unit.positions_sha256),
    }
    for what, (file, known) in files.items():
        if known is None:
            continue
        if not is_there(file):
            yield f"{file}: no such file, and the manifest has its hash"
        elif hashlib.sha256(read_bytes(file)).hexdigest() != known:
            yield f"{file}: not what was measured: its SHA-256 is not that of the {what} in the manifest"


def read_probe(root: Path) -> ProbeRecord | None:
    """The probe that a dataset was measured with, or None where none is recorded.

    Raises:
        DatasetError: the record is not what `claim_probe` writes.
    """
    path = layout.probe_path(root)
    if not is_there(path):
        return None
    try:
        return _read(path, ProbeRecord)
    except DatasetError as e:
        raise DatasetError(f"{e}; delete it and run `madyn trace` on the same text again, which writes it anew") from e


def claim_probe(root: Path, probe: ProbeRecord) -> None:
    """Record the probe's text for a new dataset; for one that has a probe, refuse any other text.

    Of several processes that claim at once the first has its way.

    Raises:
        ProbeMismatchError: the dataset was measured on another text.
    """
    path = layout.inside(root, layout.probe_path(root))
    if not create_bytes(path, encode_json(sealed(asdict(probe), "probe"))):
        refuse_other_probe(root, probe)  # it has one, perhaps since a moment


def refuse_other_probe(root: Path, probe: ProbeRecord) -> None:
    """As `claim_probe`, and nothing is written."""
    known = read_probe(root)
    if known is not None and known.sha256 != probe.sha256:
        raise ProbeMismatchError(
            f"{root} was measured on {_described(known)}, and is to be on {_described(probe)} now: use the same, or "
            "another --out"
        )


def _described(probe: ProbeRecord) -> str:
    drawn = (
        f"the text {one_line(repr(probe.text))} ({probe.documents} documents, seed {probe.seed}, "
        if probe.documents
        else "given inputs ("
        if probe.text == GIVEN
        else f"{one_line(probe.text)} ("
    )
    return f"{drawn}sha256 {one_line(probe.sha256, 12)})"


def _read(path: Path, kind: type[Any]) -> Any:
    return read_as(path, kind, _MOST_BYTES, "a manifest of madyn")
