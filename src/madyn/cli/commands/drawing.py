"""`madyn figures`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import OUT, DatasetArgument, ModelsOption, path


def figures(
    dataset: DatasetArgument,
    model: ModelsOption = None,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Processes; one a core by default.")] = None,
    redraw: Annotated[bool, typer.Option("--redraw", help="Draw what has not changed too.")] = False,
    only: Annotated[
        str, typer.Option("--only", help='Pictures whose path in the dataset matches: series, "analysis/*".')
    ] = "*",
    no_steps: Annotated[
        bool, typer.Option("--no-steps", help="Leave out the pictures of each step, which are most of them.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", parser=path, help=f"{OUT}a folder; the dataset's own if not given.")
    ] = None,
) -> None:
    """Draw every figure whose data are there. [dim]madyn figures pythia/ --no-steps[/dim]"""
    from madyn.dataset import open_dataset, open_to_write
    from madyn.figures.draw import draw_figures
    from madyn.summaries import print_drawing

    opened = open_to_write(dataset) if out is None else open_dataset(dataset)
    drawing = draw_figures(opened, models=model, jobs=jobs, redraw=redraw, only=only, steps=not no_steps, out=out)
    print_drawing(drawing, opened, out or opened.path)
    if drawing.failed:
        raise typer.Exit(1)


COMMAND = Command(figures, panel="Fit and draw")
