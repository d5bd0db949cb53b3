"""What the files of a checkpoint on disk hold, known from a small part of them, and the step that they say themselves.

All checkpoints of a model have files of one size, so that sizes tell nothing, and to hash every file before a sweep
would read all weights twice. Instead some blocks of every tensor (of every file, where it is no safetensors) are
read: where training has gone on, they differ. Only what agrees in all blocks is then read whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from annotated_types import Ge, Le

from madyn.checkpoints.records import read_json_as
from madyn.dataset.layout import MAX_STEP
from madyn.errors import CheckpointError
from madyn.regular import open_regular

_BLOCK = 1 << 12  # bytes
_BLOCKS = 4  # spread over a tensor
_FILE_BLOCKS = 64  # spread over a file whose tensors cannot be told apart without reading it
_HEADER = 100_000_000  # bytes, which safetensors allows at the most
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Piece:
    """A tensor or a whole file: where its bytes lie, and what some of them are.

    Attributes:
        weak: alike in many checkpoints for good reasons: a vector (norms and biases begin as ones and zeros and are
            stored in few digits), a mask, or all one value.
    """

    path: Path
    start: int
    size: int
    sample: str
    weak: bool = False


def sample_files(paths: Iterable[Path]) -> dict[str, Piece]:
    """The pieces of a checkpoint's files by name: tensors of safetensors, other files whole.

    Raises:
        CheckpointError: a file cannot be read.
    """
    pieces: dict[str, Piece] = {}
    for path in paths:
        try:
            pieces |= _tensors(path) if path.suffix == ".safetensors" else _file(path)
        except OSError as e:
            raise CheckpointError(f"{path}: cannot be read: {e.strerror or e}") from e
    return pieces


def hash_piece(piece: Piece) -> str:
    """XXH3 over all the bytes of a piece. Raises CheckpointError where they cannot be read."""
    import xxhash

    digest, at, end = xxhash.xxh3_128(), piece.start, piece.start + piece.size
    try:
        with open_regular(piece.path) as file:
            file.seek(at)
            while at < end and (chunk := file.read(min(_CHUNK, end - at))):
                digest.update(chunk)
                at += len(chunk)
    except OSError as e:
        raise CheckpointError(f"{piece.path}: cannot be read: {e.strerror or e}") from e
    return digest.hexdigest()


def _file(path: Path) -> dict[str, Piece]:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        sample, _ = _sample(file, 0, size, _FILE_BLOCKS)
    return {path.name: Piece(path, 0, size, sample)}


def _tensors(path: Path) -> dict[str, Piece]:
    """The tensors of a safetensors file; the whole file where it is not what its name says, which loading will tell."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > min(_HEADER, size):
            return _file(path)
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            places = {
                name: (8 + length + info["data_offsets"][0], 8 + length + info["data_offsets"][1], info)
                for name, info in header.items()
            }
            if not all(8 + length <= start <= end <= size for start, end, _ in places.values()):
                return _file(path)
            pieces = {}
            for name, (start, end, info) in places.items():
                sample, constant = _sample(file, start, end - start, _BLOCKS)
                weak = constant or len(info["shape"]) < 2 or info["dtype"] == "BOOL"
                kind = f"{info['dtype']} {info['shape']} {sample}"
                pieces[name] = Piece(path, start, end - start, kind, weak)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return _file(path)
    return pieces


def _sample(file: BinaryIO | RawIOBase, start: int, size: int, count: int) -> tuple[str, bool]:
    """The hash of some blocks of a range, and whether one value fills them all."""
    import xxhash

    digest, parts = xxhash.xxh3_128(size.to_bytes(8, "little")), []
    if size <= count * _BLOCK:
        offsets, length = [0], size
    else:
        # At multiples of eight bytes, so that a value is never cut.
        offsets, length = [(size - _BLOCK) * k // (count - 1) // 8 * 8 for k in range(count)], _BLOCK
    for offset in offsets:
        file.seek(start + offset)
        part = file.read(length)
        digest.update(part)
        parts.append(part)
    whole = b"".join(parts)
    return digest.hexdigest(), len(whole) < 16 or whole[8:] == whole[:-8]


TRAINER_STATE = "trainer_state.json"
_CONFIG_STEPS = ("global_step", "training_step", "train_step", "checkpoint_step", "step")


def step_inside(folder: Path) -> tuple[int, str] | None:
    """The training step that a checkpoint's folder says itself, and the file that says it: the Trainer's record, else
    its config; None where neither does."""
    with suppress(CheckpointError):  # `trainer_step` tells whoever needs it
        step = trainer_step(folder)
        if step is not None:
            return step, TRAINER_STATE
    with suppress(CheckpointError):  # loading will tell
        config = read_json_as(folder / "config.json", dict[str, Any])
        step = next((config[name] for name in _CONFIG_STEPS if name in config), None)
        if isinstance(step, int) and not isinstance(step, bool) and 0 <= step <= MAX_STEP:
            return step, "config.json"
    return None


def trainer_step(folder: Path) -> int | None:
    """The training step that the Trainer's record in a folder says; None where there is no record.

    Raises:
        CheckpointError: the record does not say a step.
    """
    path = folder / TRAINER_STATE
    if not path.exists():
        return None
    try:
        return read_json_as(path, _TrainerState).global_step
    except CheckpointError as e:
        raise CheckpointError(f"{path}: does not give the training step{str(e).removeprefix(str(path))}") from e


@dataclass
class _TrainerState:
    global_step: Annotated[int, Ge(0), Le(MAX_STEP)]
