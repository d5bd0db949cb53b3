"""`madyn forecast`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from madyn.cli.command import Command
from madyn.cli.options import DatasetArgument, OutTableOption, say_written
from madyn.cli.output import give


def forecast(
    dataset: DatasetArgument,
    at: Annotated[float, typer.Option("--at", help="Look at nothing after this step.")],
    model: Annotated[str, typer.Option("--model", help="Which model: its directory's name.")],
    last_step: Annotated[
        float | None, typer.Option("--last-step", help="Of the run, as planned; the dataset's last by default.")
    ] = None,
    quantity: Annotated[
        Literal["ratio", "top1", "top2", "top3", "median"], typer.Option("--quantity", help="What to forecast.")
    ] = "ratio",
    ratio_of: Annotated[
        Literal["sequences", "means"],
        typer.Option("--ratio-of", help="sequences: mean of top1 / median; means: mean top1 / mean median."),
    ] = "sequences",
    prior: Annotated[
        Literal["learn", "tiny-suite", "default"] | None,
        typer.Option(
            "--prior",
            help="learn: from the other finished runs, where there are four; tiny-suite: from the runs that madyn "
            "comes with; default: a wide one, for any curve.",
        ),
    ] = None,
    hypothesis: Annotated[
        str, typer.Option("--hypothesis", help="The curve that the run is held to follow.")
    ] = "reparam",
    level: Annotated[float, typer.Option("--level", help="Probability of each band.")] = 0.9,
    threshold: Annotated[
        list[float] | None,
        typer.Option("--threshold", help="What a layer may pass; repeatable. [dim]100 and 1000[/dim]"),
    ] = None,
    out: OutTableOption = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="PNG or PDF file for a picture.")] = None,
) -> None:
    """What each layer will do for the rest of a run. [dim]madyn forecast runs/ --at 400 --model mine[/dim]"""
    from madyn.analysis.forecasting import forecast
    from madyn.summaries import print_forecast

    found = forecast(
        dataset,
        model,
        at,
        hypothesis=hypothesis,
        quantity=quantity,
        ratio_of=ratio_of,
        prior=prior,
        last_step=last_step,
        level=level,
        thresholds=threshold or None,
    )
    bands = found[["median", "lower", "upper", "measured"]]
    give(out, lambda: bands.to_dataframe().reset_index(), lambda: print_forecast(found))
    if figure is not None:
        from madyn.figures.pictures.forecasts import forecast_figure
        from madyn.figures.png import save_figure

        save_figure(forecast_figure(found), figure)
        say_written(figure)


COMMAND = Command(forecast, panel="Fit and draw")
