"""Files and folders that are being written: under a name of their own, owned by the process that writes them.

What is under way beside `NAME` is called `.NAME.RANDOM.partial`: no reader takes it for data, and it is renamed once it
is whole. While it is written, its process holds the operating system's lock on it, which ends with the process however
that ends. So whoever can have the lock knows that the owner is dead and the rest of no use (`dataset.leftovers`).
A rename is on the disk only when its folder is, so folders are synced too, where there is such a thing (POSIX).
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from madyn.processes import before_leaving

SUFFIX = ".partial"

_LONGEST = 200  # bytes of a name that are kept: with what is added it must fit in 255
_FEW = 100  # files that are synced one by one; more of them with all that the system has to write
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL)
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_NO_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR)


def is_partial(name: str) -> bool:
    """Whether a file or folder of this name is one that is being written, or was when its process was killed."""
    return name.startswith(".") and name.endswith(SUFFIX)


def try_lock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Take the system's lock on an open file: whether it was to be had, None where files have no such locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno in _NO_LOCKS:
            return None
        if e.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


@contextmanager
def replacing(path: Path, put: Callable[[str, Path], None] | None = None) -> Iterator[BinaryIO]:
    """A file to write in place of another, which it replaces when the block ends and all of it is on the disk.

    Args:
        put: brings the whole file, given by its present name, to its place; by default over whatever is there.

    Raises:
        OSError: the file cannot be written; what was there before is still there.
    """
    make_folder(path.parent)
    name, kept = _begin(path), None
    try:
        with os.fdopen(os.open(name, _NEW_FILE, 0o600), "wb") as file:
            kept = _keep_locked(file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
        # Half a file is for its owner alone; a dataset is there to be shared.
        Path(name).chmod(0o666 & ~_UMASK)
        (put or _put_over)(name, path)
        sync_folder(path.parent)
    finally:
        _abandon(name)
        if kept is not None:
            os.close(kept)


def _put_over(whole: str, path: Path) -> None:
    Path(whole).replace(path)


def put_new(whole: str, path: Path) -> bool:
    """Give a whole file a name that nothing has; False, and nothing changed, where something has it.

    A link to it is made, which fails where the name is taken; where there are no links, a lock keeps the name.
    """
    try:
        os.link(whole, path)
    except FileExistsError:
        return False
    except OSError as e:
        if e.errno not in _NO_LINKS:
            raise
        return _put_under_lock(whole, path)
    return True


def _put_under_lock(whole: str, path: Path) -> bool:
    from filelock import FileLock

    lock = FileLock(path.with_name(f"{_prefix(path)}new"))  # it stays: removed, it would be two locks for a moment
    with lock:
        if path.exists():
            return False
        Path(whole).replace(path)
    return True


@contextmanager
def making_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, which is renamed to its place, all of it or nothing, when the block ends.

    Args:
        replace: a folder that is there already goes when the new one is whole.

    Raises:
        OSError: it cannot be written, or a folder that is not empty is there and is not to be replaced.
    """
    make_folder(path.parent)
    name, kept = _begin(path), None
    partial = Path(name)
    try:
        partial.mkdir(0o700)
        if sys.platform != "win32":
            kept = os.open(partial, os.O_RDONLY)
            try_lock(kept)
        yield partial
        _sync_tree(partial)
        partial.chmod(0o777 & ~_UMASK)
        if replace:
            _move_aside(path)
        partial.rename(path)
        sync_folder(path.parent)
    finally:
        _abandon(name)
        if kept is not None:
            os.close(kept)


def _begin(path: Path) -> str:
    """A name for what is to take the place of `path`. It is known before anything has it, so that whatever moment this
    process is told to end at, what it was writing goes with it."""
    name = str(path.with_name(f"{_prefix(path)}{secrets.token_hex(6)}{SUFFIX}"))
    _under_way.add(name)
    return name


def _abandon(name: str) -> None:
    """Remove what has this name, if anything has."""
    if Path(name).is_dir():
        shutil.rmtree(name, ignore_errors=True)
    else:
        with suppress(OSError):
            Path(name).unlink(missing_ok=True)
    _under_way.discard(name)


def _abandon_all() -> None:
    for name in list(_under_way):
        _abandon(name)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, and see to it that they stay."""
    if folder.is_dir():
        return
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system can do that."""
    if sys.platform == "win32":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as e:
        if e.errno not in _NO_SYNC:
            raise


def _keep_locked(descriptor: int) -> int | None:
    """A second descriptor of a file, locked, so that it is owned when closed. Windows renames nothing that is open."""
    if sys.platform == "win32":
        return None
    try_lock(descriptor)
    return os.dup(descriptor)


def _move_aside(path: Path) -> None:
    """Make room for a folder: the one that is there becomes a leftover, and goes."""
    if path.is_dir():
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path), suffix=SUFFIX))
        path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    if sys.platform == "win32":
        return
    files = [path for path in folder.rglob("*") if path.is_file()]
    if len(files) > _FEW:
        os.sync()
        return
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        sync_folder(inner)


def _prefix(path: Path) -> str:
    return f".{os.fsencode(path.name)[:_LONGEST].decode(errors='ignore')}."


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_under_way: set[str] = set()
before_leaving(_abandon_all)

_UMASK = _read_umask()  # read once at import: the call that reads it also sets it, for all threads
