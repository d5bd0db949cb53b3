"""Writing whole files or none.

Every file that madyn leaves behind is written here: under a name of its own in the same directory (`partial`), flushed
to the disk, then renamed over its place. A run that is killed, or a disk that fills up, leaves the old file or the new
one and never a part of one.

A dataset may also lie on an object store (any URL that fsspec knows). There nothing can be renamed; an object is put
in one request, and appears whole or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from madyn.dataset.json_text import encoded
from madyn.dataset.partial import put_new, replacing
from madyn.errors import DatasetError, StorageError, UsageError, missing_dependency, one_line, quoted
from madyn.regular import read_regular, refuse_size

MAX_FILE_BYTES = 1 << 28  # no file of the layout comes near this; a larger one is a mistake or an attack


def root_path(root: str | Path) -> Path:
    """The root of a dataset: a folder, or for a URL (`s3://bucket/name`) a path of fsspec's that behaves like one.

    A `file:///` URL is the folder that it names.

    Raises:
        UsageError: the URL's protocol is not known, what it needs is not installed, or it is no path at all.
    """
    if not (isinstance(root, str) or hasattr(root, "is_dir")):
        raise UsageError(f"{quoted(root)} is not a path")
    if isinstance(root, str) and root.lower().startswith("file:/"):
        return _path_of_url(root)
    if isinstance(root, Path) or "://" not in str(root):
        return Path(root) if isinstance(root, str) else root
    from fsspec import get_filesystem_class
    from upath import UPath
    from upath.implementations.cloud import CloudPath

    try:
        # Listings are not remembered: other machines write to the same place.
        found = UPath(root, use_listings_cache=False)
        get_filesystem_class(found.protocol)
    except (ValueError, ImportError) as e:
        if isinstance(e.__cause__, ModuleNotFoundError):  # which fsspec only names
            raise missing_dependency(e.__cause__) from e
        raise UsageError(f"{root}: cannot be used: {e}") from e
    if isinstance(found, CloudPath) and not found.drive:
        raise UsageError(f"{root}: names no bucket; it reads {found.protocol}://BUCKET/NAME")
    return found  # pyright: ignore[reportReturnType]


def _path_of_url(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{url}: names another machine, {parts.netloc}; a file URL begins with file:///")
    # A path may hold what ends it in other URLs.
    return Path(unquote(url[url.index(":") + 1 :].removeprefix(f"//{parts.netloc}")))


def is_local(path: Path) -> bool:
    return isinstance(path, Path)


def create_bytes(path: Path, data: bytes) -> bool:
    """Write a file that nobody has written before; False, and nothing changed, where somebody has.

    Of several writers the first wins, on a file system as on an object store.

    Raises:
        StorageError: as `write_bytes`.
    """
    if not is_local(path):
        try:
            path.fs.pipe_file(path.path, data, mode="create")  # pyright: ignore[reportAttributeAccessIssue]
        except FileExistsError:
            return False
        except Exception as e:
            raise storage_error(path, e) from e
        return True
    created = False

    def put(whole: str, to: Path) -> None:
        nonlocal created
        created = put_new(whole, to)

    try:
        if path.exists():
            return False
        with replacing(path, put) as file:
            file.write(data)
    except OSError as e:
        raise storage_error(path, e) from e
    return created


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically, making its folder if needed.

    Raises:
        StorageError: the folder or the file cannot be written; what was there before is still there.
    """
    try:
        if is_local(path):
            with replacing(path) as file:
                file.write(data)
        else:
            path.fs.pipe_file(path.path, data)  # pyright: ignore[reportAttributeAccessIssue]
    except OSError as e:
        raise storage_error(path, e) from e
    except Exception as e:  # every store has errors of its own
        if is_local(path):
            raise
        raise storage_error(path, e) from e


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for text, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON: NaN and infinity are refused, since other languages' readers refuse them."""
    write_bytes(path, encode_json(value))


def encode_json(value: Any) -> bytes:
    """The bytes of a JSON file, as `write_json` writes it."""
    return f"{encoded(value)}\n".encode()


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a file of a dataset.

    No more than `limit` bytes are taken, whatever size the file is said to have: a link to a device that never ends
    says 0, and a file may grow as it is read.

    Raises:
        DatasetError: the file is missing, unreadable, no regular file (a folder, a pipe, a device), or larger than
            `limit`.
    """
    try:
        if is_local(path):
            return read_regular(path, limit)
        if path.stat().st_size > limit:
            raise refuse_size(path, path.stat().st_size, limit)
        return path.read_bytes()
    except Exception as e:  # every store has errors of its own
        raise _unreadable(path, e) from e


def _unreadable(path: Path, e: Exception) -> DatasetError:
    """The error to raise where a path cannot be read; a path that no file system would take is cut."""
    reason = (e.strerror if isinstance(e, OSError) else None) or one_line(e)
    return DatasetError(f"{one_line(path)}: cannot be read: {reason}")


def is_there(path: Path) -> bool:
    """Whether something lies at a path.

    Raises:
        DatasetError: nobody can tell, as where the folder may not be looked into.
    """
    try:
        return path.exists()
    except Exception as e:  # of a file system, a path that it does not take, or a store
        raise _unreadable(path, e) from e


def list_folder(folder: Path) -> list[Path]:
    """What lies in a folder, in no order; nothing where there is no such folder.

    Raises:
        DatasetError: the folder may not be looked into.
    """
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except Exception as e:
        raise _unreadable(folder, e) from e


def is_folder(path: Path) -> bool:
    """Whether a path is a folder. Raises DatasetError where nobody can tell."""
    try:
        return path.is_dir()
    except Exception as e:
        raise _unreadable(path, e) from e


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        DatasetError: the file is missing, unreadable, or not JSON.
    """
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as e:
        raise DatasetError(f"{path}: not JSON: {one_line(e)}") from e


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
