"""`madyn effects`."""

from __future__ import annotations

from madyn.cli.command import Command
from madyn.cli.options import CsvOption, DatasetArgument, ModelsOption, OutFolderOption, say_written
from madyn.cli.output import give


def effects(
    dataset: DatasetArgument,
    model: ModelsOption = None,
    out: OutFolderOption = None,
    csv: CsvOption = None,
) -> None:
    """What goes with the architecture in a family, and what is chance. [dim]madyn effects tiny-suite[/dim]"""
    from madyn.dataset import open_dataset
    from madyn.effects.study import study_effects
    from madyn.summaries import print_effects, print_not_drawn

    opened = open_dataset(dataset)
    study = study_effects(opened if model is None else opened.select(model))
    taken = give(csv, study.to_dataframe, lambda: print_effects(study))
    if out is not None:
        from madyn.dataset.files import write_text
        from madyn.figures.draw import draw_figures
        from madyn.summaries.tables import csv_text

        for name, table in study.tables().items():
            write_text(out / f"{name}.csv", csv_text(table))
        drawing = draw_figures(opened, models=model, out=out, only="analysis/effects_*")
        if not taken:
            print_not_drawn(drawing, opened)
        say_written(out, taken)


COMMAND = Command(effects, panel="Predict")
