"""`madyn compare`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from madyn.cli.command import Command
from madyn.cli.options import CsvOption, DatasetArgument, JsonOption, ModelsOption, OutFolderOption, say_written
from madyn.cli.output import give


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
    out: OutFolderOption = None,
    csv: CsvOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare hypotheses: R2, AICc, BIC, wins, errors of prediction. [dim]madyn compare pythia/[/dim]

    --json prints what `comparison_tables` gives; see docs/json.md.
    """
    from madyn.analysis.comparison import compare
    from madyn.summaries import comparison_tables, print_comparison

    found = compare(dataset, hypotheses=hypothesis, models=model, quantity=quantity, ratio_of=ratio_of)
    taken = give(csv, found.to_dataframe, lambda: print_comparison(found), as_json, lambda: comparison_tables(found))
    if out is not None:
        from madyn.dataset.files import write_text
        from madyn.figures.pictures.comparison import comparison_figure
        from madyn.figures.png import save_figure
        from madyn.summaries.tables import csv_text

        table = out / f"comparison_{quantity}.csv"
        write_text(table, csv_text(found.layers))
        save_figure(comparison_figure(found.layers, quantity), table.with_suffix(".png"))
        say_written(f"{table} and {table.with_suffix('.png').name}", taken)


COMMAND = Command(compare, panel="Fit and draw")
