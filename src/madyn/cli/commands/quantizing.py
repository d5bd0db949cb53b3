"""`madyn quantization`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from madyn.cli.command import Command
from madyn.cli.options import (
    BosOption,
    CsvOption,
    JsonOption,
    ModelsOption,
    OutFolderOption,
    TokenizerOption,
    TokensOption,
    WithBos,
    is_dataset,
    read_tokens,
    refuse_options,
    say_written,
    starts_with_bos,
)
from madyn.cli.output import give
from madyn.cli.spread import Fields
from madyn.settings import Probe, Settings

_OF_MODELS = (
    "revision", "probe", "sequences", "length", "bos", "seed", "tokenizer", "tokens", "keep", "dtype", "device",
    "layers", "trust_remote_code",
)  # fmt: skip
_DOCUMENTS = 50


def quantization(
    context: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|DATASET",
            help="A checkpoint (a folder, a GGUF file, or a name of the Hub), which is rounded and run; or a "
            "dataset (a folder, hf://datasets/OWNER/NAME, or tiny-suite), whose statistics an estimate is made from.",
        ),
    ],
    at: Annotated[
        int | None, typer.Option("--at", help="Of a dataset: the step; each model's last if not given.")
    ] = None,
    model: ModelsOption = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Revision of a model of the Hub.")] = None,
    *,
    probe: Annotated[
        Probe,
        Fields(
            "text",
            "sequences",
            "length",
            "seed",
            defaults={"sequences": 2},
            words={"length": "Tokens a sequence; at most 256 if not given."},
        ),
    ],
    bos: BosOption = "none",
    tokenizer: TokenizerOption = None,
    tokens: TokensOption = None,
    keep: Annotated[
        int,
        typer.Option("--keep", help="How many of the largest values of a sequence are the ones kept apart."),
    ] = 3,
    settings: Annotated[Settings, Fields("dtype", "device", "layers", "trust_remote_code")],
    out: OutFolderOption = None,
    csv: CsvOption = None,
    as_json: JsonOption = False,
) -> None:
    """What massive activations cost when hidden states are quantized. [dim]madyn quantization model.gguf[/dim]

    --json prints, of a model, {"model", "revision", "kind", "inputs", "loss", "keep", "remarks", "layers", "rounding",
    "together"}, the last three lists of records with the columns of `Costs`; of a dataset {"path", "models", "layers"},
    lists of records with the columns of `worst_layers` and `estimate_dataset`; see docs/json.md.
    """
    if is_dataset(subject):
        refuse_options(context, _OF_MODELS, f"{subject} is a dataset, of which nothing is run")
        _estimate(subject, at, model, out, csv, as_json)
        return
    refuse_options(context, ("at", "model"), f"{subject} is taken for a model and not for a dataset")
    from madyn.quantization import quantization_costs
    from madyn.summaries.quantizing import print_quantization, quantization_records, quantization_report

    ids = read_tokens(context, tokens, "probe", "sequences", "length", "bos", "seed")
    found = quantization_costs(
        subject,
        revision,
        probe=replace(probe, bos=starts_with_bos(bos), documents=_DOCUMENTS),
        settings=settings,
        tokenizer=tokenizer,
        inputs=ids,
        keep=keep,
    )
    name = f"{subject}{f' at {revision}' if revision else ''}, {found.inputs}"
    taken = give(
        csv,
        found.layers.reset_index,
        lambda: print_quantization(found, name),
        as_json,
        lambda: quantization_records(found, subject, revision),
    )
    if out is not None:
        from math import exp

        from madyn.figures.pictures.quantization import costs_figure

        tables = {"layers": found.layers.reset_index(), "rounding": found.rounding, "together": found.together}
        _write(
            out,
            tables,
            quantization_report(found, name),
            costs_figure(found.layers, Path(subject).name, exp(found.loss)),
        )
        say_written(out, taken)


def _estimate(
    dataset: str, at: int | None, models: list[str] | None, out: Path | None, csv: Path | None, as_json: bool
) -> None:
    from madyn.dataset import open_dataset
    from madyn.quantization import estimate_dataset, worst_layers
    from madyn.summaries.quantizing import estimate_records, estimate_report, print_estimates

    opened = open_dataset(dataset)
    found = estimate_dataset(opened if models is None else opened.select(models), at)
    worst = worst_layers(found)
    taken = give(
        csv,
        lambda: worst,
        lambda: print_estimates(worst, dataset),
        as_json,
        lambda: estimate_records(found, worst, dataset),
    )
    if out is not None:
        from madyn.figures.pictures.quantization import estimates_figure

        _write(
            out, {"layers": found, "models": worst}, estimate_report(worst, dataset), estimates_figure(found, dataset)
        )
        say_written(out, taken)


def _write(out: Path, tables: dict[str, Any], report: str, figure: Any) -> None:
    from madyn.dataset.files import write_text
    from madyn.figures.png import save_figure
    from madyn.summaries.tables import csv_text

    for name, table in tables.items():
        write_text(out / f"quantization_{name}.csv", csv_text(table))
    write_text(out / "report.md", f"{report}\n![effective bits by layer](quantization.png)\n")
    save_figure(figure, out / "quantization.png", dpi=150)


COMMAND = Command(quantization, panel="Measure", kind=WithBos)
