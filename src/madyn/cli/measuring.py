"""`madyn demo`, `madyn scan` and `madyn trace`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    JsonOption,
    KeepCacheOption,
    LayersOption,
    LengthOption,
    ModelsArgument,
    ProbeOption,
    RevisionsOption,
    ScanBosOption,
    SeedOption,
    StepsOption,
    StreamOption,
    TokenizerOption,
    TokensOption,
    TrustOption,
    WeightsOption,
    WithBos,
    path,
    read_tokens,
    refuse_beside_images,
    starts_with_bos,
)
from madyn.terminal import print_json

SCAN_DOCUMENTS = 50  # enough text for a scan; the 500 of a sweep take longer to tokenise than to measure


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Start here")(demo)
    app.command(rich_help_panel="Measure", cls=WithBos)(scan)
    app.command(rich_help_panel="Measure")(plan)
    app.command(rich_help_panel="Measure", cls=WithBos)(trace)


def demo(
    out: Annotated[Path, typer.Option("--out", help=f"{OUT}a folder.")] = Path("demo"),
) -> None:
    """Train a small family, measure it, fit it, draw it, predict it. [dim]madyn demo --out demo/[/dim]"""
    from madyn.demo import run_demo

    run_demo(out)


def scan(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a GGUF file, or a name of the Hub.")],
    revision: Annotated[str | None, typer.Option("--revision", help="Revision of a model of the Hub.")] = None,
    probe: ProbeOption = "stdlib",
    sequences: Annotated[int, typer.Option("--sequences", help="How many.")] = 4,
    length: Annotated[int | None, typer.Option("--length", help="Tokens a sequence; at most 512 if not given.")] = None,
    bos: ScanBosOption = "none",
    seed: SeedOption = 0,
    tokenizer: TokenizerOption = None,
    tokens: TokensOption = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", parser=path, help="A folder of images, for a vision model; --sequences of them."),
    ] = None,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    batch_size: BatchOption = 1,
    exclude_positions: ExcludeOption = "",
    layers: LayersOption = None,
    stream: StreamOption = None,
    weights: WeightsOption = "auto",
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure one checkpoint, layer by layer. [dim]madyn scan EleutherAI/pythia-70m --revision step1000[/dim]

    --json prints {"model", "revision", "false_alarms", "scans"}: a scan (two with --bos both) is {"bos", "inputs",
    "sequences", "length", "remarks", "layers"}, a layer a record with the columns of `scan_checkpoint`; see
    docs/json.md.
    """
    from madyn.summaries import print_scan, print_scans_by_bos, scan_records
    from madyn.sweep import Probe, Settings, scan_checkpoint, scan_with_and_without_bos

    ids = read_tokens(context, tokens, "probe", "sequences", "length", "bos", "seed", "images")
    start = starts_with_bos(bos, both=True)
    settings = Settings(
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        trust_remote_code=trust_remote_code,
        layers=layers,
        stream=stream,
        weights=weights,
    )
    text = Probe(probe, sequences, length, start, SCAN_DOCUMENTS, seed, exclude_positions)
    if bos == "both":
        refuse_beside_images(context, images, "bos")
        pair = scan_with_and_without_bos(model, revision, probe=text, settings=settings, tokenizer=tokenizer)
        tables = [(False, pair[0]), (True, pair[1])]
    else:
        refuse_beside_images(context, images, "probe", "length", "bos", "seed", "tokenizer")
        table = scan_checkpoint(
            model, revision, probe=text, settings=settings, tokenizer=tokenizer, inputs=ids, images=images
        )
        tables = [(start, table)]
    title = f"{model}{f' at {revision}' if revision else ''}, {tables[0][1].attrs['inputs']}"
    if as_json:
        print_json(scan_records(tables, model, revision))
    elif bos == "both":
        print_scans_by_bos(tables[0][1], tables[1][1], title.removesuffix(", without BOS"))
    else:
        print_scan(tables[0][1], title)


def plan(
    context: typer.Context,
    models: ModelsArgument,
    out: Annotated[
        str | None, typer.Option("--out", help="Where the trace would write; what is there already costs nothing.")
    ] = None,
    steps: StepsOption = None,
    probe: ProbeOption = "stdlib",
    sequences: Annotated[int, typer.Option("--sequences", help="How many.")] = 10,
    length: LengthOption = None,
    documents: DocumentsOption = 500,
    tokenizer: TokenizerOption = None,
    tokens: TokensOption = None,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    revisions: RevisionsOption = None,
    stream: StreamOption = None,
    keep_cache: KeepCacheOption = None,
    weights: WeightsOption = "auto",
    allow_duplicates: AllowDuplicatesOption = False,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """What a trace will cost, before it starts. [dim]madyn plan EleutherAI/pythia-1b --steps paper[/dim]

    --json prints {"models", "start_up"}: a record a model with the fields of `ModelCost`, and seconds before the first
    checkpoint by what they are for, with what is not in them; see docs/json.md.
    """
    from madyn.summaries import print_costs
    from madyn.sweep import Probe, Settings, plan_costs

    costs = plan_costs(
        models,
        out,
        steps=steps,
        probe=Probe(probe, sequences, length, documents=documents),
        tokenizer=tokenizer,
        inputs=read_tokens(context, tokens, "probe", "sequences", "length", "documents", "tokenizer"),
        revisions=revisions,
        settings=Settings(
            dtype=dtype,
            device=device,
            stream=stream,
            keep_cache=keep_cache,
            weights=weights,
            allow_duplicates=allow_duplicates,
            trust_remote_code=trust_remote_code,
        ),
    )
    if as_json:
        start = {"parts": costs.start_up.parts, "unknown": costs.start_up.unknown}
        print_json({"models": [vars(cost) for cost in costs], "start_up": start})
    else:
        print_costs(costs)


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
