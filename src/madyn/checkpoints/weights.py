"""The weight files of a checkpoint in a folder, read a tensor at a time.

Safetensors are mapped into memory, so that a tensor that is not asked for is never read; pickles are read whole and
with `weights_only`, so that no code of theirs runs. One file or many shards with an index: both look the same here.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from madyn.errors import CheckpointError

# In the order in which transformers looks for them: one file, or shards beside an index that names them.
_KINDS = ("model.safetensors", "pytorch_model.bin")

FORMS = ("auto", "safetensors", "bin")
"""What a user may ask for where a checkpoint is stored in several forms: the first that is there, or one of the two."""


def weight_files(names: Iterable[str], form: str = "auto") -> list[str]:
    """The weight files among a folder's files: those that transformers would read, and no others.

    A repository often holds the same weights in several forms, and pickles that are no weights.

    Args:
        form: one of `FORMS`.

    >>> weight_files(["pytorch_model.bin", "model.safetensors", "training_args.bin"])
    ['model.safetensors']
    >>> weight_files(["pytorch_model.bin", "model.safetensors", "training_args.bin"], "bin")
    ['pytorch_model.bin']
    """
    names = sorted(names)
    for kind in (kind for kind in _KINDS if form in ("auto", kind.rpartition(".")[2])):
        stem, _, ending = kind.rpartition(".")
        shard = re.compile(rf"{re.escape(stem)}-\d+-of-\d+\.{ending}")
        found = [kind] if kind in names else [name for name in names if shard.fullmatch(name)]
        if found:
            return found
    return []


def no_weights(form: str) -> str:
    """What is said of a checkpoint that has no weight files of a form."""
    return f"no weights in it ({' or '.join(kind for kind in _KINDS if form in ('auto', kind.rpartition('.')[2]))})"


def index_file(weights: Iterable[str]) -> str | None:
    """The index that goes with shards, None for one file."""
    first = next(iter(weights), "")
    match = re.fullmatch(r"(.*)-\d+-of-\d+\.(safetensors|bin)", first)
    return f"{match[1]}.{match[2]}.index.json" if match else None


class Weights:
    """The tensors of a checkpoint's folder, by the names they have in its files.

    Raises:
        CheckpointError: a file is missing, truncated, or not what its name says; it is named.
    """

    def __init__(self, folder: Path, form: str = "auto") -> None:
        self.folder = folder
        self.files = [folder / name for name in weight_files((p.name for p in folder.iterdir() if p.is_file()), form)]
        if not self.files:
            raise CheckpointError(f"{folder}: {no_weights(form)}")
        self._file_of = self._read_names()

    @property
    def names(self) -> set[str]:
        return set(self._file_of)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor; safetensors say it without being read."""
        with self.reading() as tensors:
            return {name: tensors.shape(name) for name in self._file_of}

    @contextmanager
    def reading(self) -> Iterator[_Reader]:
        """Open the files for as long as the block lasts. What a mapped file took of memory is given back after it."""
        with ExitStack() as stack:
            yield _Reader(self._file_of, stack)

    def _read_names(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in self.files:
            with ExitStack() as stack:
                for name in _open(path, stack):
                    found[name] = path
        index = index_file(path.name for path in self.files)
        if index is not None:
            self._require_all_shards(self.folder / index, found)
        return found

    def _require_all_shards(self, index: Path, found: Mapping[str, Path]) -> None:
        try:
            named = json.loads(index.read_text())["weight_map"]
            absent = {str(file) for name, file in named.items() if name not in found}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise CheckpointError(f"{index}: cannot be read as an index of shards: {e}") from e
        if absent:
            raise CheckpointError(f"{self.folder}: {sorted(absent)[0]} is missing or incomplete, says {index.name}")


class _Reader:
    def __init__(self, file_of: Mapping[str, Path], stack: ExitStack) -> None:
        self._file_of, self._stack = file_of, stack
        self._open: dict[Path, Mapping[str, Any]] = {}

    def _file(self, name: str) -> Any:
        path = self._file_of[name]
        if path not in self._open:
            self._open[path] = _open(path, self._stack)
        return self._open[path]

    def shape(self, name: str) -> tuple[int, ...]:
        file = self._file(name)
        return tuple(file[name].shape if isinstance(file, dict) else file.shape(name))

    def __getitem__(self, name: str) -> Any:
        return self._file(name)[name]


class _Safetensors(Mapping[str, Any]):
    """An open safetensors file as a mapping that reads on demand."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._names = list(file.keys())

    def __getitem__(self, name: str) -> Any:
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(name).get_shape())


def _open(path: Path, stack: ExitStack) -> Any:
    import torch
    from safetensors import safe_open

    try:
        if path.suffix == ".safetensors":
            return _Safetensors(stack.enter_context(safe_open(path, framework="pt")))
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as e:  # what a broken or hostile file raises is not for the reader to foresee
        raise CheckpointError(f"{path}: cannot be read as weights: {_first_line(e)}") from e
    if not isinstance(tensors, dict) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise CheckpointError(f"{path}: not a file of weights: it holds something other than named tensors")
    return tensors


def _first_line(e: Exception) -> str:
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(e).__name__


def read_ahead(folder: Path, form: str = "auto") -> None:
    """Ask the system to read the weight files of a folder, and do not wait for it.

    A thread that read them would take turns with the computing threads, each of which then waits for the others.
    """
    if not hasattr(os, "posix_fadvise"):
        return  # not on every system; the files are then read when they are needed
    for name in weight_files((p.name for p in folder.iterdir() if p.is_file()), form):
        with (folder / name).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def hash_files(paths: Iterable[Path]) -> str:
    """XXH3 (128 bits) over the content of files, in order.

    It tells one checkpoint from another at the speed of memory. SHA-256 takes as long as a small model's forward pass;
    it is kept for what comes over a network.
    """
    import xxhash

    digest = xxhash.xxh3_128()
    for path in paths:
        with path.open("rb") as file:
            size = path.stat().st_size
            digest.update(size.to_bytes(8, "little"))
            if size:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    digest.update(content)
    return digest.hexdigest()
