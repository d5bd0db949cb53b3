"""The small JSON files of a checkpoint, whoever wrote them: read with a bound, and held against what they may say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from madyn.dataset.schema import read_as
from madyn.errors import CheckpointError, DatasetError, quoted

_MOST = {"layer": 10_000, "depth": 10_000, "block": 10_000, "expert": 100_000}
"""How much a model may have of what is built one by one, by a word in the config's key."""

_LARGEST_SIZE = 1 << 31
"""No width, vocabulary or context is larger."""


def read_json_as(path: Path, kind: Any) -> Any:
    """A JSON file of a checkpoint as a type says it. Raises CheckpointError where it is not that."""
    try:
        return read_as(path, kind)
    except DatasetError as e:
        raise CheckpointError(str(e)) from e


def refuse_other_than_files(folder: Path) -> None:
    """Raise CheckpointError where a folder holds a pipe or a device: transformers would wait for what it says."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return  # loading will tell
    for path in entries:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise CheckpointError(f"{path}: not a regular file; a checkpoint's folder holds files")


def refuse_absurd_config(config: Mapping[str, Any], where: object) -> None:
    """Raise CheckpointError where a config asks for a model that nobody has: transformers would begin to build it."""
    for key, value in _numbers(config):
        most = next((count for word, count in _MOST.items() if word in key), _LARGEST_SIZE)
        sized = most < _LARGEST_SIZE or any(word in key for word in ("size", "dim", "head", "embd", "positions", "ffn"))
        if sized and value > most:
            raise CheckpointError(
                f"{where}: its config says that {key} is {quoted(value)}; no model has more than {most}"
            )


def _numbers(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The whole numbers of a config and of the configs in it, by key."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield str(key), value
