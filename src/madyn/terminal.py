"""One progress display for all long work: on the terminal if there is one, nothing otherwise."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_display() -> Progress:
    """A rich progress display on standard error, which standard output's readers never see.

    Without a terminal it draws nothing; what is printed on its console (a plan, a failure) is shown either way.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
