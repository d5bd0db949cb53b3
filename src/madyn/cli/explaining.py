"""`madyn predict`, `madyn evaluate`, `madyn show` and `madyn check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from madyn.cli.options import DatasetArgument
from madyn.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Predict")(predict)
    app.command(rich_help_panel="Predict")(evaluate)
    app.command(rich_help_panel="Look into a dataset")(show)
    app.command(rich_help_panel="Look into a dataset")(check)


def predict(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A dataset, its name, or a predictor that --save has written.")
    ],
    architecture: Annotated[
        str | None,
        typer.Option(
            "--architecture",
            help='A shape as JSON: {"num_hidden_layers": 4, "hidden_size": 96, "num_attention_heads": 4}. What is not '
            "given is what the dataset's models have in common.",
        ),
    ] = None,
    steps: Annotated[
        str | None, typer.Option("--steps", help="Steps to predict at, as 0,100,1000; the dataset's own by default.")
    ] = None,
    training_steps: Annotated[
        int | None, typer.Option("--training-steps", help="Length of the run, where it is not that of the dataset.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="CSV file for the predicted curves.")] = None,
    save: Annotated[Path | None, typer.Option("--save", help="JSON file for the fitted predictor.")] = None,
) -> None:
    """Predict an architecture, with intervals. [dim]madyn predict tiny-suite --architecture '{...}'[/dim]"""
    from dataclasses import replace

    from madyn.prediction import Predictor
    from madyn.summaries import print_prediction

    if architecture is None and save is None:
        raise UsageError("give --architecture, or --save; `madyn evaluate` says how far to believe a prediction")
    if architecture is None and (out is not None or steps is not None or training_steps is not None):
        raise UsageError("--out, --steps and --training-steps go with --architecture")
    fields = _fields(architecture) if architecture is not None else None
    wanted = _steps(steps) if steps is not None else None
    predictor = Predictor.load(dataset) if dataset.endswith(".json") else Predictor().fit(dataset)
    if save is not None:
        predictor.save(save)
        typer.echo(f"written: {save}")
    if fields is not None:
        training = replace(predictor.training, steps=training_steps) if training_steps is not None else None
        print_prediction(predictor, predictor.architecture(**fields), wanted, training, out)


def evaluate(
    dataset: DatasetArgument,
    approach: Annotated[
        list[str] | None, typer.Option("--approach", help="Only this approach (or table_3); may be given again.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Processes; by default as many as there are cores.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the scores (CSV).")] = None,
) -> None:
    """Score predictions of models left out, beside baselines and ceiling. [dim]madyn evaluate tiny-suite[/dim]"""
    from madyn.dataset import open_dataset
    from madyn.prediction.evaluation import evaluate_dataset
    from madyn.summaries import print_evaluation
    from madyn.terminal import console, progress_display

    opened = open_dataset(dataset)
    with progress_display() as progress:
        bar = progress.add_task("leaving out", total=None)

        def start(folds: int) -> None:
            console.print(f"{folds} folds, each fitted anew: about three minutes for a hundred on two cores")
            progress.update(bar, total=folds)

        evaluation = evaluate_dataset(
            opened, approaches=approach, jobs=jobs, on_start=start, on_fold=lambda: progress.advance(bar)
        )
    print_evaluation(evaluation)
    if out is not None:
        from madyn.dataset.files import write_text

        write_text(out / "curves.csv", evaluation.scores.to_csv(index=False))
        if evaluation.parameters is not None:
            write_text(out / "parameters.csv", evaluation.parameters.to_csv(index=False))
        typer.echo(f"written: {out}")


def show(
    dataset: DatasetArgument,
    locations: Annotated[
        bool, typer.Option("--locations", help="Where each layer's largest value stands, and since which step.")
    ] = False,
) -> None:
    """What is in a dataset: models, steps, fits, failures. [dim]madyn show pythia/[/dim]"""
    from madyn.dataset import open_dataset
    from madyn.summaries import print_contents, print_locations

    opened = open_dataset(dataset)
    if locations:
        print_locations(opened)
    else:
        print_contents(opened)


def check(dataset: DatasetArgument) -> None:
    """Validate layout, shapes and values; exits 1 with a list of what is wrong. [dim]madyn check pythia/[/dim]"""
    from madyn.dataset.checking import check_dataset

    report = check_dataset(dataset)
    for absence in report.absences:
        typer.echo(f"absent: {absence}")
    for remark in report.remarks:
        typer.echo(f"note:   {remark}")
    for fault in report.faults:
        typer.echo(f"wrong:  {fault}")
    typer.echo(f"{dataset}: {f'{len(report.faults)} wrong' if report.faults else 'nothing is wrong'}")
    if report.faults:
        raise typer.Exit(1)


def _fields(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"--architecture is not JSON: {e}") from e
    if not isinstance(values, dict):
        raise UsageError("--architecture is not a JSON object")
    return values


def _steps(text: str) -> list[int]:
    try:
        steps = [int(step) for step in text.split(",")]
    except ValueError as e:
        raise UsageError(f"--steps {text!r}: expected whole numbers such as 0,100,1000") from e
    return steps
