"""`madyn evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import CsvOption, DatasetArgument, OutFolderOption, say_written
from madyn.cli.output import give


def evaluate(
    dataset: DatasetArgument,
    approach: Annotated[
        list[str] | None, typer.Option("--approach", help="Only this approach (or table_3); may be given again.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Processes; by default as many as there are cores.")
    ] = None,
    out: OutFolderOption = None,
    csv: CsvOption = None,
) -> None:
    """Score predictions of models left out, beside baselines and ceiling. [dim]madyn evaluate tiny-suite[/dim]"""
    from madyn.dataset import open_dataset
    from madyn.prediction.evaluation import evaluate
    from madyn.summaries import print_evaluation
    from madyn.terminal import progress_display

    opened = open_dataset(dataset)
    with progress_display() as progress:
        bar = progress.add_task("leaving out", total=None)

        def start(folds: int) -> None:
            progress.console.print(f"{folds} folds, each fitted anew: about three minutes for a hundred on two cores")
            progress.update(bar, total=folds)

        evaluation = evaluate(
            opened, approaches=approach, jobs=jobs, on_start=start, on_fold=lambda: progress.advance(bar)
        )
    taken = give(csv, evaluation.to_dataframe, lambda: print_evaluation(evaluation))
    if out is not None:
        from madyn.dataset.files import write_text
        from madyn.summaries.tables import csv_text

        write_text(out / "curves.csv", csv_text(evaluation.scores))
        if evaluation.parameters is not None:
            write_text(out / "parameters.csv", csv_text(evaluation.parameters))
        say_written(out, taken)


COMMAND = Command(evaluate, panel="Predict")
