"""`madyn plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import (
    CsvOption,
    JsonOption,
    ModelsArgument,
    RevisionsOption,
    StepsOption,
    TokenizerOption,
    TokensOption,
    read_tokens,
)
from madyn.cli.output import give
from madyn.cli.spread import Fields
from madyn.settings import Probe, Settings


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
    csv: CsvOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a trace will cost, before it starts. [dim]madyn plan EleutherAI/pythia-1b --steps paper[/dim]

    --json prints {"models", "start_up"}: a record a model with the fields of `ModelCost`, and seconds before the first
    checkpoint by what they are for, with what is not in them; see docs/json.md.
    """
    from madyn.summaries import print_costs
    from madyn.summaries.tables import records_table
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
    models_costs = [vars(cost) for cost in costs]
    start = {"parts": costs.start_up.parts, "unknown": costs.start_up.unknown}
    give(
        csv,
        lambda: records_table(models_costs),
        lambda: print_costs(costs),
        as_json,
        lambda: {"models": models_costs, "start_up": start},
    )


COMMAND = Command(plan, panel="Measure")
