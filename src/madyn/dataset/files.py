"""Writing whole files or none.

Every file that madyn leaves behind is written here: to a temporary name in the same directory, flushed to the disk,
then renamed over its place. A run that is killed, or a disk that fills up, leaves the old file or the new one and
never a part of one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from madyn.errors import DatasetError, StorageError

MAX_FILE_BYTES = 1 << 28  # no file of the layout comes near this; a larger one is a mistake or an attack


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically, making its folder if needed.

    Raises:
        StorageError: the folder or the file cannot be written; what was there before is still there.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for their owner alone; a dataset is there to be shared.
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(path)
    except OSError as e:
        raise storage_error(path, e) from e
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for text, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON: NaN and infinity are refused, since other languages' readers refuse them."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a file of a dataset.

    Raises:
        DatasetError: the file is missing, unreadable, or larger than `limit`.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise DatasetError(f"{path}: {size} bytes; no such file of a dataset is larger than {limit}")
        return path.read_bytes()
    except OSError as e:
        raise DatasetError(f"{path}: cannot be read: {e.strerror}") from e


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        DatasetError: the file is missing, unreadable, or not JSON.
    """
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as e:
        raise DatasetError(f"{path}: not JSON: {e}") from e


def storage_error(path: Path, e: Exception) -> StorageError:
    """The error to raise where writing `path` failed with `e`, with advice for the common causes."""
    code, reason = (e.errno, e.strerror) if isinstance(e, OSError) else (None, None)
    advice = {
        errno.ENOSPC: "free some space and run it again; what is written stays and is not measured twice",
        errno.EDQUOT: "your quota is used up; free some space and run it again",
        errno.EACCES: "choose a folder that you may write to",
        errno.EPERM: "choose a folder that you may write to",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.ENOTDIR: "a part of this path is a file; choose another folder",
        errno.EEXIST: "a part of this path is a file; choose another folder",
    }.get(code or 0, "check the folder and run it again")
    return StorageError(f"cannot write {path}: {reason or e}; {advice}")


def sha256(*parts: bytes) -> str:
    """The hex SHA-256 of the parts in order, each preceded by its length so that no two splits agree."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()  # read once at import: the call that reads it also sets it, for all threads
