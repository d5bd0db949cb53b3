"""Who may do what in a dataset while others are at work in it.

On a file system a lock is the operating system's lock on a file below `.locks/`: it ends with its holder, however that
ends, so that nobody ever has to remove one. An object store has no locks. There one is an object that is created only
if it is not there, and says whose it is; its holder removes it, and where that died, the next one says which object to
remove. A store that cannot create on a condition cannot keep one writer from undoing another's work, and is refused.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from madyn.dataset.files import is_local, storage_error
from madyn.dataset.layout import inside
from madyn.dataset.partial import make_folder, try_lock
from madyn.errors import StorageError, UsageError

PATIENCE = 600.0
"""Seconds that a writer waits for another one on a file system: long, since no lock there outlives its holder."""

PATIENCE_STORE = 60.0
"""Seconds that a writer waits for the lock of another one on an object store, where its holder may be long dead."""

_OFTEN = 0.2  # seconds between two looks at an object


@contextmanager
def hold(path: Path, wait: float = 0.0, *, remove: bool = False) -> Iterator[bool]:
    """Hold the lock on a file of a file system while the block runs; gives whether it was to be had.

    Args:
        wait: for so many seconds, until whoever holds it has finished or died; below 0 without end.
        remove: the file is gone when the lock is given up.

    Raises:
        StorageError: the file cannot be made.
    """
    from filelock import FileLock, Timeout

    try:
        make_folder(path.parent)
        lock = FileLock(path)  # one that was removed as we came to lock it is none, and is taken anew
        lock.acquire(timeout=wait)
    except Timeout:
        yield False
        return
    except OSError as e:
        raise storage_error(path, e) from e
    place = place_of(path)
    try:
        yield True
    finally:
        # Before it is given up: whoever waits then sees that it locked nothing, and takes another. One that lies in the
        # place of ours, where the folder was removed and made again, is not ours to remove.
        if remove and place_of(path) == place:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        lock.release()


def place_of(path: Path) -> tuple[int, int] | None:
    """Which file a name stands for now; None for none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def share(path: Path) -> Iterator[bool]:
    """Hold a lock together with others that share it; False where somebody holds it alone (`hold`).

    Where a system's locks cannot be shared, it is looked at and not held.

    Raises:
        StorageError: the file cannot be made.
    """
    try:
        make_folder(path.parent)
        if sys.platform == "win32":
            with hold(path, 1.0) as free:
                pass
            yield free
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as e:
        raise storage_error(path, e) from e
    try:
        yield try_lock(descriptor, shared=True) is not False
    finally:
        os.close(descriptor)


@contextmanager
def writing(root: Path, what: str) -> Iterator[None]:
    """Be the only writer of a part of a dataset while the block runs, on a file system or on an object store.

    Args:
        what: the part, in a word: "fits".

    Raises:
        StorageError: another process goes on writing, or was killed as it wrote to an object store; or the store has
            no way to keep two writers apart.
    """
    path = inside(root, root / ".locks" / f".{what}")
    if not is_local(root):
        with _object(path, what):
            yield
        return
    with hold(path, PATIENCE) as mine:
        if not mine:
            raise StorageError(
                f"another process has been writing {what} into {root} for {PATIENCE / 60:.0f} minutes: wait for it, "
                "or end it, and run this again"
            )
        yield


@contextmanager
def _object(path: Any, what: str) -> Iterator[None]:
    """Hold a lock that is an object of a store."""
    mine = json.dumps(
        {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "token": secrets.token_hex(8),
        }
    ).encode()
    end = time.monotonic() + PATIENCE_STORE
    while not _create(path, mine):
        holder = _holder(path) or {}  # it may have been given up between two looks
        if time.monotonic() > end or _is_dead(holder):
            state = "is dead" if _is_dead(holder) else f"has not finished in {PATIENCE_STORE:.0f} seconds"
            raise StorageError(
                f"{path}: process {holder.get('process')} on {holder.get('host')} writes {what} since "
                f"{holder.get('since')} and {state}; if it does not run any more, remove that object and run this again"
            )
        time.sleep(_OFTEN)
    try:
        if _create(path, mine):
            raise StorageError(
                f"{path}: this store creates an object though it is there, so two processes that write {what} would "
                "undo each other's work; write to a folder with --out (out=)"
            )
        yield
    finally:
        with suppress(Exception):
            path.fs.rm_file(path.path)


def _create(path: Any, data: bytes) -> bool:
    try:
        path.fs.pipe_file(path.path, data, mode="create")
    except FileExistsError:
        return False
    except (NotImplementedError, TypeError, ValueError) as e:
        raise StorageError(
            f"{path}: this store cannot create an object only if it is not there ({e}); write to a folder with --out "
            "(out=)"
        ) from e
    except Exception as e:  # every store has errors of its own
        raise storage_error(path, e) from e
    return True


def _holder(path: Any) -> dict[str, Any] | None:
    """What a lock says of its holder; None where there is none any more."""
    try:
        found = json.loads(path.fs.cat_file(path.path))
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    except Exception as e:
        raise storage_error(path, e) from e
    return found if isinstance(found, dict) else {}


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether a holder is a process of this machine that is there no more."""
    process = holder.get("process")
    if holder.get("host") != socket.gethostname() or not isinstance(process, int) or os.name != "posix":
        return False
    if not 0 < process < 2**31:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


@contextmanager
def tracing(root: Path) -> Iterator[None]:
    """Measure into a dataset beside others that do, and beside no lab that trains in it.

    Raises:
        UsageError: a lab trains in it.
        StorageError: the folder cannot be written.
    """
    if not is_local(root):
        yield
        return
    with share(_lab_lock(root)) as free:
        if not free:
            raise UsageError(f"a lab trains in {root}: wait for it, or use another --out")
        yield


@contextmanager
def training_alone(root: Path) -> Iterator[None]:
    """Hold a dataset's lab while the block runs: two would write the same states, and a trace the same units.

    Raises:
        UsageError: another lab trains in it, or a trace measures into it.
        StorageError: the folder cannot be written.
    """
    with hold(_lab_lock(root)) as mine:
        if not mine:
            raise UsageError(f"another process trains in {root} or traces into it: wait for it, or use another --out")
        yield


def _lab_lock(root: Path) -> Path:
    return inside(root, root / ".locks" / ".lab")
