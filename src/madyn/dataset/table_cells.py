"""The cells of the parameter table: their number, what they may hold, and text that a spreadsheet would run.

A table is read row by row before it is read as a whole, because pandas takes a row with one cell too many for a row
with a label, and shifts all of them. Text that begins with one of = + - @, a tab or a carriage return is a formula to
a spreadsheet; it is written with an apostrophe before it, which reading takes away again.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from typing import Any

from madyn.errors import DatasetError, one_line

MOST_BYTES = 1 << 26
_MOST_COLUMNS = 1000

MISSING = ("", "nan", "NaN", "-nan", "-NaN", "NA", "N/A", "n/a", "#N/A", "<NA>", "None", "null", "NULL")
"""What stands for a number that is not there."""

# One letter has several code points: Greek small letters against the micro-like mathematical ones, or their names.
_SPELLINGS = {
    "param_lambda": "param_λ", "param_lam": "param_λ", "param_𝜆": "param_λ", "param_𝛌": "param_λ",
    "param_gamma": "param_γ", "param_𝛾": "param_γ", "param_𝛄": "param_γ", "param_ɣ": "param_γ",
    "param_t₀": "param_t0", "param_t_0": "param_t0", "param_τ0": "param_t0", "param_k": "param_K", "param_Κ": "param_K",
    "param_a": "param_A", "param_Α": "param_A",
}  # fmt: skip

_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?\s*")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def one_spelling(column: str) -> str:
    """A column's name with the Greek of the card."""
    name = column.strip()
    return _SPELLINGS.get(name, name)


def escape(text: str) -> str:
    """Text as a cell holds it, so that no spreadsheet takes it for a formula.

    >>> escape("=1+1"), escape("'=1"), escape("a-b"), unescape(escape("'@x"))
    ("'=1+1", "''=1", 'a-b', "'@x")
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unescape(cell: str) -> str:
    """The text of a cell that `escape` has made."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def written(value: Any, is_text: bool) -> Any:
    """A value as it is to stand in the table. A number stays one, in whatever form a row that is kept has it."""
    if not isinstance(value, str):
        return value
    flat = value.replace("\r", " ").replace("\x00", " ")
    return escape(flat) if is_text or not _NUMBER.fullmatch(flat) else flat


def parse(where: str, text: str) -> tuple[list[str], list[list[str]], list[int]]:
    """The columns under one spelling, the rows cell by cell, and the line that each row ends on.

    Raises:
        DatasetError: it is no table, a column is named twice, or a row has more or fewer cells than there are columns.
    """
    reader = csv.reader(io.StringIO(text), strict=True)
    columns: list[str] | None = None
    rows, lines = [], []
    try:
        for cells in reader:
            if not cells:
                continue
            if columns is None:
                columns = _columns(where, cells)
            elif len(cells) != len(columns):
                raise DatasetError(
                    f"{where}: line {reader.line_num}: {len(cells)} cells where the header names {len(columns)} columns"
                )
            else:
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as e:
        raise DatasetError(f"{where}: line {reader.line_num}: not a table: {one_line(e)}") from e
    if columns is None:
        raise DatasetError(f"{where}: is empty; `madyn fit` writes it anew")
    return columns, rows, lines


def _columns(where: str, cells: list[str]) -> list[str]:
    if len(cells) > _MOST_COLUMNS:
        raise DatasetError(f"{where}: {len(cells)} columns; a table has {_MOST_COLUMNS} at most")
    columns = [one_spelling(cell) for cell in cells]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise DatasetError(f"{where}: two columns are called {one_line(repr(twice), 60)}")
    return columns


def refuse_values(
    where: str, columns: list[str], rows: list[list[str]], lines: list[int], kinds: Mapping[str, str]
) -> None:
    """Hold the cells of known columns against what they are to be.

    Args:
        kinds: by column "name" (text that is not empty), "index" (a whole number from 0), "size" (a positive number
            or none), or "number" (a finite one or none).

    Raises:
        DatasetError: a cell is something else; names the line and the column.
    """
    for place, column in enumerate(columns):
        kind = kinds.get(column)
        if kind is None:
            continue
        for cells, line in zip(rows, lines, strict=True):
            wrong = _fault(cells[place], kind)
            if wrong:
                found = one_line(repr(cells[place][:100]), 60)
                raise DatasetError(f"{where}: line {line}, column {column}: {found} is {wrong}")


def _fault(cell: str, kind: str) -> str | None:
    if kind == "name":
        return None if 0 < len(cell) <= 255 and cell.isprintable() else "no model's name"
    if cell in MISSING:
        return "no layer's number" if kind == "index" else None
    value = as_number(cell)
    if value is None:
        return "not a number"
    if kind == "index":
        return None if value >= 0 and value == int(value) and value < 1e6 else "no layer's number"
    return "not positive" if kind == "size" and not value > 0 else None


def as_number(cell: str) -> float | None:
    """The finite number that a cell holds, or None."""
    if len(cell) > 400 or not _NUMBER.fullmatch(cell):
        return None
    value = float(cell)
    return value if math.isfinite(value) else None
