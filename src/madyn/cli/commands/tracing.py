"""`madyn trace`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import (
    OUT,
    BosOption,
    ModelsArgument,
    RevisionsOption,
    StepsOption,
    TokenizerOption,
    TokensOption,
    WithBos,
    read_tokens,
    starts_with_bos,
)
from madyn.cli.spread import Fields
from madyn.settings import Probe, Settings


def trace(
    context: typer.Context,
    models: ModelsArgument,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            help=f"{OUT}the dataset's folder, or a URL such as s3://bucket/name. What it holds is not measured again.",
        ),
    ],
    *,
    steps: StepsOption = None,
    probe: Annotated[
        Probe, Fields("text", "sequences", "length", "documents", "seed", "exclude_positions", "positions")
    ],
    bos: BosOption = "none",
    tokenizer: TokenizerOption = None,
    tokens: TokensOption = None,
    name: Annotated[str | None, typer.Option("--name", help="The model's directory in the dataset.")] = None,
    revisions: RevisionsOption = None,
    settings: Annotated[Settings, Fields()],
    engine: Annotated[str, typer.Option("--engine", help="local, ray, or ray://HOST:PORT.")] = "local",
    jobs: Annotated[int, typer.Option("--jobs", help="Processes of the local engine.")] = 1,
    cpus: Annotated[int, typer.Option("--cpus", help="CPUs that a checkpoint takes of a Ray cluster.")] = 1,
    gpus: Annotated[float, typer.Option("--gpus", help="GPUs that a checkpoint takes of a Ray cluster.")] = 0,
    shard: Annotated[
        str | None, typer.Option("--shard", help="i/N, i from 1: this share of the checkpoints, for array jobs.")
    ] = None,
) -> None:
    """Measure training checkpoints into a dataset. [dim]madyn trace EleutherAI/pythia-14m --out pythia/[/dim]"""
    from madyn.summaries import print_trace
    from madyn.sweep import trace as run

    report = run(
        models,
        out,
        steps=steps,
        probe=replace(probe, bos=starts_with_bos(bos)),
        name=name,
        revisions=revisions,
        engine=engine,
        jobs=jobs,
        cpus=cpus,
        gpus=gpus,
        shard=shard,
        tokenizer=tokenizer,
        inputs=read_tokens(context, tokens, "probe", "sequences", "length", "bos", "documents", "seed", "tokenizer"),
        settings=settings,
    )
    print_trace(report)
    if report.failures:
        raise typer.Exit(1)


COMMAND = Command(trace, panel="Measure", kind=WithBos)
