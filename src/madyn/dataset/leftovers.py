"""What killed processes leave in a dataset: files half written, and locks that nobody holds.

Nothing reads any of it. It is removed when a command that writes begins (`sweep`), and `madyn check` tells of it
(`find_leftovers`). A file whose owner is alive is locked by it (`partial`, `locking`) and stays; so does one that is
less than a minute old, whose owner may not have come to lock it yet. Where a file system has no locks, age alone
decides. Only the places where madyn writes are looked at.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from madyn.dataset.files import is_local
from madyn.dataset.partial import is_partial, try_lock

QUIET = 60.0
"""Seconds: nothing younger is a leftover."""

_ABANDONED = 86_400.0  # seconds: what is older is a leftover where no lock can tell
_SHARED = ("manifest", "locations", "positions", "training", "monitor", "analysis", "checkpoints", ".lab", ".locks")
_DEPTH = 3  # of folders below those of a model, and of what all models share


def find_leftovers(root: Path) -> list[Path]:
    """What killed processes left in a dataset, by path. Nothing is changed."""
    return sorted(path for path in _candidates(root) if _is_dead(path))


def sweep(root: Path) -> list[Path]:
    """Remove what killed processes left in a dataset; gives what it was. What cannot be removed stays."""
    return [path for path in _candidates(root) if remove_dead(path)]


def sweep_beside(path: Path) -> None:
    """Remove what killed processes left beside a file or folder as they wrote just that."""
    with suppress(OSError):
        for entry in os.scandir(path.parent):
            if is_partial(entry.name) and entry.name.startswith(f".{path.name}."):
                remove_dead(Path(entry.path))


def remove_dead(path: Path) -> bool:
    """Remove a file or folder whose owner is dead, while its lock is held, so that no other process takes it."""
    with _owned(path) as dead:
        if not dead:
            return False
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError:
            return False
        return True


def _is_dead(path: Path) -> bool:
    with _owned(path) as dead:
        return dead


def _candidates(root: Path) -> Iterator[Path]:
    if not is_local(root):
        return
    for entry in _entries(root):
        if is_partial(entry.name):
            yield Path(entry.path)
        elif entry.is_dir(follow_symlinks=False) and (entry.name in _SHARED or Path(entry.path, "stats").is_dir()):
            yield from _within(entry.path, _DEPTH)


def _within(folder: str, depth: int) -> Iterator[Path]:
    for entry in _entries(folder):
        if is_partial(entry.name) or _is_lock(entry):
            yield Path(entry.path)
        elif depth and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
            yield from _within(entry.path, depth - 1)


def _is_lock(entry: os.DirEntry[str]) -> bool:
    """Whether a file is the lock on a unit, or on a model that is trained: gone when given up in order."""
    parts = Path(entry.path).parts
    return (
        parts[-3] == ".locks" or (parts[-2] == ".lab" and entry.name.endswith(".lock"))
    ) and not entry.name.startswith(".")


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


@contextmanager
def _owned(path: Path) -> Iterator[bool]:
    """Whether a file or folder has no owner any more; while the block runs, nobody else becomes it."""
    age = _age(path)
    if age is None or age < QUIET:
        yield False
        return
    descriptor = _open(path)
    if descriptor is None:
        yield age > _ABANDONED
        return
    try:
        had = try_lock(descriptor)
        yield had if had is not None else age > _ABANDONED
    finally:
        os.close(descriptor)


def _open(path: Path) -> int | None:
    if sys.platform == "win32":
        return None
    for way in (os.O_RDWR, os.O_RDONLY):  # some file systems lock only what is open for writing; folders never are
        try:
            return os.open(path, way | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
    return None


def _age(path: Path) -> float | None:
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return None
