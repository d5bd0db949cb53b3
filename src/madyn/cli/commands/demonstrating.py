"""`madyn demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import (
    OUT,
)


def demo(
    out: Annotated[Path, typer.Option("--out", help=f"{OUT}a folder.")] = Path("demo"),
) -> None:
    """Train a small family, measure it, fit it, draw it, predict it. [dim]madyn demo --out demo/[/dim]"""
    from madyn.demo import run_demo

    run_demo(out)


COMMAND = Command(demo, panel="Start here")
