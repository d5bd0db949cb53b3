"""What the commands for families say: what a suite will cost, what was trained, and what goes with the architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.summaries.numbers import duration
from madyn.terminal import console, print_table

if TYPE_CHECKING:
    from madyn.effects.study import Study
    from madyn.lab import LabReport, LabSuite
    from madyn.lab.costs import RunCost


_MOST = 25


def print_suite_costs(suite: LabSuite, costs: Sequence[RunCost], jobs: int | None, threads: int) -> None:
    """What a suite will take, a row a model and the sum; how far its factors depend on one another."""
    from madyn.effects import FACTORS
    from madyn.lab.running import models_at_once
    from madyn.lab.suites import design_correlation

    columns = ["model", "parameters", "TFLOP", "time"]
    rows = [[c.run.name, c.parameters, c.flops / 1e12, duration(c.seconds)] for c in costs]
    total, at_once = sum(c.seconds for c in costs), models_at_once(jobs, threads, "cpu")
    every = ["all", sum(c.parameters for c in costs), sum(c.flops for c in costs) / 1e12, duration(total)]
    title = f"{suite.name}: {suite.recipe.steps} steps, measured at {len(suite.measured_steps)}"
    print_table(title, columns, rows, ["model"], most=_MOST, foot=[every])
    console.print(
        f"the time is that of one model alone at {threads} thread(s), from a few updates; {at_once} at a time would "
        f"take about {duration(max(total / at_once, max(c.seconds for c in costs)))}, and longer where they share "
        "memory's bandwidth"
    )
    architectures = len({c.run.blueprint for c in costs})
    if architectures > 2:
        *names, last = FACTORS
        console.print(
            f"{architectures} architectures; the largest correlation between the logarithms of "
            f"{', '.join(names)} and {last} is {design_correlation([c.run for c in costs]):.2f}"
        )


def print_lab(report: LabReport) -> None:
    """What was trained: the losses and the largest ratio of each model, at first and at last."""
    rows = []
    dataset = report.open() if report.trained or report.already else None
    for model in [*report.trained, *report.already]:
        assert dataset is not None
        record, ratio = dataset.training(model), dataset.trajectories(model, "ratio").max("layer")
        losses = record.losses[max(record.losses)] if record and record.losses else {}
        rows.append([model, losses.get("train"), losses.get("held_out"), ratio.values[0], ratio.values[-1]])
    if rows:
        columns = ["model", "training loss", "held-out loss", "largest ratio at first", "at last"]
        print_table("trained", columns, sorted(rows), left=["model"], most=_MOST)
    for model, reason in report.failures.items():
        console.print(f"{model} failed: {reason}", style="red")
    console.print(
        f"{report.path}: {len(report.trained)} trained, {len(report.already)} complete before, "
        f"{len(report.failures)} failed"
    )


def print_effects(study: Study) -> None:
    """Effect sizes, variance components, classes, growth, locations and directions of a family, a table each."""
    responses = study.responses
    common = responses.attrs.get("common_loss")
    architectures = np.unique(responses["architecture"].to_numpy())
    console.print(f"{len(responses)} models of {len(architectures)} architectures, {len(study.layers)} layers")
    if study.sizes:
        factors = list(dict.fromkeys(factor for frame in study.sizes.values() for factor in frame.index))
        rows = [
            [
                response,
                *(
                    _interval(frame.loc[factor], "per_doubling") if factor in frame.index else None
                    for factor in factors
                ),
                frame.attrs["r2"],
                frame.attrs["models"],
            ]
            for response, frame in study.sizes.items()
        ]
        title = "what a response is multiplied by when a factor doubles (95 % interval)"
        print_table(title, ["of a model", *factors, "R2", "models"], rows, left=["of a model"])
        if common is not None and common == common:
            console.print(f"equal loss: where the held-out loss first falls to {common:.3f} nats a token")
    if study.departures:
        _print_departures(study)
    if study.shares:
        parts = list(next(iter(study.shares.values())).index)
        rows = []
        for response, frame in study.shares.items():
            low, high = frame.attrs["seed_factor_interval"]
            chance = f"{frame.attrs['seed_factor']:.2f} ({low:.2f} to {high:.2f})"
            rows.append([response, *(_percent(one) for one in frame.to_dict("records")), chance])
        title = "parts of the variance over the models, % (95 % interval)"
        print_table(title, ["of a model", *parts, "a seed changes it by a factor"], rows, left=["of a model"])
    counts = study.counts
    rows = [[place, *counts.loc[place].tolist()] for place in counts.index]
    print_table("classes of the ratio's trajectories", ["layers", *counts.columns], rows, left=["layers"])
    growth = study.growth.reset_index().to_dict("records")
    places, grown = (list(dict.fromkeys(one[name] for one in growth)) for name in ("place", "quantity"))
    cells = {(one["place"], one["quantity"]): _interval(one, "mean") for one in growth}
    rows = [[place, *(cells.get((place, quantity)) for quantity in grown)] for place in places]
    title = "how often a quantity doubles from the first step to the last (mean, 95 % interval)"
    print_table(title, ["layers", *grown], rows, left=["layers"])
    if study.locked is not None and study.over_training is not None:
        _print_locations(study)
    rows = [
        [one["parameter"], one["with"], one["said"], _interval(one, "rho")]
        for one in study.directions.to_dict("records")
    ]
    print_table(
        f"published directions: rank correlations over {max(study.directions['layers'])} well fitted layers",
        ["parameter", "with", "reported", "here (95 % interval)"],
        rows,
        left=["parameter", "with"],
    )
    for name, reason in study.missing.items():
        console.print(f"no {name}: {reason}", style="yellow")


def _print_departures(study: Study) -> None:
    """What each departure in wiring or recipe does, in bold words where chance alone would hardly do it."""
    shown = {"final ratio": "final ratio", "ratio at equal loss": "at equal loss", "held_out": "held-out loss"}
    there = {name: words for name, words in shown.items() if name in study.departures}
    labels = list(dict.fromkeys(label for frame in study.departures.values() for label in frame.index))
    rows = []
    for label in labels:
        row: list[Any] = [label]
        for name in there:
            frame = study.departures[name]
            one = frame.loc[label] if label in frame.index else None
            row.append(None if one is None else _times(one))
        first = study.departures[next(iter(there))]
        row += [first.loc[label, "corrected"], int(first.loc[label, "pairs"])] if label in first.index else [None, None]
        rows.append(row)
    columns = ["departs in", *there.values(), "p of the ratio, corrected", "pairs"]
    title = "what models that depart from the usual have times what those of their seed have (95 % interval)"
    print_table(title, columns, rows, left=["departs in"])
    console.print(
        f"corrected: for {len(labels)} departures, by Holm's method. Sizes and parts of the variance are of the other "
        "models"
    )


def _times(one: Mapping[Any, Any]) -> str:
    value = f"{one['times']:.3g}"
    return value if one["lower"] != one["lower"] else f"{value} ({one['lower']:.3g} to {one['upper']:.3g})"


def _print_locations(study: Study) -> None:
    assert study.locked is not None
    assert study.over_training is not None
    over, locked = study.over_training, study.locked
    at_last = over[over["step"] == over.groupby("model")["step"].transform("max")]
    rows = []
    for place in dict.fromkeys(study.counts.index):
        here, last = locked.loc[locked["place"] == place], at_last.loc[at_last["place"] == place]
        rows.append(
            [place, 100 * last["first_position"].mean(), 100 * last["modal_feature"].mean(),
             100 * here["shared_feature"].mean(), float(np.median(np.asarray(here["locked_in_step"], float)))]
        )  # fmt: skip
    columns = [
        "layers",
        "at position 0, %",
        "in one feature, %",
        "feature shared, %",
        "locked in at step",
    ]
    print_table("the largest value at the last step", columns, rows, left=["layers"])
    console.print(
        "feature shared: with the layer of the model that has the largest ratio; locked in: median over layers"
    )


def _interval(one: Mapping[Any, Any], name: str) -> str:
    if one[name] != one[name]:  # of nothing: a model of two layers has none between the first and the last
        return "-"
    return f"{one[name]:.2f} ({one['lower']:.2f} to {one['upper']:.2f})"


def _percent(one: Mapping[Any, Any]) -> str:
    return f"{100 * one['share']:.0f} ({100 * one['lower']:.0f} to {100 * one['upper']:.0f})"
