"""`madyn report`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import (
    OUT,
    BosOption,
    ModelsOption,
    TokenizerOption,
    TokensOption,
    WithBos,
    is_dataset,
    path,
    read_tokens,
    refuse_options,
    say_written,
    starts_with_bos,
)
from madyn.cli.spread import Fields
from madyn.settings import Probe, Settings

_OF_MODELS = (
    "revision", "probe", "sequences", "length", "bos", "seed", "tokenizer", "tokens", "dtype", "device", "layers",
    "trust_remote_code",
)  # fmt: skip
_DOCUMENTS = 50


def report(
    context: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="DATASET|MODEL",
            help="A dataset (a folder, hf://datasets/OWNER/NAME, or tiny-suite); or a checkpoint (a folder, a GGUF "
            "file, or a name of the Hub), which is measured and run.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", parser=path, help=f"{OUT}an HTML file.")] = Path("report.html"),
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
            defaults={"sequences": 4},
            words={"length": "Tokens a sequence; at most 512 if not given."},
        ),
    ],
    bos: BosOption = "none",
    tokenizer: TokenizerOption = None,
    tokens: TokensOption = None,
    settings: Annotated[Settings, Fields("dtype", "device", "layers", "trust_remote_code")],
) -> None:
    """A dataset, or a model, as one page to send. [dim]madyn report tiny-suite --out report.html[/dim]"""
    from madyn.report import dataset_parts, model_parts, write_report
    from madyn.terminal import data_size, note

    if is_dataset(subject):
        from madyn.dataset import open_dataset

        refuse_options(context, _OF_MODELS, f"{subject} is a dataset, of which nothing is run")
        opened = open_dataset(subject)
        parts = dataset_parts(opened if model is None else opened.select(model))
    else:
        refuse_options(context, ("model",), f"{subject} is taken for a model and not for a dataset")
        ids = read_tokens(context, tokens, "probe", "sequences", "length", "bos", "seed")
        text = replace(probe, bos=starts_with_bos(bos), documents=_DOCUMENTS)
        parts = model_parts(subject, revision, probe=text, settings=settings, tokenizer=tokenizer, inputs=ids)
    name = subject.rstrip("/").rpartition("/")[2] + (f" at {revision}" if revision else "")
    size = write_report(parts, out, name)
    note(f"{data_size(size)}, and nothing else is needed to read it")
    say_written(out)


COMMAND = Command(report, panel="Fit and draw", kind=WithBos)
