"""Statistics files: a B x Q x L nested list of numbers, written exactly and read from whatever others wrote.

What madyn writes is valid JSON and a Python literal at once, each float in the shortest form that reads back to the
same 64-bit value (so a float32 measurement survives any reader bit for bit). What others wrote may be a Python
literal, or hold numpy's or torch's own printed forms: `np.float32(1.5)`, `array([...], dtype=float32)`, nan, inf.
Reading never evaluates code. Plain lists of numbers take the JSON parser; everything else goes through a small
scanner that knows brackets, commas, numbers and those names, holds the nesting to what the layout has, and says where
it stopped.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from madyn.dataset.files import read_bytes, write_bytes
from madyn.dataset.layout import QUANTITIES
from madyn.errors import DatasetError

MAX_BYTES = 1 << 25  # 36 layers x 10 sequences are 30 kB

_DEPTH = 3
_AXES = ("sequence", "quantity", "layer")
_PLAIN = re.compile(r"[\s\[\],0-9eE.+-]*")
_MODULE = re.compile(r"(?:np|numpy|math)\.")
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<keyword>,\s*(?:dtype|device)\s*=\s*(?:'[\w.:]*'|"[\w.:]*"|[\w.]+))
    | (?P<call>(?:np|numpy|torch)?\.?(?:array|tensor|float(?:16|32|64)|longdouble)\s*\()
    | (?P<open>[\[(])
    | (?P<close>[\])])
    | (?P<comma>,)
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<special>[+-]?(?:(?:np|numpy|math)\.)?(?:nan|NaN|inf|Infinity)(?![\w.]))
    )""",
    re.VERBOSE,
)


def write_statistics(path: Path, statistics: np.ndarray) -> None:
    """Write a checkpoint's statistics, shape (B, 4, L), atomically.

    Raises:
        DatasetError: the shape is wrong or a value is not finite.
        StorageError: the file cannot be written.
    """
    write_bytes(path, encode_statistics(statistics))


def encode_statistics(statistics: np.ndarray) -> bytes:
    """The bytes of a statistics file. Raises DatasetError where the shape is wrong or a value is not finite."""
    values = np.asarray(statistics, dtype=np.float64)
    if values.ndim != _DEPTH or values.shape[1] != len(QUANTITIES) or 0 in values.shape:
        raise DatasetError(f"statistics of shape {values.shape}; expected sequences x 4 quantities x layers")
    if not np.isfinite(values).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise DatasetError(f"the value at {_place(place)} is not finite")
    return json.dumps(values.tolist()).encode()


def read_statistics(path: Path) -> np.ndarray:
    """Read a statistics file, shape (B, 4, L), float64. NaN and infinity are read as such.

    Raises:
        DatasetError: the file is missing, too large, or not a B x 4 x L list of numbers; names the file and the place.
    """
    return parse_statistics(path, read_bytes(path, MAX_BYTES))


def parse_statistics(path: Path, data: bytes) -> np.ndarray:
    """As `read_statistics`, of the bytes that a file was found to hold."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise DatasetError(f"{path}: byte {e.start}: not text") from e
    return _to_array(path, _parse(path, text))


def _parse(path: Path, text: str) -> Any:
    if _PLAIN.fullmatch(text):
        try:
            return json.loads(text, parse_int=float)
        except (ValueError, RecursionError):
            pass  # the scanner says where the fault is
    return _Scanner(path, text).parse()


@dataclass
class _Open:
    """Something that is open: a list, or a call."""

    closed_by: str
    values: list[Any]
    call: bool = False


class _Scanner:
    """Reads nested lists without recursion.

    `stack` holds what is open: the bracket that will close it, and its values. A call such as `array(` is open too,
    holds exactly one value, and stands for it.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text, self.at = path, text, 0
        self.stack: list[_Open] = [_Open("", [])]

    def parse(self) -> Any:
        text, end = self.text, len(self.text.rstrip())
        after_value = False
        while self.at < end:
            match = _TOKEN.match(text, self.at)
            if match is None:
                self.fail(f"{_excerpt(text, self.at)} is not a number, a bracket or a comma")
            kind, token = match.lastgroup, match[match.lastgroup or 0]
            if kind in ("number", "special", "open", "call") and after_value:
                self.fail(f"{_excerpt(text, self.at)} follows a value with no comma between them")
            if kind in ("comma", "keyword") and not after_value:
                self.fail("a comma with no value before it")
            if kind == "number" or kind == "special":
                self.stack[-1].values.append(
                    float(token.rpartition(".")[2] if kind == "special" and "." in token else token)
                )
            elif kind in ("open", "call"):
                self.open(_Open("]" if token == "[" else ")", [], call=kind == "call"))
            elif kind == "close":
                self.close(token)
            elif kind == "keyword" and not self.stack[-1].call:
                self.fail("a keyword outside array(...)")
            after_value = kind in ("number", "special", "close", "keyword")
            self.at = match.end()
        if len(self.stack) > 1:
            self.fail("the file ends inside a list; it is truncated")
        values = self.stack[0].values
        if len(values) != 1:
            self.fail("the file is empty" if not values else "more than one value")
        return values[0]

    def open(self, new: _Open) -> None:
        lists = sum(not level.call for level in self.stack) - 1
        if (not new.call and lists == _DEPTH) or len(self.stack) > 2 * _DEPTH + 1:
            self.fail(f"brackets nested more than {_DEPTH} deep")
        self.stack.append(new)

    def close(self, token: str) -> None:
        if token != self.stack[-1].closed_by:
            self.fail(f"{token!r} closes nothing")
        level = self.stack.pop()
        if level.call and len(level.values) != 1:
            self.fail(f"{len(level.values)} values in a call that stands for one")
        self.stack[-1].values.append(level.values[0] if level.call else level.values)

    def fail(self, why: str) -> NoReturn:
        depths = [len(level.values) for level in self.stack[1:] if not level.call]
        place = f" ({_place(tuple(depths))})" if depths else ""
        raise DatasetError(f"{self.path}: character {self.at}{place}: {why}")


def _to_array(path: Path, nested: Any) -> np.ndarray:
    if not isinstance(nested, list) or not nested:
        raise DatasetError(f"{path}: expected a list of sequences, found {_describe(nested)}")
    layers: int | None = None
    for b, sequence in enumerate(nested):
        if not isinstance(sequence, list) or len(sequence) != len(QUANTITIES):
            raise DatasetError(
                f"{path}: sequence {b}: expected the 4 lists {', '.join(QUANTITIES)}, found {_describe(sequence)}"
            )
        for q, row in enumerate(sequence):
            if not isinstance(row, list) or not row or any(isinstance(value, list) for value in row):
                raise DatasetError(f"{path}: {_place((b, q))}: expected a list of numbers, found {_describe(row)}")
            layers = len(row) if layers is None else layers
            if len(row) != layers:
                raise DatasetError(f"{path}: {_place((b, q))}: {len(row)} layers where the first row has {layers}")
    return np.array(nested, dtype=np.float64)


def _place(indices: tuple[int, ...]) -> str:
    return ", ".join(f"{axis} {index}" for axis, index in zip(_AXES, indices, strict=False))


def _describe(value: Any) -> str:
    if not isinstance(value, list):
        return f"the number {value}"
    inner = " of lists" if value and isinstance(value[0], list) else ""
    return f"a list of {len(value)}{inner}" if value else "an empty list"


def _excerpt(text: str, at: int) -> str:
    return repr(text[at : at + 24].strip())
