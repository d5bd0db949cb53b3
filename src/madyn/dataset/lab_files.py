"""What the lab keeps beside a dataset to go on with, each part with its hash: tokens, tokenizer, saved states.

A saved state is one file: a line of JSON that says of which run it is, at which step, and the hash of the rest; then
the rest. So state and hash are written at once, and what a disk spoiled, or another run left, is told before it is
used. The tokenizer's folder has a `SHA256SUMS`, as `sha256sum --check` reads it, since it is a part of the dataset.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madyn.dataset import layout
from madyn.dataset.files import read_bytes, write_bytes, write_text
from madyn.dataset.schema import Count, Line, Name, Step, read_as
from madyn.dataset.training import TrainingRecord
from madyn.errors import DatasetError

SUMS = "SHA256SUMS"

_FORMAT = "madyn-state"
_HEADER = 1000  # bytes; the first line is shorter
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_LARGEST = 1 << 24  # bytes of a list of hashes, or of the record of a corpus
_CORPUS = "the record of a corpus"


@dataclass(frozen=True)
class StateHeader:
    """What a saved state says of itself: its run, the step, and the length and hash of what follows."""

    format: Line
    run_sha256: Line
    step: Step
    bytes: Count
    sha256: Line


@dataclass(frozen=True)
class CorpusRecord:
    """What the tokens of a suite were made from, their hash, and those of the tokenizer's files by name.

    None where an older version made them.
    """

    made_from: dict[Name, Any]
    tokens_sha256: Line | None = None
    tokenizer_sha256: dict[Line, Line] | None = None


def write_state(path: Path, run_sha256: str, step: int, content: bytes) -> None:
    """Write a saved state with its hash. Raises StorageError."""
    header = {"format": _FORMAT, "run_sha256": run_sha256, "step": step, "bytes": len(content)}
    line = json.dumps({**header, "sha256": hashlib.sha256(content).hexdigest()})
    write_bytes(path, line.encode() + b"\n" + content)


def read_state_header(path: Path) -> StateHeader:
    """What a saved state says of itself. Raises DatasetError where it says nothing that is understood."""
    from pydantic import TypeAdapter, ValidationError

    try:
        with _open_regular(path) as file:
            line = file.readline(_HEADER)
        header = TypeAdapter(StateHeader).validate_json(line, strict=True)
        if header.format != _FORMAT:
            raise ValueError
        return header
    except OSError as e:
        raise DatasetError(f"{path}: cannot be read: {e.strerror or e}") from e
    except (ValueError, ValidationError) as e:
        raise DatasetError(f"{path}: not a saved state of this version of madyn, or its beginning is damaged") from e


def read_state(path: Path, run_sha256: str, limit: int) -> tuple[StateHeader, bytes]:
    """A saved state, held against its hash.

    Raises:
        DatasetError: it is damaged, of another run, or larger than `limit`.
    """
    header = read_state_header(path)
    if header.run_sha256 != run_sha256:
        raise DatasetError(f"{path}: the state of another run")
    if header.bytes > limit:
        raise DatasetError(f"{path}: {header.bytes} bytes, where this model needs fewer than {limit}")
    try:
        with _open_regular(path) as file:
            file.readline(_HEADER)
            content = file.read(header.bytes + 1)
    except OSError as e:
        raise DatasetError(f"{path}: cannot be read: {e.strerror or e}") from e
    if len(content) != header.bytes or hashlib.sha256(content).hexdigest() != header.sha256:
        raise DatasetError(f"{path}: damaged: its SHA-256 is not the one that was written with it")
    return header, content


def read_corpus_record(path: Path) -> CorpusRecord:
    """What the tokens were made from. Raises DatasetError."""
    value = read_as(path, dict[Name, Any], _LARGEST, _CORPUS)
    if "made_from" in value:
        return read_as(path, CorpusRecord, _LARGEST, _CORPUS)
    return CorpusRecord(value)


def hash_file(path: Path) -> str:
    """The hex SHA-256 of a file, read piece by piece. Raises DatasetError where it cannot be read."""
    try:
        with _open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise DatasetError(f"{path}: cannot be read: {e.strerror or e}") from e


def sums_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of each of some files."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    write_text(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))


def read_sums(folder: Path) -> dict[str, str] | None:
    """The hashes of a folder's files by their names; None where an older version wrote the folder.

    Raises:
        DatasetError: they cannot be read.
    """
    path = folder / SUMS
    if not path.exists():
        return None
    lines = read_bytes(path, _LARGEST).decode(errors="replace").splitlines()
    matches = [_LINE.fullmatch(line) for line in lines]
    found = {match[2]: match[1] for match in matches if match}
    if len(found) != len(lines) or not all(_stays_inside(name) for name in found):
        raise DatasetError(f"{path}: not a list of SHA-256 sums and names")
    return found


def folder_fault(folder: Path, known: Mapping[str, str] | None = None) -> str | None:
    """What is wrong with the tokenizer's folder by its own hashes; None where nothing is, or nothing can be said.

    Args:
        known: the hashes, where they are recorded elsewhere too.
    """
    try:
        own = read_sums(folder)
        if known is not None and own != known:
            return f"{folder / SUMS}: not what the lab wrote"
        for name, digest in (own or {}).items():
            if hash_file(folder / name) != digest:
                return f"{folder / name}: not what the lab wrote: its SHA-256 is not the one in {SUMS}"
    except DatasetError as e:
        return str(e)
    return None


def kept_faults(root: Path, records: Mapping[str, TrainingRecord]) -> Iterator[str]:
    """What is wrong with what the lab keeps in a dataset, a sentence each. Nothing is changed.

    Args:
        records: the training records of its models.
    """
    file, tokens = layout.lab_folder(root) / "corpus.json", layout.tokens_path(root)
    corpus = None
    try:
        corpus = read_corpus_record(file) if file.exists() else None
        if corpus is not None and corpus.tokens_sha256 not in (None, hash_file(tokens)):
            yield f"{tokens}: not what the lab wrote: its SHA-256 is another; `madyn lab` makes it anew"
    except DatasetError as e:
        yield f"{e}; `madyn lab` makes it anew"
    fault = folder_fault(layout.tokenizer_folder(root), corpus.tokenizer_sha256 if corpus else None)
    if fault:
        yield f"{fault}; put the file back, or run `madyn lab` again, which makes it anew where it can"
    for path in sorted(layout.lab_folder(root).glob("*.pt")):
        record = records.get(path.stem)
        try:
            header = read_state_header(path)
            read_state(path, record.run_sha256 if record else header.run_sha256, header.bytes)
        except DatasetError as e:
            yield f"{e}; `madyn lab` starts {path.stem} again from its first step"


def _open_regular(path: Path) -> Any:
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise DatasetError(f"{path}: not a file")
    return path.open("rb")


def _stays_inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/") and "\\" not in name
