"""`madyn report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import OUT, DatasetArgument, ModelsOption, path, say_written


def report(
    dataset: DatasetArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", parser=path, help=f"{OUT}an HTML file.", show_default=True)
    ] = Path("report.html"),
    model: ModelsOption = None,
) -> None:
    """A dataset as one page to send. [dim]madyn report tiny-suite --out report.html[/dim]"""
    from madyn.dataset import open_dataset
    from madyn.report import dataset_parts, write_report
    from madyn.terminal import data_size, note

    opened = open_dataset(dataset)
    parts = dataset_parts(opened if model is None else opened.select(model))
    size = write_report(parts, out, str(dataset).rstrip("/").rpartition("/")[2])
    note(f"{data_size(size)}, and nothing else is needed to read it")
    say_written(out)


COMMAND = Command(report, panel="Fit and draw")
