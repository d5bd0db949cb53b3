"""`madyn predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from madyn.cli.command import Command
from madyn.cli.options import JsonOption, OutTableOption, say_written
from madyn.cli.output import give
from madyn.cli.shapes import NUMBERS, PREDICTED, shape_fields
from madyn.errors import UsageError


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
    *,
    sizes: Annotated[dict[str, Any], NUMBERS],
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

    fields = shape_fields(architecture, sizes, PREDICTED)
    asked = bool(fields) or architecture is not None
    if not asked and save is None:
        options = ", ".join(one.option for one in NUMBERS.features)
        raise UsageError(
            f"give an architecture ({options}, or --architecture), or --save; "
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
    give(
        out,
        lambda: predictor.predict(shape, wanted, training=training).to_series().reset_index(),
        lambda: print_prediction(predictor, shape, wanted, training, parameters),
        as_json,
        lambda: prediction_tables(predictor, shape, wanted, training),
    )


COMMAND = Command(predict, panel="Predict")


def _steps(text: str) -> list[int]:
    try:
        steps = [int(step) for step in text.split(",")]
    except ValueError as e:
        raise UsageError(f"--steps {text!r}: expected whole numbers such as 0,100,1000") from e
    return steps
