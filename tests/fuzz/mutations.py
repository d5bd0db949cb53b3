"""Files spoilt on purpose: the same seed spoils a file in the same way, whatever the machine.

A mutation takes a file's bytes and a `random.Random` and gives other bytes. Which ones suit a file goes by its kind:
any file may lose or gain bytes; JSON has its values replaced, and its keys renamed, removed and doubled; a CSV has its
cells, rows and header spoilt. Numbers are spoilt where they stand in the text.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    "0", "-1", "-5", "1e400", "-1e400", "NaN", "-Infinity", "1e308", "5e-324", "9007199254740993", str(2**63),
    str(2**70), "1" * 400, "9" * 5000, "1.5", "0x10", "1_000", "１２", "+1", "01", "1e", "--1", "null", "true",
)  # fmt: skip
TEXTS = (
    "", " ", "text", "\x1b[31mred", "a\nb", "a\rb", "\x00", "=1+1", "+1", "-1", "@x", "\t", "'=1", "../..", "nan", "NA",
    "1e400", str(2**70), "x" * 10_000, "µ" * 3000, '"', ",", "é\u202e", "None", "True", "[1]", "{}", "1,2", "-0",
)  # fmt: skip


class _Raw(str):
    """Text that stands in JSON as it is, quotes and all."""


_VALUES: tuple[Any, ...] = (
    None, True, False, [], {}, [1, 2], {"a": 1}, [[]], [None], {"": None}, -5, 2**70, 0, 1, 1.5, 10**9, 2**63,
    2**53 + 1,
    *(_Raw(n) for n in ("1e400", "-1e400", "NaN", "Infinity", "1" * 5000, "1e308", '"\\ud800"', '"\\u0000"')),
    _Raw("[" * 50 + "]" * 50), _Raw("[" * 20_000 + "]" * 20_000), _Raw('{"a":' * 500 + "1" + "}" * 500),
    _Raw("[" + ",".join(["1"] * 5000) + "]"), _Raw("[" + ",".join([f'"p{i}"' for i in range(3000)]) + "]"),
    *TEXTS,
)  # fmt: skip


def mutations_of(name: str) -> tuple[Mutation, ...]:
    """What spoils a file of this name; a mutation that stands twice is drawn twice as often."""
    if name.endswith(".csv"):
        return (*_CSV, *_CSV, spoil_number, spoil_number, *_BYTES)
    if name.endswith((".json", ".jsonl")):
        return (*_JSON, *_JSON, spoil_number, spoil_number, *_BYTES)
    if "/stats/" in f"/{name}":
        return (*_JSON, spoil_number, spoil_number, spoil_number, *_BYTES)
    if name.endswith((".toml", ".txt", ".md")):
        return (spoil_number, spoil_number, *_BYTES)
    return _BYTES


# bytes of any file


def flip(data: bytes, rng: random.Random) -> bytes:
    spoilt = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 3, 10))):
        if spoilt:
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def cut_short(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def remove_piece(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.choice((1, 2, 8, 64, 1000)) :]


def insert(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    piece = rng.choice(
        (b"\0", b"\xff", b"\xef\xbb\xbf", b"[", b"]", b"{", b",", b"'", b'"', b"\n", b"1", b"-", b"e9", b".",
         b"\x1b]52;c;", b" " * 5000, b"[" * 5000, b"nan", rng.randbytes(rng.choice((1, 4, 50))),
         b"\xf0\x9f\x98\x80", b"np.float64(")
    )  # fmt: skip
    return data[:start] + piece + data[start:]


def double_piece(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice((1, 4, 30, 300, len(data))))
    return data[:end] + data[start:end] + data[end:]


def replace_all(data: bytes, rng: random.Random) -> bytes:
    whole = (
        b"", b" ", b"\n", b"\0" * 100, b"\xff\xfe" + data[:200].decode(errors="replace").encode("utf-16-le"), b"null",
        b"1e400", b"[]", b"{}", b'""', b"[[]]", b"[" * 100_000, b"[" * 3000 + b"]" * 3000, b'{"a":' * 100_000,
        b"1" * 100_000, b"," * 100_000, b"\x1f\x8b\x08", b"PK\x03\x04", b"\x80\x04\x95", rng.randbytes(200),
        b'"' + b"x" * 100_000,
    )  # fmt: skip
    return rng.choice(whole)


_BYTES: tuple[Mutation, ...] = (flip, flip, cut_short, remove_piece, insert, double_piece, replace_all)


# numbers in any text

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


def spoil_number(data: bytes, rng: random.Random) -> bytes:
    """One number written otherwise: another value, an impossible one, or another digit of it."""
    found = list(_NUMBER.finditer(data))
    if not found:
        return flip(data, rng)
    match = rng.choice(found)
    if rng.random() < 0.5:
        new = rng.choice(NUMBERS).encode()
    else:
        digits = [i for i, c in enumerate(match[0]) if chr(c).isdigit()]
        at, digit = rng.choice(digits), b"%d" % rng.randrange(10)
        new = match[0][:at] + digit + match[0][at + 1 :]
    return data[: match.start()] + new + data[match.end() :]


# JSON


def spoil_json(data: bytes, rng: random.Random) -> bytes:
    """One value replaced by another of any kind."""
    return _at_a_place(data, rng, lambda holder, key, rng: holder.__setitem__(key, rng.choice(_VALUES)))


def remove_entry(data: bytes, rng: random.Random) -> bytes:
    return _at_a_place(data, rng, lambda holder, key, _: holder.__delitem__(key))


def add_entry(data: bytes, rng: random.Random) -> bytes:
    def add(holder: Any, key: Any, rng: random.Random) -> None:
        if isinstance(holder, dict):
            holder[rng.choice(("more", "step", "", "x" * 5000, "\x1b[2J", "ratio"))] = rng.choice(_VALUES)
        else:
            holder.insert(key, rng.choice((*_VALUES, holder[key])))

    return _at_a_place(data, rng, add)


def rename_key(data: bytes, rng: random.Random) -> bytes:
    def rename(holder: Any, key: Any, rng: random.Random) -> None:
        value = holder.pop(key)
        if isinstance(holder, dict):
            holder[rng.choice((f"{key}_", str(key).upper(), "", "nan", "-1", "1e9", "x" * 3000, *TEXTS))] = value
        else:
            holder.append(value)

    return _at_a_place(data, rng, rename)


def double_key(data: bytes, rng: random.Random) -> bytes:
    def double(holder: Any, key: Any, rng: random.Random) -> None:
        if isinstance(holder, dict):
            holder[f"{key}{_TWICE}"] = rng.choice((*_VALUES, holder[key]))
        else:
            holder.insert(key, holder[key])

    return _at_a_place(data, rng, double)


def swap_values(data: bytes, rng: random.Random) -> bytes:
    def swap(holder: Any, key: Any, rng: random.Random) -> None:
        other = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        holder[key], holder[other] = holder[other], holder[key]

    return _at_a_place(data, rng, swap)


_TWICE = "\ufdd0twice"
_JSON: tuple[Mutation, ...] = (spoil_json, spoil_json, spoil_json, remove_entry, add_entry, rename_key, double_key,
                               swap_values)  # fmt: skip


def _at_a_place(data: bytes, rng: random.Random, change: Callable[[Any, Any, random.Random], None]) -> bytes:
    """Change JSON at a place that is found by going down at random, so that few deep lists do not take all places."""
    try:
        value = json.loads(data)
    except ValueError:
        return flip(data, rng)
    if not isinstance(value, (dict, list)) or not value:
        return _written(rng.choice(_VALUES))
    holder, key = value, _any_key(value, rng)
    while isinstance(holder[key], (dict, list)) and holder[key] and rng.random() < 0.8:
        holder = holder[key]
        key = _any_key(holder, rng)
    change(holder, key, rng)
    return _written(value)


def _any_key(holder: Any, rng: random.Random) -> Any:
    return rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))


def _written(value: Any) -> bytes:
    """JSON text with raw pieces put in, and keys that are there twice."""
    raws: list[str] = []

    def plain(value: Any) -> Any:
        if isinstance(value, _Raw):
            raws.append(str(value))
            return f"\ufdd1{len(raws) - 1}\ufdd1"
        if isinstance(value, dict):
            return {key: plain(v) for key, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list) else value

    text = json.dumps(plain(value), indent=1, ensure_ascii=False).replace(_TWICE, "")
    text = re.sub('"\ufdd1(\\d+)\ufdd1"', lambda m: raws[int(m[1])], text)
    return text.encode(errors="surrogatepass")


# CSV

Rows = list[list[str]]


def _rows(change: Callable[[Rows, random.Random], None]) -> Mutation:
    def mutate(data: bytes, rng: random.Random) -> bytes:
        try:
            rows = list(csv.reader(io.StringIO(data.decode())))
        except (UnicodeDecodeError, csv.Error):
            return flip(data, rng)
        if not rows or not rows[0]:
            return flip(data, rng)
        change(rows, rng)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode(errors="surrogatepass")

    mutate.__name__ = change.__name__
    return mutate


def _place(rows: Rows, rng: random.Random, first: int = 0) -> tuple[int, int]:
    row = rng.randrange(first, len(rows)) if len(rows) > first else 0
    return row, rng.randrange(max(1, len(rows[row])))


@_rows
def spoil_cell(rows: Rows, rng: random.Random) -> None:
    row, column = _place(rows, rng, 1)
    rows[row][column : column + 1] = [rng.choice((*TEXTS, *NUMBERS))]


@_rows
def swap_cells(rows: Rows, rng: random.Random) -> None:
    (a, b), (c, d) = _place(rows, rng, 1), _place(rows, rng, 1)
    if b < len(rows[a]) and d < len(rows[c]):
        rows[a][b], rows[c][d] = rows[c][d], rows[a][b]


@_rows
def add_cell(rows: Rows, rng: random.Random) -> None:
    row, column = _place(rows, rng)
    rows[row].insert(column, rng.choice((*TEXTS, *NUMBERS)))


@_rows
def remove_cell(rows: Rows, rng: random.Random) -> None:
    row, column = _place(rows, rng)
    del rows[row][column : column + 1]


@_rows
def spoil_header(rows: Rows, rng: random.Random) -> None:
    _, column = _place(rows[:1], rng)
    rows[0][column] = rng.choice((*TEXTS, *NUMBERS, rows[0][0], rng.choice(rows[0])))


@_rows
def remove_column(rows: Rows, rng: random.Random) -> None:
    _, column = _place(rows[:1], rng)
    for row in rows:
        del row[column : column + 1]


@_rows
def change_rows(rows: Rows, rng: random.Random) -> None:
    row, _ = _place(rows, rng)
    kind = rng.randrange(5)
    if kind == 0:
        del rows[row]
    elif kind == 1:
        rows.insert(row, list(rows[row]))
    elif kind == 2:
        rows.insert(row, [])
    elif kind == 3:
        del rows[1:]
    else:
        rng.shuffle(rows)


@_rows
def widen(rows: Rows, rng: random.Random) -> None:
    """Columns that nobody knows, some or very many."""
    count = rng.choice((1, 3, 100, 20_000))
    rows[0] += [f"more{i}" for i in range(count)]
    if rng.random() < 0.5:
        for row in rows[1:]:
            row += [rng.choice(("1", "x", "1e400"))] * count


_CSV: tuple[Mutation, ...] = (spoil_cell, spoil_cell, spoil_cell, swap_cells, add_cell, remove_cell, spoil_header,
                              remove_column, change_rows, widen)  # fmt: skip
