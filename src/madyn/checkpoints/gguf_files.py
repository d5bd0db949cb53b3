"""GGUF files, whose metadata is read once.

transformers asks a GGUF file for its config, its tokenizer, its config again and its weights, and builds a new reader
each time: the vocabulary is parsed word by word, four times over, and the table of tensor names is made anew for every
module of the model. Together that is most of what loading a small model costs. For as long as a file is being loaded,
the parts of the `gguf` package that transformers calls give way to ones that remember the last file's answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any


@contextmanager
def reading_once() -> Iterator[None]:
    """While the block lasts, a GGUF file that has been read before is not parsed again, unless it has changed."""
    import gguf

    package: Any = gguf
    own = {name: getattr(package, name) for name in _REMEMBERING}
    vars(package).update(_REMEMBERING)
    try:
        yield
    finally:
        vars(package).update(own)


def forget() -> None:
    """Give up what is remembered, once a model is loaded: a vocabulary as it was parsed takes much memory."""
    _read.cache_clear()


def _reader(path: str | Path, *mode: Any) -> Any:
    found = Path(path).stat()
    return _read(str(path), mode, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=1)
def _read(path: str, mode: tuple[Any, ...], changed: int, size: int) -> Any:
    from gguf.gguf_reader import GGUFReader

    return GGUFReader(path, *mode)


@lru_cache(maxsize=4)
def _tensor_names(architecture: Any, layers: int) -> Any:
    from gguf.tensor_mapping import get_tensor_name_map

    return get_tensor_name_map(architecture, layers)


_REMEMBERING = {"GGUFReader": _reader, "get_tensor_name_map": _tensor_names}
