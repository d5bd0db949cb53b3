"""What may reach a terminal: text, and no character that a terminal obeys.

Names, messages and cells come out of files that others wrote, and out of the Hub's replies. An escape code among them
could write to the clipboard, move the cursor over what was said before, or turn a line around. So whatever is printed
shows such characters as the escape of a string, `\\x1b`, and only what this program itself makes of colour and cursor
goes through: `Printer` is the one kind of console, and `guarded` holds everything else that is written to
standard output and error, that of other packages too.

The same place answers for streams that cannot take what is written: a pipe whose reader has gone, a full disk, an
encoding that lacks a letter.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from madyn.errors import StorageError

READER_GONE = 141  # what a shell reports for a program that was stopped by writing to a pipe that nobody reads

# C0 but for tab and newline, DEL, C1, the separators that some readers break lines at, marks that turn text around, and
# halves of characters (bytes of a path that are no text).
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Bars of tqdm begin each of their writes with a carriage return, and go from line to line in writes of their own.
_MOVES = re.compile(r"(?:\n|\x1b\[A)*")


def visible(text: str) -> str:
    r"""A text with every character that a terminal would obey shown as its escape. Tabs and newlines stay.

    >>> print(visible("a\x1b]52;c;aGk=\x07b\u202ec"))
    a\x1b]52;c;aGk=\x07b\u202ec
    """
    return _OBEYED.sub(_escape, text)


def visible_json(text: str) -> str:
    r"""The same of a JSON value that is written out: it reads back to the same value.

    >>> print(visible_json('"\x9b"'))
    "\u009b"
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class Printer(Console):
    """A console that prints text as it is: no markup, no emoji codes, no line folded, nothing that a terminal obeys."""

    def __init__(self, *, stderr: bool = False, quiet: bool = False, width: int | None = None) -> None:
        super().__init__(
            stderr=stderr, quiet=quiet, width=width, soft_wrap=width is None, highlight=False, markup=False, emoji=False
        )

    @property
    def file(self) -> IO[str]:
        """The stream behind `guarded`, since colours are this program's own."""
        found = super().file
        while (behind := getattr(found, "rich_proxied_file", None)) is not None:
            found = behind
        return found

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or not _OBEYED.search(segment.text):
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


@contextmanager
def guarded() -> Iterator[None]:
    """While the block runs, whatever is written to standard output and error is text for a reader, and nothing is asked
    of the user.

    What standard output cannot take is a `StorageError`, and a pipe that nobody reads ends the program with exit code
    `READER_GONE`. What standard error cannot take is lost: there is no place to say so.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    guard()
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


def guard() -> None:
    """Do so from now on, in a process that is this program's own."""
    _open_closed()
    sys.stdin = io.StringIO()
    sys.stdout, sys.stderr = _Guarded(sys.stdout, "standard output"), _Guarded(sys.stderr, None)


def _open_closed() -> None:
    """Open the standard streams that are closed on nothing, so that no file takes their numbers and what is meant for
    them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class _Stream(io.TextIOBase):
    """A standard stream that says in words why it cannot be written to, and lacks no letter."""

    def __init__(self, stream: IO[str] | None, name: str | None) -> None:
        self._stream, self._name = stream, name
        with suppress(AttributeError, ValueError, io.UnsupportedOperation):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]

    def write(self, text: str) -> int:
        if self._stream is None:
            if text and self._name:
                raise StorageError(f"{self._name} is closed")
            return len(text)
        if text:  # a full disk refuses even nothing
            with self._refusals():
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            with self._refusals():
                self._stream.flush()

    def close(self) -> None:
        """Nothing: the stream is not this one's to close."""

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as e:
            self._give_up()
            if isinstance(e, BrokenPipeError) and self._name:
                raise SystemExit(READER_GONE) from None
            if self._name:
                raise StorageError(f"{self._name} cannot be written: {getattr(e, 'strerror', None) or e}") from e

    def _give_up(self) -> None:
        """Lead the stream to nothing: what it still holds would fail again when the interpreter ends."""
        with suppress(OSError, ValueError, AttributeError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)

    def fileno(self) -> int:
        if self._stream is None:
            raise io.UnsupportedOperation("the stream is closed")
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def buffer(self) -> Any:
        return getattr(self._stream, "buffer", None)


class _Guarded(_Stream):
    """A standard stream for whoever is not a `Printer`."""

    def __init__(self, stream: IO[str] | None, name: str | None) -> None:
        super().__init__(stream, name)
        self.rich_proxied_file = _Stream(stream, name)

    def write(self, text: str) -> int:
        start = "\r" if text.startswith("\r") else ""
        safe = text if _MOVES.fullmatch(text) else start + visible(text[len(start) :].replace("\r\n", "\n"))
        super().write(safe)
        return len(text)
