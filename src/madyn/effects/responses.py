"""One row a model: what it is (its factors) and what it did (its responses).

A response is one number of a whole run, so that models of different depth can be compared: of the layer whose ratio is
the largest at the last step, or of the largest ratio over the layers. A new response is one entry of `RESPONSES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from madyn.architecture import FEATURES, Architecture
from madyn.curves import sampled
from madyn.dataset import Dataset, open_dataset
from madyn.effects.departures import find_departures
from madyn.errors import DatasetError
from madyn.typing import Array

if TYPE_CHECKING:
    import pandas as pd


FACTORS: Mapping[str, Callable[[Architecture], float]] = {one.factor: one.of for one in FEATURES.values() if one.factor}
"""What is varied, by name: each positive, and taken by its logarithm.

>>> import madyn
>>> shape = madyn.Architecture(num_hidden_layers=4, hidden_size=64, num_attention_heads=4)
>>> {name: of(shape) for name, of in madyn.effects.FACTORS.items()}
{'width': 64, 'depth': 4, 'heads': 4, 'MLP ratio': 4.0}
"""

HELD_OUT = "held_out"
"""The column of the final held-out loss, which is no response of the activations."""

EQUAL_LOSS_REACHED = 0.9  # the share of the models that reach the loss at which all are compared


@dataclass(frozen=True)
class Course:
    """What a model did over its training.

    Attributes:
        step: (n,) training steps, ascending.
        ratio: (n,) the largest ratio over the layers.
        top1, median: (n,), both of the layer whose ratio is the largest at the last step.
        held_out: (n,) the loss on text that is not learned from, nan where it is not known.
        common_loss: one that most models of the family reach; nan where losses are not known.
    """

    step: Array
    ratio: Array
    top1: Array
    median: Array
    held_out: Array
    common_loss: float = math.nan


def at_equal_loss(course: Course) -> float:
    """The largest ratio when the held-out loss first falls to the common one; nan where it never does.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> course = madyn.effects.course_of(data, data.models[0])
    >>> madyn.effects.at_equal_loss(course)
    nan
    """
    reached = np.flatnonzero(course.held_out <= course.common_loss)
    if len(reached) == 0:
        return math.nan
    at = int(reached[0])
    if at == 0:
        return float(course.ratio[0])
    share = sampled.share_of_way(course.held_out, at, course.common_loss)
    return float(np.exp(sampled.between(np.log(course.ratio), at, share)))


RESPONSES: Mapping[str, Callable[[Course], float]] = {
    "final ratio": lambda c: float(c.ratio[-1]),
    "ratio at equal loss": at_equal_loss,
    "growth of the ratio": lambda c: float(c.ratio[-1] / c.ratio[0]),
    "growth of top 1": lambda c: float(c.top1[-1] / c.top1[0]),
    "growth of the median": lambda c: float(c.median[-1] / c.median[0]),
    "step of half the rise": lambda c: sampled.half_rise_step(c.step, np.log(c.ratio)),
}
"""What is asked of a run, by name: each positive, and taken by its logarithm.

Ratios are the largest over the layers; top 1 and median are those of the layer that has it at the last step.

>>> import madyn
>>> data = madyn.open_dataset("tiny-suite")
>>> course = madyn.effects.course_of(data, data.models[0])
>>> madyn.effects.RESPONSES["growth of the ratio"](course) > 1
True
"""


def whole_family(dataset: Dataset) -> tuple[Dataset, dict[str, str]]:
    """The models that can be compared: those measured to the family's last step; and why each other one is left out.

    Raises:
        DatasetError: the family is measured at one step only.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> few = data.select(data.models[:18:3])
    >>> whole, left_out = madyn.effects.whole_family(few)
    >>> len(whole.models), left_out
    (6, {})
    """
    dataset = dataset.sound()
    last = {model: dataset.steps(model)[-1] for model in dataset}
    end = max(last.values())
    if end == 0:
        raise DatasetError(f"{dataset.path}: measured at one step only; what a run did needs two or more")
    left_out = {}
    for model, step in last.items():
        record = dataset.training(model)
        if step < end:
            reason = record.failure if record and record.failure else "measure or train it to the end"
            left_out[model] = f"measured to step {step} of {end}: {reason}"
    return dataset.select([model for model in dataset if model not in left_out]), left_out


def model_responses(dataset: str | Path | Dataset) -> pd.DataFrame:
    """The factors and responses of every model that is measured to the family's last step (see `whole_family`).

    Returns:
        a row a model: model, architecture (a number, the same for models that differ in their seed alone), the
        factors, the responses (nan where one cannot be said), held_out, the final held-out loss, and in what the model
        departs in wiring or recipe from the usual, with the model that it is paired with (departure and base, "" where
        there is none; see `find_departures`). `attrs` hold common_loss, at which models are compared at equal loss.

    Raises:
        DatasetError: an architecture or the statistics of a model are not there.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> few = data.select(data.models[:18:3])
    >>> list(madyn.effects.model_responses(few).columns[:3])
    ['model', 'architecture', 'width']
    """
    import pandas as pd

    dataset, _ = whole_family(open_dataset(dataset))
    courses = {model: course_of(dataset, model) for model in dataset}
    final = np.array([course.held_out[-1] for course in courses.values()])
    common = float(np.quantile(final, EQUAL_LOSS_REACHED)) if np.isfinite(final).all() else math.nan
    numbers: dict[str, int] = {}
    departing = find_departures(dataset)
    rows = []
    for model, course in courses.items():
        shape = dataset.architecture(model)
        factors = {name: float(of(shape)) for name, of in FACTORS.items()}
        responses = {name: of(replace(course, common_loss=common)) for name, of in RESPONSES.items()}
        number = numbers.setdefault(built_as(dataset, model), len(numbers))
        one = departing[model]
        rows.append(
            {"model": model, "architecture": number, **factors, **responses, "held_out": course.held_out[-1],
             "departure": one.label, "base": one.base}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    table.attrs["common_loss"] = common
    return table


def built_as(dataset: Dataset, model: str) -> str:
    """What tells architectures apart: the lab's blueprint and recipe, wiring and all, else what the config says.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> few = data.select(data.models[:18:3])
    >>> madyn.effects.built_as(data, data.models[0]) == madyn.effects.built_as(
    ...     data, data.models[1]
    ... )  # two seeds
    True
    """
    record = dataset.training(model)
    told = [record.plan.get(name) if record else None for name in ("blueprint", "recipe")]
    return str(told) + str(dataset.architecture(model).to_dict())


def course_of(dataset: Dataset, model: str) -> Course:
    """What a model did over its training; its common loss is not known. Raises DatasetError where that is one step.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> few = data.select(data.models[:18:3])
    >>> madyn.effects.course_of(data, data.models[0]).step[-1].item()
    3000.0
    """
    ratio, top1, median = (dataset.trajectories(model, quantity) for quantity in ("ratio", "top1", "median"))
    if ratio.sizes["step"] < 2:
        raise DatasetError(f"{dataset.path}: {model} is measured at one step; what a run did needs two or more")
    layer = int(np.argmax(ratio.isel(step=-1).values))
    record = dataset.training(model)
    losses = record.losses if record else {}
    held_out = [losses.get(int(step), {}).get("held_out") for step in ratio["step"].values]
    return Course(
        np.asarray(ratio["step"].values, float),
        ratio.max("layer").values,
        top1.isel(layer=layer).values,
        median.isel(layer=layer).values,
        np.array([math.nan if loss is None else loss for loss in held_out]),
    )
