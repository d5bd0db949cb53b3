"""`madyn lab`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from madyn.cli.command import Command
from madyn.cli.options import OUT, path
from madyn.errors import UsageError


def lab(
    suite: Annotated[
        str, typer.Argument(metavar="SUITE", help="A suite file (TOML), or the name of a suite that comes with madyn.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", parser=path, help=f"{OUT}the dataset's folder. What is in it stays.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Only this model of the suite; may be given again.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", help="Models trained at the same time; by default as many as the cores allow."),
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", help="Of each model; part of what makes results repeatable.")
    ] = 1,
    device: Annotated[str, typer.Option("--device", help="A torch device.")] = "cpu",
    keep_weights: Annotated[
        bool, typer.Option("--keep-weights", help="Save a checkpoint at every measured step, below OUT/checkpoints.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Train models that failed before once more, from the start.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the models with parameters, operations and time, and train nothing.")
    ] = False,
) -> None:
    """Train a family of small models, measuring as they learn. [dim]madyn lab SUITE.toml --out family/[/dim]"""
    from madyn.lab import read_suite, run_suite
    from madyn.summaries import print_lab, print_suite_costs

    read = read_suite(suite)
    if dry_run:
        from madyn.lab.costs import suite_costs

        print_suite_costs(read, suite_costs(read, models=model, threads=threads, device=device), jobs, threads)
        return
    if out is None:
        raise UsageError("--out is missing: the folder of the dataset")
    report = run_suite(
        read, out, models=model, jobs=jobs, threads=threads, device=device, keep_weights=keep_weights, retry=retry
    )
    print_lab(report)
    if report.failures:
        raise typer.Exit(1)


COMMAND = Command(lab, panel="Measure")
