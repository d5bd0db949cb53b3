"""`madyn predict`, `madyn evaluate`, `madyn show` and `madyn check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from madyn.cli.options import DatasetArgument, JsonOption, OutFolderOption, OutTableOption, say_written
from madyn.cli.shapes import PREDICTED, shape_fields
from madyn.errors import UsageError
from madyn.terminal import print_json


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
            help='A shape as JSON: {"num_hidden_layers": 4, "hidden_size": 96, "num_attention_heads": 4}; or use the '
            "options below. What is not given is what the dataset's models have in common.",
        ),
    ] = None,
    layers: Annotated[int | None, typer.Option("--layers", help="How many.")] = None,
    hidden_size: Annotated[int | None, typer.Option("--hidden-size", help="Features of the hidden state.")] = None,
    heads: Annotated[int | None, typer.Option("--heads", help="Attention heads.")] = None,
    mlp_ratio: Annotated[float | None, typer.Option("--mlp-ratio", help="Inner over hidden size.")] = None,
    steps: Annotated[
        str | None, typer.Option("--steps", help="Steps to predict at, as 0,100,1000; the dataset's own by default.")
    ] = None,
    training_steps: Annotated[
        int | None, typer.Option("--training-steps", help="Length of the run, where it is not that of the dataset.")
    ] = None,
    parameters: Annotated[
        bool, typer.Option("--parameters", help="Show the published curve's parameters too (as -v does).")
    ] = False,
    out: OutTableOption = None,
    save: Annotated[Path | None, typer.Option("--save", help="JSON file for the fitted predictor.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict an architecture. [dim]madyn predict tiny-suite --layers 4 --hidden-size 96 --heads 4 --mlp-ratio 4[/dim]

    --json prints what `prediction_tables` gives; see docs/json.md.
    """
    from dataclasses import replace

    from madyn.prediction import Predictor
    from madyn.summaries import prediction_tables, print_prediction

    options = {"--layers": layers, "--hidden-size": hidden_size, "--heads": heads, "--mlp-ratio": mlp_ratio}
    fields = shape_fields(architecture, options, PREDICTED)
    asked = bool(fields) or architecture is not None
    if not asked and save is None:
        raise UsageError(
            "give an architecture (--layers, --hidden-size, --heads, --mlp-ratio, or --architecture), or --save; "
            "`madyn evaluate` says how far to believe a prediction"
        )
    if not asked and (as_json or parameters or (out, steps, training_steps) != (None, None, None)):
        raise UsageError("--out, --steps, --training-steps, --parameters and --json go with an architecture")
    wanted = _steps(steps) if steps is not None else None
    predictor = Predictor.load(dataset) if dataset.endswith(".json") else Predictor().fit(dataset)
    if save is not None:
        predictor.save(save)
        say_written(save, as_json)
    if not asked:
        return
    training = replace(predictor.training, steps=training_steps) if training_steps is not None else None
    shape = predictor.architecture(**fields)
    if as_json:
        print_json(prediction_tables(predictor, shape, wanted, training))
    else:
        print_prediction(predictor, shape, wanted, training, parameters)
    if out is not None:
        from madyn.dataset.files import write_text

        predicted = predictor.predict(shape, wanted, training=training)
        write_text(out, predicted.to_series().reset_index().to_csv(index=False))
        say_written(out, as_json)


def evaluate(
    dataset: DatasetArgument,
    approach: Annotated[
        list[str] | None, typer.Option("--approach", help="Only this approach (or table_3); may be given again.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Processes; by default as many as there are cores.")
    ] = None,
    out: OutFolderOption = None,
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
    print_evaluation(evaluation)
    if out is not None:
        from madyn.dataset.files import write_text

        write_text(out / "curves.csv", evaluation.scores.to_csv(index=False))
        if evaluation.parameters is not None:
            write_text(out / "parameters.csv", evaluation.parameters.to_csv(index=False))
        say_written(out)


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


def _steps(text: str) -> list[int]:
    try:
        steps = [int(step) for step in text.split(",")]
    except ValueError as e:
        raise UsageError(f"--steps {text!r}: expected whole numbers such as 0,100,1000") from e
    return steps
