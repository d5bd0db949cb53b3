"""In which form a command gives what it found: text for people, one JSON value (`--json`), a table as CSV (`--csv`).

Every command hands over all three; which of them is worked out, and where it goes, is decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from madyn.cli.options import STANDARD_OUTPUT, say_written
from madyn.terminal import print_json

if TYPE_CHECKING:
    import pandas as pd


def give(
    csv: Path | None,
    table: Callable[[], pd.DataFrame],
    text: Callable[[], None],
    as_json: bool = False,
    value: Callable[[], Any] | None = None,
) -> bool:
    """Print what was found, and write its table where that was asked for.

    Args:
        csv: the file, or `-`, which takes the place of the text.
        table: makes the table.
        text: prints what it says to people.
        as_json: print `value` instead.
        value: makes the JSON value, where the command has one.

    Returns:
        whether standard output is taken, by JSON or by the table, and nothing else may be printed there.
    """
    if as_json and value is not None:
        print_json(value())
    elif csv != STANDARD_OUTPUT:
        text()
    taken = as_json or csv == STANDARD_OUTPUT
    if csv is None:
        return taken
    from madyn.summaries.tables import csv_text

    if csv == STANDARD_OUTPUT:
        typer.echo(csv_text(table()), nl=False)
        return taken
    from madyn.dataset.files import write_text

    write_text(csv, csv_text(table()))
    say_written(csv, taken)
    return taken
