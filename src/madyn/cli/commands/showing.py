"""`madyn show`."""

from __future__ import annotations

from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import CsvOption, DatasetArgument, JsonOption
from madyn.cli.output import give
from madyn.errors import UsageError


def show(
    dataset: DatasetArgument,
    locations: Annotated[
        bool, typer.Option("--locations", help="Where each layer's largest value stands, and since which step.")
    ] = False,
    csv: CsvOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is in a dataset: models, steps, fits, failures. [dim]madyn show pythia/[/dim]

    --json prints what `dataset_contents` gives; see docs/json.md.
    """
    from madyn.dataset import open_dataset
    from madyn.summaries import dataset_contents, print_contents, print_locations
    from madyn.summaries.tables import contents_table

    if locations and (as_json or csv is not None):
        asked = "--json" if as_json else "--csv"
        raise UsageError(f"{asked} is of the contents; the locations are JSON already, in DATASET/locations/")
    opened = open_dataset(dataset)
    if locations:
        print_locations(opened)
        return
    give(
        csv,
        lambda: contents_table(dataset_contents(opened)),
        lambda: print_contents(opened),
        as_json,
        lambda: dataset_contents(opened),
    )


COMMAND = Command(show, panel="Look into a dataset")
