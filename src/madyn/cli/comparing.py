"""`madyn compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from madyn.cli.options import DatasetArgument, ModelsOption, OutOption


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Fit and draw")(compare)


def compare(
    dataset: DatasetArgument,
    hypothesis: Annotated[
        list[str] | None, typer.Option("--hypothesis", help="Only this curve; may be given again. All by default.")
    ] = None,
    model: ModelsOption = None,
    quantity: Annotated[
        Literal["ratio", "top1", "top2", "top3", "median"], typer.Option("--quantity", help="What is fitted.")
    ] = "ratio",
    ratio_of: Annotated[
        Literal["sequences", "means"],
        typer.Option("--ratio-of", help="sequences: mean of top1 / median; means: mean top1 / mean median."),
    ] = "sequences",
    out: OutOption = None,
) -> None:
    """Compare hypotheses: R2, AICc, BIC, wins, errors of prediction. [dim]madyn compare pythia/[/dim]"""
    from madyn.curves.comparison import compare_dataset
    from madyn.dataset import open_to_write
    from madyn.dataset.files import write_text
    from madyn.dataset.layout import comparison_path
    from madyn.figures.comparison import comparison_figure
    from madyn.figures.draw import save_figure
    from madyn.summaries import print_comparison

    opened = open_to_write(dataset, out)
    found = compare_dataset(opened, hypotheses=hypothesis, models=model, quantity=quantity, ratio_of=ratio_of)
    print_comparison(found)
    path: Path = comparison_path(opened.path, quantity)
    write_text(path, found.layers.to_csv(index=False))
    typer.echo(f"written: {path}")
    picture = path.with_suffix(".png")
    save_figure(comparison_figure(found.layers, quantity), picture)
    typer.echo(f"written: {picture}")
