"""The terminal: one progress display for all long work and one form of table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from madyn.streams import Printer, visible, visible_json

console = Printer()


@dataclass
class _Voice:
    verbose: bool = False
    quiet: bool = False
    wrong: set[str] = field(default_factory=set)
    tables: int = 0


_voice = _Voice()


def set_voice(*, verbose: bool = False, quiet: bool = False) -> None:
    """How much is said in this process: everything; or results and errors alone, without progress and notes."""
    _voice.verbose, _voice.quiet = verbose, quiet


def say_wrong(message: str) -> None:
    """Say once on standard error what is wrong with data that a command goes on without; it then exits with 1."""
    if message not in _voice.wrong:
        count_wrong(message)
        Printer(stderr=True).print(f"wrong: {message}")


def count_wrong(message: str) -> None:
    """As `say_wrong`, of what the command says itself."""
    _voice.wrong.add(message)


def take_wrong() -> bool:
    """Whether anything was wrong since this was last asked."""
    found = bool(_voice.wrong)
    _voice.wrong.clear()
    return found


def take_tables() -> int:
    """How many tables were printed since this was last asked."""
    found, _voice.tables = _voice.tables, 0
    return found


def is_verbose() -> bool:
    return _voice.verbose


def is_quiet() -> bool:
    return _voice.quiet


def note(message: str) -> None:
    """One sentence on standard error that is worth knowing and no error; nothing where quiet was asked for."""
    if not is_quiet():
        Printer(stderr=True).print(f"note: {message}")


def progress_display(*, weighted: bool = False) -> Progress:
    """A rich progress display on standard error, which standard output's readers never see.

    Args:
        weighted: a task's total is work and not a count, so that the time left is right where parts differ in size.

    Without a terminal it draws nothing; what is printed on its console (a plan, a failure) is shown either way, unless
    quiet was asked for.
    """
    errors = Printer(stderr=True, quiet=is_quiet())
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn() if weighted else MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=errors,
        disable=not errors.is_terminal or is_quiet(),
    )


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    left: Sequence[str] = (),
    most: int | None = None,
    foot: Sequence[Sequence[Any]] = (),
) -> None:
    """A table on standard output, its columns to the right except those named in `left`.

    A row is never folded or cut: on a narrow terminal it runs on, and a pipe gets whole rows.

    Args:
        most: of the rows, the first ones, unless all details were asked for; how many were left out is said.
        foot: rows that stand below, always shown: sums, say.
    """
    _voice.tables += 1
    left_out = 0 if most is None or is_verbose() else max(0, len(rows) - most)
    rows = rows[: len(rows) - left_out]
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    for row in (*rows, *foot):
        table.add_row(*(cell_text(value) for value in row))
    console.print(title, style="bold")
    needed = Printer(width=10_000).measure(table).maximum
    Printer(width=max(console.width, needed)).print(table)
    if left_out:
        console.print(f"... and {left_out} more; -v shows all")


def few(names: Iterable[str], most: int = 6) -> str:
    """Names for one line: all of them where they are few, else the first ones, how many more, and the last.

    >>> few("abcdefghi", most=4)
    'a, b, c, ... (5 more), i'
    """
    names = list(names)
    if len(names) <= most:
        return ", ".join(names)
    return ", ".join([*names[: most - 1], f"... ({len(names) - most} more)", names[-1]])


def counted(number: int, noun: str) -> str:
    """A number of things, one or many.

    >>> counted(1, "model"), counted(1200, "layer")
    ('1 model', '1,200 layers')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def data_size(count: float | None) -> str:
    """Bytes in the unit that fits, powers of 1000.

    >>> data_size(676_800), data_size(1.2e9), data_size(0), data_size(999_999)
    ('677 kB', '1.2 GB', '0 B', '1 MB')
    """
    if count is None:
        return "-"
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    power = 0
    while float(f"{count:.3g}") >= 1000 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{float(f'{count:.3g}'):g} {units[power]}"


def print_json(value: Any) -> None:
    """One JSON value on standard output, for programs: strict JSON, NaN and infinity as null, numpy's numbers as plain.

    Nothing else may be printed on standard output by a command that was asked for JSON.
    """
    in_ascii = not console.encoding.startswith("utf")
    console.print(visible_json(json.dumps(_plain(value), indent=1, ensure_ascii=in_ascii, allow_nan=False)))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def cell_text(value: Any) -> str:
    """A value for a reader: four digits of a float, thousands set off in a whole number, - for what is missing."""
    if isinstance(value, str):
        return visible(value).replace("\n", "\\n").replace("\t", "\\t")
    if value is None or value != value:  # NaN is not equal to itself
        return "-"
    if isinstance(value, bool):
        return "yes" if value else ""
    number = float(value)
    if isinstance(value, int):
        return f"{value:,}"
    if 0 < abs(number) < 1e-3 or abs(number) >= 1e6:
        return f"{number:.3e}"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
