"""`madyn check`."""

from __future__ import annotations

import typer

from madyn.cli.command import Command
from madyn.cli.options import DatasetArgument, JsonOption
from madyn.terminal import print_json


def check(dataset: DatasetArgument, as_json: JsonOption = False) -> None:
    """Validate layout, shapes and values; exits 1 with a list of what is wrong. [dim]madyn check pythia/[/dim]

    --json prints {"path", "models", "faults", "remarks", "absences"}, lists of sentences but for the path; see
    docs/json.md.
    """
    from madyn.checking import check_dataset
    from madyn.dataset import open_dataset
    from madyn.summaries import print_check

    opened = open_dataset(dataset)
    report = check_dataset(opened.path)
    if as_json:
        found = {"faults": report.faults, "remarks": report.remarks, "absences": report.absences}
        print_json({"path": opened.path, "models": opened.models, **found})
    else:
        print_check(report, opened, dataset)
    if report.faults:
        raise typer.Exit(1)


COMMAND = Command(check, panel="Look into a dataset")
