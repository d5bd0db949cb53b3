"""`madyn scan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import (
    BatchOption,
    DeviceOption,
    DtypeOption,
    ExcludeOption,
    JsonOption,
    LayersOption,
    ProbeOption,
    ScanBosOption,
    SeedOption,
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


COMMAND = Command(scan, panel="Measure", kind=WithBos)
