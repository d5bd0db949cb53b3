"""Files that are files, read with a bound.

A name that somebody else gives may lead to a pipe, which is waited for without end, or to a device, whose size is said
to be 0 and which never ends; and a file of a few bytes may unpack to gigabytes. What madyn reads is opened here: a
regular file or nothing, and no more of it than the caller has use for.
"""

from __future__ import annotations

import errno
import gzip
import os
import stat
import zlib
from pathlib import Path
from typing import Any, BinaryIO

UNPACKED = 100
"""Text packs to a fifth or a tenth; a file that unpacks to so many times its size was made to."""

_LEAST = 1 << 24  # bytes: small files may be all alike


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file to read its bytes.

    Raises:
        OSError: there is none, it may not be read, or it is a folder, a pipe or a device.
        ValueError: no file can have that name.
    """

    # Without O_NONBLOCK, a pipe that nobody writes to would be waited for.
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    file = open(path, "rb", opener=opener)  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def read_regular(path: str | Path, limit: int) -> bytes:
    """The bytes of a file, whatever size it is said to have.

    Raises:
        OSError: as `open_regular`, or it holds more than `limit` bytes.
        ValueError: no file can have that name.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(min(size, limit) + 1)
        if size < len(data) <= limit:  # it says less than it holds
            data += file.read(limit + 1 - len(data))
        if len(data) > limit:
            raise refuse_size(path, max(size, len(data)), limit)
        return data


def refuse_size(path: object, size: int, limit: int) -> OSError:
    """The error of a file that is too large."""
    return OSError(errno.EFBIG, f"{size} bytes, where at most {limit} are read", str(path))


def open_gzip(path: str | Path) -> gzip.GzipFile:
    """Open a packed file to read what is in it, up to 100 times its size.

    Raises:
        OSError: as `open_regular`; from reading, where it is damaged or unpacks to more.
    """
    file = open_regular(path)
    return _Bounded(file, max(_LEAST, UNPACKED * os.fstat(file.fileno()).st_size))


class _Bounded(gzip.GzipFile):
    def __init__(self, file: BinaryIO, most: int) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._packed, self._most, self._taken = file, most, 0

    def read(self, size: int | None = -1) -> bytes:
        whole = size is None or size < 0
        return self._counted(super().read, self._most + 1 if whole else size)

    def read1(self, size: int = -1) -> bytes:
        return self._counted(super().read1, size)

    def _counted(self, read: Any, size: int | None) -> bytes:
        try:
            data = read(size)
        except zlib.error as e:
            raise OSError(errno.EIO, f"damaged: {e}", self.name) from e
        self._taken += len(data)
        if self._taken > self._most:
            raise OSError(errno.EFBIG, f"unpacks to more than {UNPACKED} times its size", self.name)
        return data

    def close(self) -> None:
        super().close()
        self._packed.close()
