"""GGUF files, whose metadata is read once.

transformers asks a GGUF file for its config, its tokenizer, its config again and its weights, and builds a new reader
each time: the vocabulary is parsed word by word, four times over, and the table of tensor names is made anew for every
module of the model. Together that is most of what loading a small model costs. For as long as a file is being loaded,
the parts of the `gguf` package that transformers calls give way to ones that remember the last file's answers. The
reader among them says of a file that ends too early that it does, and transformers' bar does not show.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from madyn.checkpoints.records import refuse_absurd_config
from madyn.errors import CheckpointError


@contextmanager
def reading_once(path: Path) -> Iterator[None]:
    """While the block lasts, a GGUF file that has been read before is not parsed again, unless it has changed.

    Raises:
        CheckpointError: the file that will be read is cut short.
    """
    size = path.stat().st_size
    if size == 0:
        raise _cut_short(path, size)
    import gguf
    from transformers import modeling_gguf_pytorch_utils as converting

    package: Any = gguf
    converter: Any = converting
    own = {name: getattr(package, name) for name in _REMEMBERING}
    bar = converter.tqdm
    vars(package).update(_REMEMBERING)
    converter.tqdm = _without_bar
    try:
        yield
    except struct.error as e:  # transformers unpacks the metadata of some architectures by itself
        raise _cut_short(path, size) from e
    finally:
        vars(package).update(own)
        converter.tqdm = bar


def _without_bar(tensors: Iterable[Any], **_: Any) -> Iterable[Any]:
    return tensors


def forget() -> None:
    """Give up what is remembered, once a model is loaded: a vocabulary as it was parsed takes much memory."""
    _read.cache_clear()


def _reader(path: str | Path, *mode: Any) -> Any:
    found = Path(path).stat()
    return _read(str(path), mode, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=1)
def _read(path: str, mode: tuple[Any, ...], changed: int, size: int) -> Any:
    return _strict_reader()(path, *mode)


def _cut_short(path: object, size: int) -> CheckpointError:
    return CheckpointError(
        f"{path}: the file is cut short: its {size} bytes end before what it should hold; fetch it again"
    )


@lru_cache(maxsize=1)
def _strict_reader() -> Any:
    """The package's reader, which of a file that is cut short would say that some array cannot be reshaped."""
    import numpy as np
    from gguf import GGUFValueType
    from gguf.gguf_reader import GGUFReader

    class Strict(GGUFReader):
        def _get(self, offset: Any, dtype: Any, count: Any = 1, override_order: Any = None) -> Any:
            if int(offset) + np.dtype(dtype).itemsize * int(count) > len(self.data):
                raise _cut_short(self.data.filename, len(self.data))
            return super()._get(offset, dtype, count, override_order)

        def _get_field_parts(self, orig_offs: Any, raw_type: Any) -> Any:
            if raw_type == GGUFValueType.ARRAY:
                # A number for the kind of its items stands before their count.
                self._count(self._get(orig_offs + 4, np.uint64)[0])
            return super()._get_field_parts(orig_offs, raw_type)

        def _build_fields(self, offs: Any, count: Any) -> Any:
            self._count(count)
            return super()._build_fields(offs, count)

        def _build_tensor_info(self, offs: Any, count: Any) -> Any:
            self._count(count)
            refuse_absurd_config(self._sizes(), self.data.filename)
            return super()._build_tensor_info(offs, count)

        _items = 0

        def _count(self, items: Any) -> None:
            """Each is read by itself: a count that nobody needs would take minutes."""
            self._items += int(items)
            if self._items > _MOST_ITEMS:
                raise CheckpointError(
                    f"{self.data.filename}: says that it holds {self._items} pieces of metadata; at most {_MOST_ITEMS} "
                    "are read. Is the file damaged? fetch it again"
                )

        def _sizes(self) -> dict[str, int]:
            """The whole numbers of the metadata, by name."""
            values = {name: field.parts[-1] for name, field in self.fields.items() if len(field.types) == 1}
            return {
                name: int(value[0]) for name, value in values.items() if value.size == 1 and value.dtype.kind in "iu"
            }

    return Strict


@lru_cache(maxsize=4)
def _tensor_names(architecture: Any, layers: int) -> Any:
    from gguf.tensor_mapping import get_tensor_name_map

    return get_tensor_name_map(architecture, layers)


_MOST_ITEMS = 1 << 22
"""Of metadata; the words of a vocabulary and their merges are half a million."""

_REMEMBERING = {"GGUFReader": _reader, "get_tensor_name_map": _tensor_names}
