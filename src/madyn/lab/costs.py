"""What a suite will cost, said before it starts: parameters, operations, and time from a short calibration.

Time is that of a few real updates of each shape on this machine, at the number of threads that it will be trained with
but alone: several models at once share the memory's bandwidth, and take somewhat longer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from madyn.checkpoints.tokenizers import find_tokenizer
from madyn.errors import needs_extra
from madyn.lab.blueprints import Blueprint, build_model
from madyn.lab.recipe import Recipe
from madyn.lab.running import models_at_once, select_runs, training_flops
from madyn.lab.suites import LabSuite, Run
from madyn.terminal import progress_display

_UPDATES = 3  # timed, after one that is not


@dataclass(frozen=True)
class RunCost:
    """What one model takes.

    Attributes:
        parameters: of the model, embeddings and head included.
        flops: of its whole training.
        seconds: of its training and measuring, on this machine.
    """

    run: Run
    parameters: int
    flops: float
    seconds: float


@needs_extra
def suite_costs(
    suite: LabSuite, *, models: Sequence[str] | None = None, threads: int = 1, device: str = "cpu"
) -> list[RunCost]:
    """What every model of a suite will take. Nothing is read or written; the batches are of random tokens.

    Raises:
        UsageError: the suite or a name of a model cannot mean anything.
    """
    import torch

    models_at_once(None, threads, device)  # says what cannot be
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    timed: dict[tuple[Blueprint, Recipe], tuple[int, float]] = {}
    runs = select_runs(suite, models)
    vocabulary = len(find_tokenizer(suite.text.tokenizer)) if suite.text.tokenizer else suite.text.vocab_size
    try:
        with progress_display() as progress:
            shapes = list(dict.fromkeys((run.blueprint, run.recipe) for run in runs))
            for shape in progress.track(shapes, description="timing a few updates of each shape"):
                timed[shape] = _time(*shape, suite, vocabulary, device)
    finally:
        torch.set_num_threads(before)
    return [
        RunCost(run, parameters, training_flops(run, suite, vocabulary), seconds)
        for run in runs
        for parameters, seconds in [timed[run.blueprint, run.recipe]]
    ]


def _time(blueprint: Blueprint, recipe: Recipe, suite: LabSuite, vocabulary: int, device: str) -> tuple[int, float]:
    """Parameters, and the seconds of all updates and measurements."""
    import torch

    from madyn.lab.optimizers import make_optimizer
    from madyn.lab.training import mean_loss, update
    from madyn.measurement import measure

    steps = suite.measured_steps
    model = build_model(blueprint, 0, vocabulary + recipe.registers, recipe.positions, 0).to(device)
    optimizer = make_optimizer(model, recipe)
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> torch.Tensor:
        return torch.randint(vocabulary, (count, recipe.positions), generator=generator)

    batch = tokens(recipe.batch_size).to(device)
    update(model, optimizer, recipe, 0, batch)
    updates = []
    for step in range(1, 1 + _UPDATES):
        start = time.perf_counter()
        update(model, optimizer, recipe, step, batch)
        updates.append(time.perf_counter() - start)
    probe, held_out = tokens(suite.measure.sequences), tokens(suite.measure.loss_sequences).numpy()
    measure(model, probe[:1])
    start = time.perf_counter()
    measure(model, probe)
    mean_loss(model, held_out, recipe)
    measured = time.perf_counter() - start
    return model.num_parameters(), float(np.median(updates)) * recipe.steps + measured * len(steps)
