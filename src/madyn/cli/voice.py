"""How much a command says: -v and -q, which stand before a command or behind it.

People write `madyn -q fit x` and `madyn fit x -q`, and either must do. So the two options are entered once for all
commands, in their signatures, and no command declares them or asks for them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from madyn import terminal
from madyn.cli.spread import signed
from madyn.errors import UsageError

VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say everything: all rows, every detail.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say only results and errors: no progress, no notes.")]


def enter_voice(app: typer.Typer) -> None:
    """Give every command of an app -v and -q."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _with_voice(command.callback)


def raise_voice(verbose: bool, quiet: bool) -> None:
    """What one place of the command line asks for, added to what another did.

    Raises:
        UsageError: both.
    """
    verbose, quiet = verbose or terminal.is_verbose(), quiet or terminal.is_quiet()
    if verbose and quiet:
        raise UsageError("--verbose and --quiet contradict each other")
    terminal.set_voice(verbose=verbose, quiet=quiet)


def _with_voice(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def command(*, verbose: bool, quiet: bool, **arguments: Any) -> Any:
        raise_voice(verbose, quiet)
        return function(**arguments)

    options: dict[str, Any] = {"verbose": VerboseOption, "quiet": QuietOption}
    own = inspect.signature(function, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in options.items()
    ]
    return signed(command, [*own.parameters.values(), *added])
