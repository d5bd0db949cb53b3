"""How fast a family's remedies train beside the plain model: updates of both in turn, on one thread of this machine.

Two models run in turn, a few updates each, round after round, so that whatever else the machine does meets both alike.
A figure is the median over the rounds of one's tokens a second over the other's in the same round, by the processor
time of the thread. Weights and batches are drawn anew: speed does not depend on what was learned.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from madyn.dataset import Dataset, open_dataset
from madyn.dataset.throughput import Speed, Throughput
from madyn.effects import find_departures
from madyn.errors import DatasetError, MadynError, UsageError
from madyn.lab import Recipe
from madyn.lab.blueprints import Blueprint
from madyn.terminal import progress_display

_UPDATES = 2  # in a row
_WARM = 2  # updates that are not timed
_TOKENS = 200_000  # of the made-up text

Way = Callable[[int], None]
"""Makes the update of a number."""


def measure_throughput(dataset: str | Path | Dataset, rounds: int = 9, plain: str | None = None) -> Throughput:
    """Time updates of one model of each remedy beside the plain one of its shape and seed.

    Args:
        dataset: of the lab; the models are built anew from its training records, and nothing is written.
        rounds: each of some updates of either.
        plain: as in `study_control`.

    Raises:
        DatasetError: no model departs from a plain one, or a record does not say how a model is built.
    """
    import torch

    if rounds < 1:
        raise UsageError(f"rounds is {rounds}; it is 1 or more")
    dataset = open_dataset(dataset).sound()
    pairs = {
        one.label: (model, one.base) for model, one in reversed(find_departures(dataset, plain).items()) if one.base
    }
    if not pairs:
        raise DatasetError(f"{dataset.path}: no model departs from a plain one of its shape and seed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {}
    try:
        with progress_display() as progress:
            for model, base in progress.track(list(pairs.values())[::-1], description="timing updates of each remedy"):
                found[model] = _beside(_way_of(dataset, model), _way_of(dataset, base), rounds)
    finally:
        torch.set_num_threads(before)
    return Throughput(f"{_processor()}, one thread, torch {torch.__version__}", rounds, found)


def _way_of(dataset: Dataset, model: str) -> tuple[Way, int]:
    """What makes an update of a model as the lab does, and the tokens of one."""
    record = dataset.training(model)
    try:
        plan: Mapping[str, Any] = record.plan if record else {}
        blueprint, recipe = Blueprint(**plan["blueprint"]), Recipe(**plan["recipe"])
    except (KeyError, TypeError, MadynError) as e:
        raise DatasetError(f"{dataset.path}: the training record of {model} does not say how it is built: {e}") from e
    return way_of_lab(blueprint, recipe, _vocabulary(dataset, model) - recipe.registers), _tokens(recipe)


def _vocabulary(dataset: Dataset, model: str) -> int:
    size = dataset.architecture(model).vocab_size
    if not size:
        raise DatasetError(f"{dataset.path}: how large the vocabulary of {model} is, is not known")
    return size


def _tokens(recipe: Recipe) -> int:
    return recipe.batch_size * recipe.length


def way_of_lab(blueprint: Blueprint, recipe: Recipe, vocabulary: int) -> Way:
    """The lab's own updates of a model with new weights, on made-up text."""
    import torch

    from madyn.lab.blueprints import build_model
    from madyn.lab.optimizers import make_optimizer
    from madyn.lab.training import draw_batch, update

    model = build_model(blueprint, 0, vocabulary + recipe.registers, recipe.positions, 0).train()
    optimizer = make_optimizer(model, recipe)
    tokens = torch.from_numpy(np.random.default_rng(0).integers(1, vocabulary, _TOKENS))

    def go(step: int) -> None:
        update(model, optimizer, recipe, step, draw_batch(tokens, recipe, 0, step, 0, vocabulary))

    return go


def _beside(mine: tuple[Way, int], base: tuple[Way, int], rounds: int) -> Speed:
    (one, tokens), (other, base_tokens) = mine, base
    times, _ = time_in_turn(one, other, rounds)
    lower, middle, upper = (float(x) * tokens / base_tokens for x in np.quantile(times, [0.25, 0.5, 0.75]))
    return Speed(middle, lower, upper)


def time_in_turn(one: Way, other: Way, rounds: int) -> tuple[list[float], float]:
    """How many times faster `one` makes an update than `other`, by round; the processor seconds of one of `other`."""
    ratios, seconds = [], []
    for step in range(_WARM):
        one(step)
        other(step)
    for number in range(rounds):
        took = {}
        for way in (one, other) if number % 2 else (other, one):
            start = time.process_time()
            for step in range(_UPDATES):
                way(_WARM + number * _UPDATES + step)
            took[way] = (time.process_time() - start) / _UPDATES
        ratios.append(took[other] / took[one])
        seconds.append(took[other])
    return ratios, float(np.median(seconds))


def _processor() -> str:
    """What the processor is called, where that can be told."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine() or "a processor of unknown kind"
