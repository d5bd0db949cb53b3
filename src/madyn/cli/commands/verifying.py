"""`madyn verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import CsvOption, JsonOption, ModelsArgument, RevisionsOption, StepsOption
from madyn.cli.output import give
from madyn.cli.spread import Fields
from madyn.settings import Settings


def verify(
    models: ModelsArgument,
    steps: StepsOption = None,
    *,
    settings: Annotated[Settings, Fields("weights")],
    revisions: RevisionsOption = None,
    pull_requests: Annotated[
        bool,
        typer.Option("--pull-requests", help="Look into a repository's pull requests too where a step is at fault."),
    ] = False,
    csv: CsvOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell checkpoints that are not what they say; exits 1. [dim]madyn verify EleutherAI/pythia-2.8b --steps all[/dim]

    With --json a list, one object a model: source, steps (asked about), compared and requests (counts), total
    (steps of the model), unseen (of these, not compared), findings, and faults (the reason by step). A finding has kind
    (duplicate, part, absent, other step, plausible, frozen, inherited or not compared), fault, steps, shares_with,
    pieces, sound (what else a step holds, by step), says and advice.
    """
    from madyn.summaries import print_verifications
    from madyn.summaries.tables import findings_table
    from madyn.sweep.verifying import verify_checkpoints

    found = verify_checkpoints(
        models, steps, weights=settings.weights, revisions=revisions, pull_requests=pull_requests
    )
    records = [one.to_dict() for one in found]
    give(csv, lambda: findings_table(records), lambda: print_verifications(found), as_json, lambda: records)
    if any(one.faults for one in found):
        raise typer.Exit(1)


COMMAND = Command(verify, panel="Measure")
