"""`madyn intervene`."""

from __future__ import annotations

from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    LayersOption,
    OutFolderOption,
    ProbeOption,
    ScanBosOption,
    SeedOption,
    TokenizerOption,
    TokensOption,
    TrustOption,
    WeightsOption,
    WithBos,
    read_tokens,
    say_written,
    starts_with_bos,
)
from madyn.terminal import print_json, progress_display

_DOCUMENTS = 50


def intervene(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a GGUF file, or a name of the Hub.")],
    revision: Annotated[str | None, typer.Option("--revision", help="Revision of a model of the Hub.")] = None,
    settings: Annotated[
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
    probe: ProbeOption = "stdlib",
    sequences: Annotated[int, typer.Option("--sequences", help="How many.")] = 4,
    length: Annotated[int | None, typer.Option("--length", help="Tokens a sequence; at most 512 if not given.")] = None,
    bos: ScanBosOption = "none",
    seed: SeedOption = 0,
    tokenizer: TokenizerOption = None,
    tokens: TokensOption = None,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    layers: LayersOption = None,
    weights: WeightsOption = "auto",
    trust_remote_code: TrustOption = False,
    out: OutFolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a model does without its massive activations. [dim]madyn intervene MODEL --set zero --set mean[/dim]

    --json prints {"model", "revision", "inputs", "layer", "kind", "sequences", "length", "effects", "by_layer",
    "places", "remarks"}: lists of records with the columns of `madyn.intervention.Effects`; see docs/json.md.
    """
    from madyn.intervention import measure_effects
    from madyn.summaries import print_intervention, write_report
    from madyn.sweep import Probe, Settings
    from madyn.sweep.subjects import Subject

    ids = read_tokens(context, tokens, "probe", "sequences", "length", "bos", "seed")
    how = Settings(dtype=dtype, device=device, trust_remote_code=trust_remote_code, layers=layers, weights=weights)
    text = Probe(probe, sequences, length, starts_with_bos(bos), _DOCUMENTS, seed)
    subject = Subject.find(model, revision, text, how, tokenizer, ids is not None)
    inputs, said = subject.prepare(subject.probe) if ids is None else subject.given(ids)
    loaded, remarks = subject.load_with_head()
    with progress_display() as progress:
        task = progress.add_task("forwards of one sequence", total=None)
        effects = measure_effects(
            loaded,
            inputs.values,
            settings or ("zero", "mean"),
            layer=int(layer) if layer.isdigit() else layer,
            top=top,
            positions=positions,
            controls=controls,
            tokenizer=subject.tokenizer,
            layers=layers,
            seed=seed,
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )
    effects.remarks.extend([*inputs.remarks, *remarks])
    title = f"{model}{f' at {revision}' if revision else ''}, {said}"
    if as_json:
        print_json(
            {
                "model": model, "revision": revision, "inputs": said, "layer": effects.layer, "kind": effects.kind,
                "sequences": effects.sequences, "length": effects.length,
                "effects": effects.table.to_dict("records"), "by_layer": effects.by_layer.to_dict("records"),
                "places": effects.places.to_dict("records"), "remarks": effects.remarks,
            }
        )  # fmt: skip
    else:
        print_intervention(effects, title)
    if out is not None:
        write_report(effects, title, out)
        if not as_json:
            say_written(out / "report.md")


COMMAND = Command(intervene, panel="Measure", kind=WithBos)
