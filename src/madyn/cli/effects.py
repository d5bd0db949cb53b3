"""`madyn effects`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from madyn.cli.options import DatasetArgument, ModelsOption


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Predict")(effects)


def effects(
    dataset: DatasetArgument,
    model: ModelsOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the tables (CSV) and the figures; neither if not given."),
    ] = None,
) -> None:
    """What goes with the architecture in a family, and what is chance. [dim]madyn effects tiny-suite[/dim]"""
    from madyn.dataset import open_dataset
    from madyn.effects.study import study_effects
    from madyn.summaries import print_effects

    opened = open_dataset(dataset)
    study = study_effects(opened if model is None else opened.select(model))
    print_effects(study)
    if out is not None:
        from madyn.dataset.files import write_text
        from madyn.figures.draw import draw_figures

        for name, table in study.tables().items():
            write_text(out / f"{name}.csv", table.to_csv(index=False))
        drawing = draw_figures(opened, models=model, out=out, only="analysis/effects_*")
        for path, reason in {**drawing.left_out, **drawing.failed}.items():
            typer.echo(f"not drawn: {path}: {reason}")
        typer.echo(f"written: {out}")
