"""The command line: commands that parse, call and print. Everything they do is a function of the package."""

from __future__ import annotations

import os
import pkgutil
import sys
import traceback
from importlib import import_module
from typing import Annotated

import typer

from madyn import __version__, terminal
from madyn.cli import commands
from madyn.cli.command import Command
from madyn.cli.explaining import enter_explanations
from madyn.cli.voice import QuietOption, VerboseOption, enter_voice, raise_voice
from madyn.errors import MadynError
from madyn.stopping import stoppable
from madyn.streams import guarded

app = typer.Typer(
    name="madyn",
    help="Massive activations over a transformer's training: measured, fitted, predicted.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


_ORDER = (
    "demo", "scan", "plan", "trace", "verify", "lab", "fit", "figures", "compare", "forecast", "predict", "evaluate",
    "design", "effects", "watch", "show", "check", "export", "publish", "info",
)  # fmt: skip


def _found() -> list[Command]:
    """The command of every file in `commands`, in the order of `madyn --help`, new ones last by name."""
    modules = pkgutil.iter_modules(commands.__path__, f"{commands.__name__}.")
    found: list[Command] = [import_module(module.name).COMMAND for module in modules]

    def place(command: Command) -> tuple[int, str]:
        name = command.function.__name__
        return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)

    return sorted(found, key=place)


for one in _found():
    app.command(rich_help_panel=one.panel, cls=one.kind)(one.function)
enter_explanations(app)
enter_voice(app)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"madyn {__version__}")
        raise typer.Exit


@app.callback()
def everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """What stands before a command."""
    raise_voice(verbose, quiet)


def main() -> None:
    """Run a command.

    Exits with 0, with 1 for what is wrong with data, with 2 for what is wrong with the arguments, and with 128 and the
    signal's number (130 for Ctrl-C, 143 for SIGTERM) where it was told to stop.
    """
    # transformers' remarks on every model loaded would drown the command's own lines.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    terminal.set_voice()
    terminal.take_wrong()
    with guarded(), stoppable() as stop:
        try:
            code = _run()
        except KeyboardInterrupt:  # at a place where typer does not see it
            code = _INTERRUPTED
        except Exception:  # a fault of ours; its text is as foreign as any
            traceback.print_exc()
            code = 1
        if code == _INTERRUPTED:
            _say("stopped; what is written stays, and the same command goes on from there")
            code = stop.code
    sys.exit(code)


_INTERRUPTED = 130  # what typer gives for KeyboardInterrupt


def _run() -> int:
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="madyn", standalone_mode=False)
        sys.stdout.flush()
        code = code or int(terminal.take_wrong())
    except MadynError as e:
        _say(str(e))
        code = e.exit_code
    except ModuleNotFoundError as e:
        from madyn.errors import missing_dependency

        error = missing_dependency(e)
        if error is e:
            raise
        _say(str(error))
        code = 1
    except OSError as e:
        if e.filename is None:
            raise
        _say(f"{e.filename}: {e.strerror}")  # a folder that may not be looked into, say
        code = 1
    except typer.TyperException as e:
        command = getattr(getattr(e, "ctx", None), "command_path", "madyn")
        _say(f"{e.format_message()} (see {command} --help)")
        code = 2
    return code if isinstance(code, int) else 0


def _say(message: str) -> None:
    """One line on standard error, whatever the message holds."""
    print(f"madyn: {' '.join(message.split())}", file=sys.stderr)
