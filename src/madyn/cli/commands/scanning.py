"""`madyn scan`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from madyn.cli.command import Command
from madyn.cli.options import (
    CsvOption,
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
from madyn.cli.output import give
from madyn.cli.spread import Fields
from madyn.errors import UsageError
from madyn.settings import Probe, Settings

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
    features: Annotated[
        bool, typer.Option("--features", help="List the features that carry massive values, over all layers, instead.")
    ] = False,
    rule: Annotated[
        str, typer.Option("--rule", help="With --features, what is massive: 1000x, ratio>300 (any number), or robust.")
    ] = "1000x",
    csv: CsvOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure one checkpoint, layer by layer. [dim]madyn scan EleutherAI/pythia-70m --revision step1000[/dim]

    --json prints {"model", "revision", "false_alarms", "scans"}: a scan (two with --bos both) is {"bos", "inputs",
    "sequences", "length", "remarks", "layers"}, a layer a record with the columns of `scan_checkpoint`; see
    docs/json.md. With --features it is {"model", "revision", "inputs", "rule", "sequences", "largest_ratio",
    "features", "dimensions"}: records with the columns of `madyn.intervention.features_of` and `massive_dimensions`.
    """
    from madyn.summaries import print_scan, print_scans_by_bos, scan_records
    from madyn.summaries.tables import scan_table
    from madyn.sweep import scan_checkpoint, scan_with_and_without_bos

    ids = read_tokens(context, tokens, "probe", "sequences", "length", "bos", "seed", "images")
    start = starts_with_bos(bos, both=True)
    text = replace(probe, bos=start, documents=SCAN_DOCUMENTS)
    if features:
        if bos == "both" or images is not None:
            raise UsageError("--features is of one reading of text: without --images, and --bos none or start")
        _scan_features(model, revision, text, settings, tokenizer, ids, rule, csv, as_json)
        return
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

    def say() -> None:
        if bos == "both":
            print_scans_by_bos(tables[0][1], tables[1][1], title.removesuffix(", without BOS"))
        else:
            print_scan(tables[0][1], title)

    give(csv, lambda: scan_table(tables), say, as_json, lambda: scan_records(tables, model, revision))


def _scan_features(
    model: str,
    revision: str | None,
    probe: Probe,
    settings: Settings,
    tokenizer: str | None,
    tokens: Any,
    rule: str,
    csv: Path | None,
    as_json: bool,
) -> None:
    from madyn.intervention import features_of, massive_dimensions
    from madyn.summaries import print_features
    from madyn.sweep.subjects import Subject

    subject = Subject.find(model, revision, probe, settings, tokenizer, tokens is not None)
    inputs, said = subject.prepare(subject.probe) if tokens is None else subject.given(tokens)
    loaded = subject.load()
    dimensions = massive_dimensions(
        loaded.model, inputs.values, rule, tokenizer=subject.tokenizer, layers=loaded.layers
    )
    table = features_of(dimensions)

    def records() -> dict[str, Any]:
        shown = {key: dimensions.attrs[key] for key in ("rule", "sequences", "largest_ratio")}
        found = {"features": table.to_dict("records"), "dimensions": dimensions.to_dict("records")}
        return {"model": model, "revision": revision, "inputs": said, **shown, **found}

    title = f"{model}{f' at {revision}' if revision else ''}, {said}"
    give(csv, lambda: table, lambda: print_features(table, title), as_json, records)


COMMAND = Command(scan, panel="Measure", kind=WithBos)
