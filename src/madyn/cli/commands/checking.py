"""`madyn check`."""

from __future__ import annotations

import typer

from madyn.cli.command import Command
from madyn.cli.options import CsvOption, DatasetArgument, JsonOption
from madyn.cli.output import give


def check(dataset: DatasetArgument, csv: CsvOption = None, as_json: JsonOption = False) -> None:
    """Validate layout, shapes and values; exits 1 with a list of what is wrong. [dim]madyn check pythia/[/dim]

    --json prints {"path", "models", "faults", "remarks", "absences"}, lists of sentences but for the path; see
    docs/json.md.
    """
    from madyn.checking import check_dataset
    from madyn.dataset import open_dataset
    from madyn.summaries import print_check
    from madyn.summaries.tables import check_table

    opened = open_dataset(dataset)
    report = check_dataset(opened.path)
    found = {"faults": report.faults, "remarks": report.remarks, "absences": report.absences}
    give(
        csv,
        lambda: check_table(found),
        lambda: print_check(report, opened, dataset),
        as_json,
        lambda: {"path": opened.path, "models": opened.models, **found},
    )
    if report.faults:
        raise typer.Exit(1)


COMMAND = Command(check, panel="Look into a dataset")
