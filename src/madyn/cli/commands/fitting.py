"""`madyn fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from madyn.cli.command import Command
from madyn.cli.options import OUT, CsvOption, DatasetArgument, JsonOption, ModelsOption, path
from madyn.cli.output import give


def fit(
    dataset: DatasetArgument,
    model: ModelsOption = None,
    hypothesis: Annotated[
        list[str] | None,
        typer.Option("--hypothesis", help="Only this curve; may be given again. The published ones by default."),
    ] = None,
    quantity: Annotated[
        list[str] | None, typer.Option("--quantity", help="Only ratio, top1 or median; may be given again.")
    ] = None,
    method: Annotated[
        Literal["varpro", "trf"],
        typer.Option("--method", help="varpro: the global optimum; trf: the published single-start search."),
    ] = "varpro",
    robust: Annotated[
        Literal["huber", "student"] | None, typer.Option("--robust", help="Weigh points down that lie far off.")
    ] = None,
    ratio_of: Annotated[
        Literal["sequences", "means"],
        typer.Option("--ratio-of", help="sequences: mean of top1 / median; means: mean top1 / mean median."),
    ] = "sequences",
    drop_suspects: Annotated[
        bool, typer.Option("--drop-suspects", help="Fit again without the points far off the reparam fit.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=path,
            help=f"{OUT}a folder, to which the dataset is copied first; the dataset's own if not given.",
        ),
    ] = None,
    csv: CsvOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit curves to every layer; write params/ and the parameter table. [dim]madyn fit pythia/[/dim]

    --json prints what `fit_tables` gives, a value a fitted quantity; see docs/json.md.
    """
    from madyn.analysis.fitting import fit_dataset
    from madyn.dataset.layout import FITTED_QUANTITIES
    from madyn.summaries import fit_tables, print_fits
    from madyn.summaries.tables import fits_table

    fitted = fit_dataset(
        dataset, models=model, hypotheses=hypothesis, quantities=quantity, method=method, robust=robust,
        ratio_of=ratio_of, drop_suspects=drop_suspects, out=out,
    )  # fmt: skip
    wanted = [q for q in FITTED_QUANTITIES if quantity is None or q in quantity]

    def tables() -> list[dict[str, Any]]:
        return [fit_tables(fitted, quantity=name) for name in wanted]

    give(csv, lambda: fits_table(tables()), lambda: print_fits(fitted), as_json, tables)


COMMAND = Command(fit, panel="Fit and draw")
