"""`madyn export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from madyn.cli.command import Command
from madyn.cli.options import OUT, DatasetArgument, JsonOption, ModelsOption, path
from madyn.terminal import print_json


def export(
    dataset: DatasetArgument,
    out: Annotated[
        Path, typer.Option("--out", parser=path, help=f"{OUT}a folder. An earlier export in it is replaced.")
    ],
    format: Annotated[
        Literal["parquet", "csv", "zarr"],
        typer.Option("--format", help="parquet; csv, the statistics gzipped; or zarr, arrays with tables beside them."),
    ] = "parquet",
    model: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write all of a dataset as tables for other programs. [dim]madyn export pythia/ --out tables/[/dim]

    --json prints what `export_contents` gives; see docs/json.md.
    """
    from madyn.dataset import open_dataset
    from madyn.dataset.exporting import export_dataset
    from madyn.summaries import export_contents, print_export

    opened = open_dataset(dataset)
    written = export_dataset(opened if model is None else opened.select(model), out, format)
    if as_json:
        print_json(export_contents(written))
    else:
        print_export(written)


COMMAND = Command(export, panel="Share")
