"""`madyn show`."""

from __future__ import annotations

from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import DatasetArgument, JsonOption
from madyn.errors import UsageError
from madyn.terminal import print_json


def show(
    dataset: DatasetArgument,
    locations: Annotated[
        bool, typer.Option("--locations", help="Where each layer's largest value stands, and since which step.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """What is in a dataset: models, steps, fits, failures. [dim]madyn show pythia/[/dim]

    --json prints what `dataset_contents` gives; see docs/json.md.
    """
    from madyn.dataset import open_dataset
    from madyn.summaries import dataset_contents, print_contents, print_locations

    if locations and as_json:
        raise UsageError("--json is of the contents; the locations are JSON already, in DATASET/locations/")
    opened = open_dataset(dataset)
    if as_json:
        print_json(dataset_contents(opened))
    elif locations:
        print_locations(opened)
    else:
        print_contents(opened)


COMMAND = Command(show, panel="Look into a dataset")
