"""--explain: how to read the tables that a command prints, what each column is, and what to conclude.

What it says stands in `explained.toml`, a text a table, and nowhere else: docs/reading.md is made of it, and nothing of
the data or of the package's rooms is read to print it. The option is entered once for all commands that have a table.
"""

from __future__ import annotations

import functools
import inspect
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

import typer

from madyn import terminal
from madyn.cli.spread import signed


@dataclass(frozen=True)
class Explained:
    """How to read one table.

    Attributes:
        command: that prints it.
        name: what it is called.
        row: what a row is.
        columns: what each column is, in which unit, over what. A key may name several, with commas between; words in
            capitals stand for what the data say.
        conclude: what to take from it.
        when: it is printed; empty where always.
    """

    command: str
    name: str
    row: str
    columns: dict[str, str]
    conclude: str
    when: str = ""

    @property
    def headings(self) -> list[str]:
        """Each column's heading by itself.

        >>> Explained("show", "contents", "a model", {"a, b": "", "loss, % (95 %)": "", "|h|": ""}, "").headings
        ['a', 'b', 'loss, % (95 %)', '|h|']
        """
        return [one for key in self.columns for one in ([key] if key in _WITH_COMMA else key.split(", "))]


_WITH_COMMA = (
    "loss, % (95 %)", "p of the ratio, corrected", "at position 0, %", "in one feature, %", "feature shared, %",
    "R2 of curves, means", "at the end, means", "of the largest, means", "peak, plateau",
)  # fmt: skip


@cache
def explained() -> list[Explained]:
    """Every table that there is, in the order of the file."""
    text = (files("madyn.cli") / "explained.toml").read_text(encoding="utf-8")
    return [Explained(**one) for one in tomllib.loads(text)["table"]]


def tables_of(command: str) -> list[Explained]:
    return [one for one in explained() if one.command == command]


def lines(one: Explained) -> list[str]:
    """A table's text, a line a column."""
    width = min(24, max(len(key) for key in one.columns))
    head = f"{one.name}{f' ({one.when})' if one.when else ''}: a row is {one.row}"
    return [head, *(f"  {key:<{width}}  {said}" for key, said in one.columns.items()), f"  => {one.conclude}"]


def markdown() -> str:
    """All of it as the page of the docs has it."""
    parts = []
    for command in dict.fromkeys(one.command for one in explained()):
        parts.append(f"## {command}\n")
        for one in tables_of(command):
            when = f" ({one.when})" if one.when else ""
            parts.append(f"**{_cell(one.name)}**{when}: a row is {one.row}.\n")
            parts.append("| column | what it is |\n|---|---|")
            parts += [f"| {_cell(key)} | {_cell(said)} |" for key, said in one.columns.items()]
            parts.append(f"\n{one.conclude}\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _explain(context: typer.Context, wanted: bool) -> None:
    if not wanted:
        return
    found = [line for one in tables_of(context.info_name or "") for line in [*lines(one), ""]]
    terminal.console.print("\n".join(found[:-1]))
    raise typer.Exit


ExplainOption = Annotated[
    bool,
    typer.Option(
        "--explain", callback=_explain, is_eager=True, help="Say how to read what is printed, and do nothing else."
    ),
]


def enter_explanations(app: typer.Typer) -> None:
    """Give every command that prints a table --explain."""
    for command in app.registered_commands:
        if command.callback is not None and tables_of(command.name or command.callback.__name__):
            command.callback = _with_explanation(command.callback)


def _with_explanation(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def command(*, explain: bool, **arguments: Any) -> Any:
        found = function(**arguments)
        if terminal.take_tables() and terminal.console.is_terminal and not terminal.is_quiet():
            terminal.console.print("--explain tells how to read this", style="dim")
        return found

    own = inspect.signature(function, eval_str=True)
    added = inspect.Parameter("explain", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=ExplainOption)
    return signed(command, [*own.parameters.values(), added])
