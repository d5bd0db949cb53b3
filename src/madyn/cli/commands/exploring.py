"""`madyn app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import path, say_written


def app(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A folder, a dataset of the Hub, or tiny-suite.")
    ] = "tiny-suite",
    watch: Annotated[str | None, typer.Option("--watch", help="A dataset that a monitor is writing.")] = None,
    host: Annotated[str, typer.Option("--host", help="The address to serve at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes one that is free.")] = 7860,
    space: Annotated[
        Path | None,
        typer.Option("--space", parser=path, help="Write the files of a Space of the Hub here, and serve nothing."),
    ] = None,
) -> None:
    """A dataset as a page to explore, served to this machine. [dim]madyn app tiny-suite[/dim]"""
    from madyn.app import LAUNCH, build_app, write_space
    from madyn.terminal import note

    if space is not None:
        write_space(space, dataset)
        say_written(space)
        return
    here = host in ("127.0.0.1", "localhost", "::1")
    page = build_app(dataset, watch or "", may_watch=here)
    if not here:
        note(f"whoever reaches {host} can see this dataset; other datasets cannot be watched from there")
    page.launch(server_name=host, server_port=port or None, **LAUNCH)


COMMAND = Command(app, panel="Start here")
