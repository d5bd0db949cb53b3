"""`madyn scan`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import (
    JsonOption,
    ScanBosOption,
    TokenizerOption,
    TokensOption,
    WithBos,
    path,
    read_tokens,
    refuse_beside_images,
    starts_with_bos,
)
from madyn.cli.spread import Fields
from madyn.settings import Probe, Settings
from madyn.terminal import print_json

SCAN_DOCUMENTS = 50  # enough text for a scan; the 500 of a sweep take longer to tokenise than to measure


def scan(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a GGUF file, or a name of the Hub.")],
    revision: Annotated[str | None, typer.Option("--revision", help="Revision of a model of the Hub.")] = None,
    *,
    probe: Annotated[
        Probe,
        Fields(
            "text",
            "sequences",
            "length",
            "seed",
            "exclude_positions",
            defaults={"sequences": 4},
            words={"length": "Tokens a sequence; at most 512 if not given."},
        ),
    ],
    bos: ScanBosOption = "none",
    tokenizer: TokenizerOption = None,
    tokens: TokensOption = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", parser=path, help="A folder of images, for a vision model; --sequences of them."),
    ] = None,
    settings: Annotated[
        Settings, Fields("dtype", "device", "batch_size", "layers", "stream", "weights", "trust_remote_code")
    ],
    as_json: JsonOption = False,
) -> None:
    """Measure one checkpoint, layer by layer. [dim]madyn scan EleutherAI/pythia-70m --revision step1000[/dim]

    --json prints {"model", "revision", "false_alarms", "scans"}: a scan (two with --bos both) is {"bos", "inputs",
    "sequences", "length", "remarks", "layers"}, a layer a record with the columns of `scan_checkpoint`; see
    docs/json.md.
    """
    from madyn.summaries import print_scan, print_scans_by_bos, scan_records
    from madyn.sweep import scan_checkpoint, scan_with_and_without_bos

    ids = read_tokens(context, tokens, "probe", "sequences", "length", "bos", "seed", "images")
    start = starts_with_bos(bos, both=True)
    text = replace(probe, bos=start, documents=SCAN_DOCUMENTS)
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
