"""`madyn predict`, `madyn show` and `madyn check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from madyn.cli.options import DatasetArgument
from madyn.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Predict")(predict)
    app.command(rich_help_panel="Look into a dataset")(show)
    app.command(rich_help_panel="Look into a dataset")(check)


def predict(
    dataset: DatasetArgument,
    architecture: Annotated[
        str | None,
        typer.Option(
            "--architecture",
            help='A shape as JSON: {"num_hidden_layers": 8, "hidden_size": 256, "num_attention_heads": 8}.',
        ),
    ] = None,
    steps: Annotated[
        str | None, typer.Option("--steps", help="Steps to predict at, as 0,100,1000; the dataset's own by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="CSV file for the predicted curves.")] = None,
) -> None:
    """Score the predictor, and predict an architecture (given as JSON). [dim]madyn predict pythia/[/dim]"""
    from madyn.dataset import open_dataset
    from madyn.prediction import Predictor
    from madyn.summaries import print_prediction, print_scores

    shape = _architecture(architecture) if architecture is not None else None
    opened = open_dataset(dataset)
    predictor = Predictor().fit(opened)
    print_scores(predictor)
    if shape is not None:
        wanted = _steps(steps) if steps is not None else opened.steps(opened.models[0])
        print_prediction(predictor, shape, wanted, out)
    elif out is not None or steps is not None:
        raise UsageError("--out and --steps go with --architecture")


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
    for fault in report.faults:
        typer.echo(f"wrong:  {fault}")
    typer.echo(f"{dataset}: {f'{len(report.faults)} wrong' if report.faults else 'nothing is wrong'}")
    if report.faults:
        raise typer.Exit(1)


def _architecture(text: str):
    from madyn.architecture import Architecture

    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"--architecture is not JSON: {e}") from e
    if not isinstance(values, dict):
        raise UsageError("--architecture is not a JSON object")
    return Architecture.from_dict(values)


def _steps(text: str) -> list[int]:
    try:
        steps = [int(step) for step in text.split(",")]
    except ValueError as e:
        raise UsageError(f"--steps {text!r}: expected whole numbers such as 0,100,1000") from e
    return steps
