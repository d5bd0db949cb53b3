"""`madyn intervene`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from madyn.cli.command import Command
from madyn.cli.options import (
    CsvOption,
    JsonOption,
    OutFolderOption,
    RevisionsOption,
    ScanBosOption,
    TokenizerOption,
    TokensOption,
    WithBos,
    read_tokens,
    say_written,
    starts_with_bos,
)
from madyn.cli.output import give
from madyn.cli.spread import Fields
from madyn.errors import UsageError
from madyn.settings import Probe, Settings
from madyn.terminal import progress_display

_DOCUMENTS = 50


def intervene(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a GGUF file, or a name of the Hub.")],
    revision: Annotated[str | None, typer.Option("--revision", help="Revision of a model of the Hub.")] = None,
    *,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="What values are set to: zero, mean, scale:0.5, clip:100 or a number; may be given again."
        ),
    ] = None,
    layer: Annotated[
        str, typer.Option("--layer", help="Behind which, counted from 0; auto: where the largest |h| grows most.")
    ] = "auto",
    top: Annotated[int, typer.Option("--top", help="How many of the largest values of each sequence.")] = 1,
    positions: Annotated[
        str, typer.Option("--positions", help="Where they may stand: all, first, or delimiters.")
    ] = "all",
    controls: Annotated[
        bool, typer.Option("--controls/--no-controls", help="Change as many other values in the same way too.")
    ] = True,
    origin: Annotated[
        bool,
        typer.Option("--origin/--no-origin", help="Say which blocks write the values and what attends to them."),
    ] = True,
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
    bos: ScanBosOption = "none",
    tokenizer: TokenizerOption = None,
    tokens: TokensOption = None,
    settings: Annotated[Settings, Fields("dtype", "device", "layers", "weights", "trust_remote_code")],
    steps: Annotated[
        str | None,
        typer.Option(
            "--steps",
            help="Follow the values through a run's checkpoints: all, or 0,1,2,...; --out is then a dataset's folder, "
            "and what is there already is not measured again.",
        ),
    ] = None,
    revisions: RevisionsOption = None,
    out: OutFolderOption = None,
    csv: CsvOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a model does without its massive activations. [dim]madyn intervene MODEL --set zero --set mean[/dim]

    --json prints {"model", "revision", "inputs", "layer", "kind", "sequences", "length", "effects", "by_layer",
    "places", "origin", "remarks"}: lists of records with the columns of `madyn.intervention.Effects`; see docs/json.md.
    """
    from madyn.intervention import find_origin, measure_effects
    from madyn.summaries import print_intervention, write_report
    from madyn.sweep.subjects import Subject

    if steps is not None:
        asked = {"settings": given or ("zero", "mean"), "layer": _layer(layer), "top": top, "positions": positions}
        text = replace(probe, bos=starts_with_bos(bos), documents=_DOCUMENTS)
        if tokens is not None or revision is not None:
            raise UsageError(
                "--steps reads text, at the checkpoints of a run: it takes neither --tokens nor --revision"
            )
        _follow(model, steps, asked, controls, text, settings, tokenizer, revisions, out, csv, as_json)
        return
    ids = read_tokens(context, tokens, "probe", "sequences", "length", "bos", "seed")
    text = replace(probe, bos=starts_with_bos(bos), documents=_DOCUMENTS)
    subject = Subject.find(model, revision, text, settings, tokenizer, ids is not None)
    inputs, said = subject.prepare(subject.probe) if ids is None else subject.given(ids)
    loaded, remarks = subject.load_with_head()
    with progress_display() as progress:
        task = progress.add_task("forwards of one sequence", total=None)
        effects = measure_effects(
            loaded,
            inputs.values,
            given or ("zero", "mean"),
            layer=_layer(layer),
            top=top,
            positions=positions,
            controls=controls,
            tokenizer=subject.tokenizer,
            layers=settings.layers,
            seed=probe.seed,
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )
    effects.remarks.extend([*inputs.remarks, *remarks])
    found = find_origin(loaded, inputs.values, effects, layers=settings.layers) if origin else None
    title = f"{model}{f' at {revision}' if revision else ''}, {said}"

    def value() -> dict[str, Any]:
        return {
            "model": model, "revision": revision, "inputs": said, "layer": effects.layer, "kind": effects.kind,
            "sequences": effects.sequences, "length": effects.length,
            "effects": effects.table.to_dict("records"), "by_layer": effects.by_layer.to_dict("records"),
            "places": effects.places.to_dict("records"),
            "origin": found.sentences if found else [], "remarks": effects.remarks,
        }  # fmt: skip

    taken = give(csv, lambda: effects.table, lambda: print_intervention(effects, title, found), as_json, value)
    if out is not None:
        write_report(effects, title, out, found)
        if not as_json:
            say_written(out / "report.md", taken)


def _layer(given: str) -> int | str:
    return int(given) if given.isdigit() else given


def _follow(
    model: str,
    steps: str,
    asked: dict[str, Any],
    controls: bool,
    probe: Probe,
    settings: Settings,
    tokenizer: str | None,
    revisions: str | None,
    out: Path | None,
    csv: Path | None,
    as_json: bool,
) -> None:
    from madyn.dataset import layout
    from madyn.intervention import follow_effects
    from madyn.summaries import print_study, write_study
    from madyn.terminal import count_wrong

    if out is None:
        raise UsageError("--steps measures many checkpoints; say with --out where the outcome of each is kept")
    with progress_display() as progress:
        task = progress.add_task("checkpoints", total=None)
        table = follow_effects(
            model,
            out,
            steps=steps,
            controls=controls,
            probe=probe,
            how=settings,
            tokenizer=tokenizer,
            revisions=revisions,
            advance=lambda step, done, total: progress.update(task, completed=done, total=total),
            **asked,
        )
    name = layout.directory_name(model)
    taken = give(
        csv,
        lambda: table,
        lambda: print_study(table, f"{model}, followed through training"),
        as_json,
        lambda: {"model": model, **table.attrs, "steps": table.to_dict("records")},
    )
    for path in write_study(table, out, name):
        if not as_json:
            say_written(path, taken)
    for failure in table["failure"].dropna():
        count_wrong(str(failure))


COMMAND = Command(intervene, panel="Measure", kind=WithBos)
