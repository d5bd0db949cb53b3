"""The manifest: for every checkpoint measured, what was measured with what, or why it could not be.

One file a unit (a model at a step), so that no two writers share a file. A unit is complete when its statistics file
exists; its manifest says how those numbers came to be, or carries the failure of a unit that has none. The probe's
text is recorded once for the dataset, its tokens in each unit.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MaxLen

from madyn.dataset import layout
from madyn.dataset.files import create_bytes, encode_json, is_there, read_bytes, write_json
from madyn.dataset.schema import Count, Line, Name, Step, read_as
from madyn.dataset.seals import sealed
from madyn.dataset.statistics import read_statistics
from madyn.errors import DatasetError, ProbeMismatchError, one_line

_MOST_BYTES = 1 << 24  # a manifest that names ten thousand weight files has one
_Many = MaxLen(100_000)


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
        failure: why there are no statistics; None where there are.
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


def is_measured(root: Path, model: str, step: int, path: Path | None = None, run_sha256: str | None = None) -> bool:
    """Whether a unit's statistics are there and whole: what its manifest has the hash of or, where nothing says what
    they were, what can be read. A unit whose manifest is damaged counts as not measured.

    Args:
        path: of the statistics, where they lie under a name that another program gave them.
        run_sha256: the run of the lab that it is to be of; what another one measured does not count.
    """
    path, said = path or layout.statistics_path(root, model, step), layout.manifest_path(root, model, step)
    try:
        if not is_there(path):
            return False
        unit = _read(said, Unit) if is_there(said) else None
        if unit is not None and run_sha256 is not None and unit.run_sha256 not in (None, run_sha256):
            return False
        known = unit.statistics_sha256 if unit else None
        if known is not None:
            return hashlib.sha256(read_bytes(path)).hexdigest() == known
        read_statistics(path)
    except DatasetError:
        return False
    return True


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
    )
    return f"{drawn}sha256 {one_line(probe.sha256, 12)})"


def _read(path: Path, kind: type[Any]) -> Any:
    return read_as(path, kind, _MOST_BYTES, "a manifest of madyn")
