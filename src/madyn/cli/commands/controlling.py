"""`madyn control`."""

from __future__ import annotations

from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import CsvOption, DatasetArgument, JsonOption, ModelsOption, OutFolderOption, say_written
from madyn.cli.output import give


def control(
    dataset: DatasetArgument,
    model: ModelsOption = None,
    plain: Annotated[
        str | None,
        typer.Option("--plain", help="A model that is plain, one seed of it; by default what most models have is."),
    ] = None,
    throughput: Annotated[
        bool,
        typer.Option(
            "--throughput",
            help="First time updates of each remedy beside the plain model, on one thread of this machine: some "
            "seconds a remedy. Kept in the dataset where that is a folder of yours.",
        ),
    ] = False,
    out: OutFolderOption = None,
    csv: CsvOption = None,
    as_json: JsonOption = False,
) -> None:
    """What each remedy does to massive activations, and at what loss. [dim]madyn control control-suite[/dim]

    --json prints {"path", "plain", "remedies", "machine", "missing"}: records of the columns of `Control.table`, those
    of remedies with "levels", "conclusion" and "reported"; see docs/json.md.
    """

    from madyn.control import measure_throughput, study_control
    from madyn.dataset import open_dataset
    from madyn.dataset.throughput import write_throughput
    from madyn.summaries.remedies import control_records, print_control

    opened = open_dataset(dataset)
    if model is not None:
        opened = opened.select(model)
    timed = measure_throughput(opened, plain=plain) if throughput else None
    if timed is not None and opened.is_own_folder:
        write_throughput(opened.path, timed)
    found = study_control(opened, timed, plain)
    taken = give(
        csv, found.to_dataframe, lambda: print_control(found, dataset), as_json, lambda: control_records(found, dataset)
    )
    if out is not None:
        from madyn.dataset.files import write_text
        from madyn.figures.pictures.control import courses_of, pareto_figure, remedies_figure, remedy_trajectories
        from madyn.figures.png import save_figure
        from madyn.summaries.tables import csv_text

        for name, table in {"control": found.table, "pairs": found.pairs}.items():
            write_text(out / f"{name}.csv", csv_text(table))
        pictures = {
            "remedies": remedies_figure(found.table),
            "pareto": pareto_figure(found.table),
            "trajectories": remedy_trajectories(**courses_of(found, opened)),
        }
        for name, figure in pictures.items():
            save_figure(figure, out / f"control_{name}.png", dpi=200)
        say_written(out, taken)


COMMAND = Command(control, panel="Predict")
