"""`madyn plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import (
    AllowDuplicatesOption,
    DeviceOption,
    DocumentsOption,
    DtypeOption,
    JsonOption,
    KeepCacheOption,
    LengthOption,
    ModelsArgument,
    ProbeOption,
    RevisionsOption,
    StepsOption,
    StreamOption,
    TokenizerOption,
    TokensOption,
    TrustOption,
    WeightsOption,
    read_tokens,
)
from madyn.terminal import print_json


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


COMMAND = Command(plan, panel="Measure")
