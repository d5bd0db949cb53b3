"""Datasets that come with madyn: one file each, unpacked into the published layout when it is first opened.

`data/NAME.tar.xz` in the package is a dataset, `data/NAME.toml` the suite file that it was made from. Unpacked
datasets lie in the user's cache under the archive's hash, so that a newer version of madyn opens its own.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from madyn.dataset import layout
from madyn.dataset.files import storage_error, write_bytes
from madyn.dataset.leftovers import sweep_beside
from madyn.dataset.partial import making_folder

_ARCHIVE = ".tar.xz"


def shipped_names() -> list[str]:
    """The names of the datasets that come with madyn."""
    return sorted(f.name.removesuffix(_ARCHIVE) for f in _data().iterdir() if f.name.endswith(_ARCHIVE))


def shipped_suites() -> list[str]:
    """The names of the suite files that come with madyn: those of its datasets, and others that are there to train."""
    return sorted(f.name.removesuffix(".toml") for f in _data().iterdir() if f.name.endswith(".toml"))


def shipped_suite(name: str) -> str | None:
    """A suite file that comes with madyn, or None where there is none of this name."""
    return (_data() / f"{name}.toml").read_text(encoding="utf-8") if name in shipped_suites() else None


def unpack_shipped(name: str) -> Path:
    """The folder in the user's cache that holds a shipped dataset, unpacked there if it is not yet.

    Raises:
        StorageError: the folder cannot be written.
    """
    archive = _archive(name)
    folder = _cache() / shipped_version(name) / name
    if folder.exists():
        return folder
    try:
        return _unpack(archive, folder)
    except OSError as e:
        if folder.exists():  # another process was first
            return folder
        raise storage_error(folder, e) from e


def unpack_into(folder: Path, name: str, beside: Mapping[str, bytes]) -> None:
    """Unpack a shipped dataset, and some small files by their names, into a folder that does not exist, or is empty.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        _unpack(_archive(name), folder, beside)
    except OSError as e:
        raise storage_error(folder, e) from e


def shipped_version(name: str) -> str:
    """The name with a part of its archive's hash: another one where a version of madyn ships other data."""
    return f"{name}-{hashlib.sha256(_archive(name)).hexdigest()[:16]}"


def _archive(name: str) -> bytes:
    return (_data() / f"{name}{_ARCHIVE}").read_bytes()


def _unpack(archive: bytes, folder: Path, beside: Mapping[str, bytes] = MappingProxyType({})) -> Path:
    """All of it or nothing: beside the folder first, then renamed."""
    sweep_beside(folder)
    with making_folder(folder) as partial:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:xz") as tar:
            tar.extractall(partial, filter="data")
        for name, data in beside.items():
            (partial / name).write_bytes(data)
    return folder


def pack_dataset(root: Path, archive: Path) -> None:
    """Pack a dataset into one file, as those that come with madyn are: the same dataset gives the same bytes.

    Statistics, manifest, locations, training records and the parameter table are packed; pictures and `params/`, which
    `madyn figures` and `madyn fit` make again, are not.

    Raises:
        StorageError: the file cannot be written.
    """
    found = [p for pattern in layout.PACKED for p in root.glob(pattern) if p.is_file()]
    wanted = [p for p in found if not layout.is_hidden(root, p)]  # left by a process that was killed as it wrote
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz", preset=9) as tar:
        # Files that are alike stand together, which is what makes the archive small.
        for path in sorted(set(wanted), key=lambda p: (p.relative_to(root).parts[-2:-1], str(p))):
            info = tarfile.TarInfo(path.relative_to(root).as_posix())
            data = layout.inside(root, path).read_bytes()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    write_bytes(archive, content.getvalue())


def _data() -> Any:
    return files("madyn") / "data"


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("madyn")
