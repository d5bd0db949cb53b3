"""`madyn trace`."""

from __future__ import annotations

from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import (
    OUT,
    AllowDuplicatesOption,
    BatchOption,
    BosOption,
    DecoderOnlyOption,
    DeviceOption,
    DocumentsOption,
    DtypeOption,
    ExcludeOption,
    KeepCacheOption,
    LayersOption,
    LengthOption,
    ModelsArgument,
    ProbeOption,
    RevisionsOption,
    SeedOption,
    StepsOption,
    StreamOption,
    TokenizerOption,
    TokensOption,
    TrustOption,
    WeightsOption,
    WithBos,
    read_tokens,
    starts_with_bos,
)


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
    steps: StepsOption = None,
    probe: ProbeOption = "stdlib",
    sequences: Annotated[int, typer.Option("--sequences", help="How many.")] = 10,
    length: LengthOption = None,
    bos: BosOption = "none",
    documents: DocumentsOption = 500,
    seed: SeedOption = 0,
    tokenizer: TokenizerOption = None,
    tokens: TokensOption = None,
    name: Annotated[str | None, typer.Option("--name", help="The model's directory in the dataset.")] = None,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    batch_size: BatchOption = 1,
    exclude_positions: ExcludeOption = "",
    positions: Annotated[
        str, typer.Option("--positions", help='Groups of positions measured by themselves too: "0;1-15;16-".')
    ] = "",
    layers: LayersOption = None,
    revisions: RevisionsOption = None,
    stream: StreamOption = None,
    keep_cache: KeepCacheOption = None,
    decoder_only: DecoderOnlyOption = False,
    engine: Annotated[str, typer.Option("--engine", help="local, ray, or ray://HOST:PORT.")] = "local",
    jobs: Annotated[int, typer.Option("--jobs", help="Processes of the local engine.")] = 1,
    cpus: Annotated[int, typer.Option("--cpus", help="CPUs that a checkpoint takes of a Ray cluster.")] = 1,
    gpus: Annotated[float, typer.Option("--gpus", help="GPUs that a checkpoint takes of a Ray cluster.")] = 0,
    shard: Annotated[
        str | None, typer.Option("--shard", help="i/N, i from 1: this share of the checkpoints, for array jobs.")
    ] = None,
    weights: WeightsOption = "auto",
    allow_duplicates: AllowDuplicatesOption = False,
    trust_remote_code: TrustOption = False,
) -> None:
    """Measure training checkpoints into a dataset. [dim]madyn trace EleutherAI/pythia-14m --out pythia/[/dim]"""
    from madyn.summaries import print_trace
    from madyn.sweep import Probe, Settings
    from madyn.sweep import trace as run

    report = run(
        models,
        out,
        steps=steps,
        probe=Probe(probe, sequences, length, starts_with_bos(bos), documents, seed, exclude_positions, positions),
        name=name,
        revisions=revisions,
        engine=engine,
        jobs=jobs,
        cpus=cpus,
        gpus=gpus,
        shard=shard,
        tokenizer=tokenizer,
        inputs=read_tokens(context, tokens, "probe", "sequences", "length", "bos", "documents", "seed", "tokenizer"),
        settings=Settings(
            dtype=dtype,
            device=device,
            batch_size=batch_size,
            trust_remote_code=trust_remote_code,
            layers=layers,
            stream=stream,
            keep_cache=keep_cache,
            decoder_only=decoder_only,
            weights=weights,
            allow_duplicates=allow_duplicates,
        ),
    )
    print_trace(report)
    if report.failures:
        raise typer.Exit(1)


COMMAND = Command(trace, panel="Measure", kind=WithBos)
