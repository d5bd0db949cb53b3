"""The weight files of a checkpoint in a folder, read a tensor at a time.

Which files these are is decided in one place, as transformers decides it: the one whole file, or what the index of
shards names, and nothing else that may lie beside them. Safetensors are mapped into memory, so that a tensor that is
not asked for is never read; pickles are read with `weights_only`, so that no code of theirs runs.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from madyn.checkpoints.adapters import refuse_adapter_beside
from madyn.checkpoints.forms import KINDS
from madyn.errors import CheckpointError, first_line
from madyn.regular import open_regular, read_regular

_INDEX = ".index.json"
# What torch.compile, FSDP and activation checkpointing put before the names of what they wrap.
_WRAPPERS = r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
_PARALLEL = r"^(?:module\.)+"  # of DataParallel, DDP and DeepSpeed, before every name
_LFS_POINTER = b"version https://git-lfs"

ReadIndex = Callable[[str], bytes]


def weight_files(names: Iterable[str], form: str = "auto", read_index: ReadIndex | None = None) -> list[str]:
    """The weight files among a folder's files: those that transformers would read, and no others.

    A repository often holds the same weights in several forms, pickles that are no weights, and shards of an older
    save beside those of the last, which only the index tells apart.

    Args:
        form: one of `settings.FORMS`.
        read_index: gives the content of an index file; asked only where the names alone do not tell.

    Raises:
        CheckpointError: an index cannot be read as one, or there is none and it takes one to tell.

    >>> weight_files(["pytorch_model.bin", "model.safetensors", "training_args.bin"])
    ['model.safetensors']
    >>> weight_files(["pytorch_model.bin", "model.safetensors", "training_args.bin"], "bin")
    ['pytorch_model.bin']
    """
    names = sorted(names)
    for kind in _kinds(form):
        if kind in names:
            return [kind]
        sets = _shard_sets(names, kind)
        if len(sets) == 1 and all(len(shards) == total for total, shards in sets.items()):
            return next(iter(sets.values()))
        index = kind + _INDEX
        if index in names and read_index is not None:
            return sorted(set(_weight_map(index, read_index(index)).values()))
        if sets:
            raise CheckpointError(f"shards of {kind} that are not one whole save, and no {index} to tell which are")
    return []


def no_weights(form: str) -> str:
    """What is said of a checkpoint that has no weight files of a form."""
    return f"no weights in it ({' or '.join(_kinds(form))})"


def _kinds(form: str) -> list[str]:
    return [kind for kind in KINDS if form in ("auto", kind.rpartition(".")[2])]


def _shard_sets(names: Iterable[str], kind: str) -> dict[int, list[str]]:
    """The shards of every save of a kind, by how many that save has."""
    stem, _, ending = kind.rpartition(".")
    shard = re.compile(rf"{re.escape(stem)}-\d+-of-(\d{{1,9}})\.{ending}")
    sets: dict[int, list[str]] = {}
    for name in names:
        if match := shard.fullmatch(name):
            sets.setdefault(int(match[1]), []).append(name)
    return sets


def index_file(weights: Iterable[str]) -> str | None:
    """The index that goes with weight files, None for one whole file."""
    first = next(iter(weights), KINDS[0])
    kind = next((k for k in KINDS if k.rpartition(".")[2] == first.rpartition(".")[2]), KINDS[0])
    return None if first in KINDS else kind + _INDEX


def _weight_map(index: str | Path, content: bytes) -> dict[str, str]:
    """The file of each tensor, as an index says it. Files lie beside the index, never elsewhere."""
    try:
        named = json.loads(content)["weight_map"]
        found = {str(tensor): str(file) for tensor, file in named.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise CheckpointError(f"{index}: cannot be read as an index of shards: {e}") from e
    strange = [file for file in found.values() if Path(file).name != file]
    if strange or not found:
        reason = f"names {strange[0]!r}, which is not a file beside it" if strange else "names no tensor"
        raise CheckpointError(f"{index}: {reason}")
    return found


def left_beside(names: Iterable[str], used: Iterable[str]) -> list[str]:
    """Weight files of the same format as those used that lie beside them and are not the model: of another save."""
    used = list(used)
    kind = next(k for k in KINDS if k.rpartition(".")[2] == used[0].rpartition(".")[2])
    of_kind = [kind, *(shard for shards in _shard_sets(names, kind).values() for shard in shards)]
    return sorted(name for name in set(names) & set(of_kind) if name not in used)


class Weights:
    """The tensors of a checkpoint's folder, by the names they have in its files, less those of wrappers.

    Attributes:
        files: that hold them.
        beside: weight files that lie in the folder too and were passed over.
        wrappers: regular expressions of what wrappers put before a name, in the order in which they are taken off.

    Raises:
        CheckpointError: a file is missing, truncated, or not what its name says; it is named.
    """

    def __init__(self, folder: Path, form: str = "auto") -> None:
        self.folder = folder
        present = [p.name for p in folder.iterdir() if p.is_file()]
        used = local_weight_files(folder, form)
        if not used:
            raise CheckpointError(f"{folder}: {no_weights(form)}")
        refuse_adapter_beside(folder, present)
        self.files = [folder / name for name in used]
        self.beside = left_beside(present, used)
        self._kinds: dict[tuple[Path, str], tuple[tuple[int, ...], Any]] = {}
        stored = self._read_names()
        self.wrappers = _wrapper_patterns(stored)
        self._place = self._renamed(stored)

    @property
    def names(self) -> set[str]:
        return set(self._place)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def mapped(self) -> bool:
        """Whether one tensor can be read without the rest of its file."""
        return all(path.suffix == ".safetensors" or zipfile.is_zipfile(path) for path in self.files)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor."""
        return {name: self._kinds[place][0] for name, place in self._place.items()}

    def dtypes(self) -> dict[str, Any]:
        """The torch dtype that every tensor is stored in."""
        return {name: self._kinds[place][1] for name, place in self._place.items()}

    @contextmanager
    def reading(self) -> Iterator[_Reader]:
        """Open the files for as long as the block lasts. What a mapped file took of memory is given back after it."""
        with ExitStack() as stack:
            yield _Reader(self._place, stack)

    def _read_names(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in self.files:
            with ExitStack() as stack:
                file = _open(path, stack)
                for name in file:
                    if name in found:
                        raise CheckpointError(f"{self.folder}: {name} is both in {found[name].name} and in {path.name}")
                    found[name] = path
                    self._kinds[path, name] = _kind(file, name)
        index = index_file(path.name for path in self.files)
        if index is not None:
            named = _weight_map(self.folder / index, _read(self.folder / index))
            absent = sorted(name for name, file in named.items() if found.get(name) != self.folder / file)
            if absent:
                raise CheckpointError(
                    f"{self.folder}: {named[absent[0]]} is missing or incomplete: {absent[0]} is to be in it, "
                    f"says {index}"
                )
        return found

    def _renamed(self, stored: Mapping[str, Path]) -> dict[str, tuple[Path, str]]:
        found: dict[str, tuple[Path, str]] = {}
        for name, path in stored.items():
            plain = name
            for pattern in self.wrappers:
                plain = re.sub(pattern, "", plain)
            if plain in found:
                raise CheckpointError(f"{path}: {found[plain][1]} and {name} are one tensor's name, {plain}")
            found[plain] = (path, name)
        return found


def _wrapper_patterns(names: Iterable[str]) -> list[str]:
    """The patterns of wrappers' names that a checkpoint was saved with.

    transformers replaces what a pattern matches once in a name, and a dict of patterns holds each once; so one is
    written in as many ways as a name has wrappers.
    """
    names = list(names)
    most = max((len(re.findall(_WRAPPERS, name)) for name in names), default=0)
    patterns = [f"{_WRAPPERS}{'(?:)' * number}" for number in range(most)]
    return [*patterns, _PARALLEL] if names and all(re.match(_PARALLEL, name) for name in names) else patterns


def local_weight_files(folder: Path, form: str = "auto") -> list[str]:
    """`weight_files` of a folder on disk. Raises CheckpointError where a file that they need is not there."""
    names = [p.name for p in folder.iterdir() if p.is_file()]
    try:
        found = weight_files(names, form, lambda index: _read(folder / index))
    except CheckpointError as e:
        raise CheckpointError(f"{folder}: {e}") from e
    absent = [name for name in found if name not in names]
    if absent:
        raise CheckpointError(f"{folder}: {absent[0]} is missing or incomplete, says its index")
    return found


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _LARGEST_INDEX)
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read: {e.strerror}") from e


_LARGEST_INDEX = 1 << 28  # bytes


class _Reader:
    def __init__(self, place: Mapping[str, tuple[Path, str]], stack: ExitStack) -> None:
        self._place, self._stack = place, stack
        self._open: dict[Path, Any] = {}

    def _find(self, name: str) -> tuple[Any, str]:
        """The open file of a tensor, and its name in that file."""
        path, stored = self._place[name]
        if path not in self._open:
            self._open[path] = _open(path, self._stack)
        return self._open[path], stored

    def __getitem__(self, name: str) -> Any:
        file, stored = self._find(name)
        return file[stored]


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

    def dtype(self, name: str) -> Any:
        # An empty piece of it: safetensors spells dtypes in words of its own, and this reads nothing.
        piece = self._file.get_slice(name)
        return (piece[0:0] if piece.get_shape() else piece[...]).dtype


def _kind(file: Any, name: str) -> tuple[tuple[int, ...], Any]:
    """Shape and dtype of a tensor of an open file; safetensors say them without being read."""
    if isinstance(file, dict):
        return tuple(file[name].shape), file[name].dtype
    return file.shape(name), file.dtype(name)


def _open(path: Path, stack: ExitStack) -> Any:
    import torch
    from safetensors import safe_open

    try:
        with open_regular(path) as file:
            pointer = file.read(len(_LFS_POINTER)) == _LFS_POINTER
        if pointer:
            raise CheckpointError(f"{path} is a Git LFS pointer and not the weights; `git lfs pull` fetches them")
        if path.suffix == ".safetensors":
            return _Safetensors(stack.enter_context(safe_open(path, framework="pt")))
        # Files written before torch 1.6 are no archives, and can only be read whole.
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except CheckpointError:
        raise
    except Exception as e:  # what a broken or hostile file raises is not for the reader to foresee
        raise CheckpointError(f"{path}: cannot be read as weights: {first_line(e)}") from e
    if not isinstance(tensors, dict) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise CheckpointError(f"{path}: not a file of weights: it holds something other than named tensors")
    return tensors


def read_ahead(folder: Path, form: str = "auto") -> None:
    """Ask the system to read the weight files of a folder, and do not wait for it.

    A thread that read them would take turns with the computing threads, each of which then waits for the others.
    """
    if not hasattr(os, "posix_fadvise"):
        return  # not on every system; the files are then read when they are needed
    for name in local_weight_files(folder, form):
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
