"""`madyn plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import (
    JsonOption,
    ModelsArgument,
    RevisionsOption,
    StepsOption,
    TokenizerOption,
    TokensOption,
    read_tokens,
)
from madyn.cli.spread import Fields
from madyn.settings import Probe, Settings
from madyn.terminal import print_json


def plan(
    context: typer.Context,
    models: ModelsArgument,
    out: Annotated[
        str | None, typer.Option("--out", help="Where the trace would write; what is there already costs nothing.")
    ] = None,
    *,
    steps: StepsOption = None,
    probe: Annotated[Probe, Fields("text", "sequences", "length", "documents")],
    tokenizer: TokenizerOption = None,
    tokens: TokensOption = None,
    revisions: RevisionsOption = None,
    settings: Annotated[
        Settings,
        Fields("dtype", "device", "stream", "keep_cache", "weights", "allow_duplicates", "trust_remote_code"),
    ],
    as_json: JsonOption = False,
) -> None:
    """What a trace will cost, before it starts. [dim]madyn plan EleutherAI/pythia-1b --steps paper[/dim]

    --json prints {"models", "start_up"}: a record a model with the fields of `ModelCost`, and seconds before the first
    checkpoint by what they are for, with what is not in them; see docs/json.md.
    """
    from madyn.summaries import print_costs
    from madyn.sweep import plan_costs

    costs = plan_costs(
        models,
        out,
        steps=steps,
        probe=probe,
        tokenizer=tokenizer,
        inputs=read_tokens(context, tokens, "probe", "sequences", "length", "documents", "tokenizer"),
        revisions=revisions,
        settings=settings,
    )
    if as_json:
        start = {"parts": costs.start_up.parts, "unknown": costs.start_up.unknown}
        print_json({"models": [vars(cost) for cost in costs], "start_up": start})
    else:
        print_costs(costs)


COMMAND = Command(plan, panel="Measure")
