"""What the predictor is told of a layer: the shape of its model, how that is trained, and where in it the layer stands.

Sizes go in by their logarithm to base 2, since what doubling a size does is what a suite can show. Only what varies
between the models of a dataset is learned from; what all have in common is remembered, so that a request that departs
from it can be told. The features of a shape are those of the table in `architecture`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Gt
from numpy.typing import ArrayLike
from typing_extensions import TypedDict

from madyn.architecture import FEATURES, FIELDS, REQUIRED, SEARCHED, Architecture, solved, stand_in
from madyn.arrays import read_row
from madyn.dataset.schema import Positive, Step, hold_as
from madyn.errors import ArchitectureError, DatasetError, UsageError, one_line, quoted
from madyn.typing import Array
from madyn.wirings import LEVELS, USUAL, Wiring

if TYPE_CHECKING:
    from madyn.dataset import Dataset


@dataclass(frozen=True)
class Training:
    """How a model is trained, as far as a predictor is told.

    Attributes:
        steps: updates of the whole run.
        learning_rate: its peak; None where it is not known.
        tokens_per_step: of a batch; None where it is not known.

    Raises:
        UsageError: a number is not positive.

    >>> import madyn
    >>> madyn.prediction.Training(steps=3000, learning_rate=0.01).tokens_per_step is None
    True
    """

    steps: int
    learning_rate: float | None = None
    tokens_per_step: int | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is None and f.name != "steps":
                continue
            if not isinstance(value, (int, float)) or value is True or not 0 < value <= sys.float_info.max:
                raise UsageError(f"{f.name} is {one_line(f'{value!r:.80}')}; it is a positive number")


class Subject(NamedTuple):
    """What a prediction is about: a model's shape, how it is trained, and how its layers are wired."""

    architecture: Architecture
    training: Training
    wiring: Wiring = Wiring()


def _log2(value: float | None) -> float:
    return math.nan if not value else math.log2(value)


SHAPE: Mapping[str, Callable[[Subject], float]] = {
    one.words: lambda s, told=one.input_of: told(s.architecture) for one in FEATURES.values() if one.scale
}
"""What a feature of the shape is, by name; sizes by their logarithm to base 2."""

WIRING: Mapping[str, Callable[[Subject], float]] = {
    f"{name} {level}": lambda s, name=name, level=level: float(getattr(s.wiring, name) == level)
    for name, levels in LEVELS.items()
    for level in levels
    if level != USUAL[name]
}
"""Whether a model has a level of a wiring, 1 or 0, by name; all that is not usual is a feature by itself."""

BUILT: Mapping[str, Callable[[Subject], float]] = {**SHAPE, **WIRING}
"""What tells architectures apart."""

TRAINING: Mapping[str, Callable[[Subject], float]] = {
    "training steps": lambda s: _log2(s.training.steps),
    "learning rate": lambda s: _log2(s.training.learning_rate),
    "tokens a step": lambda s: _log2(s.training.tokens_per_step),
}
"""What a feature of the training is, by name; all by their logarithm to base 2."""

OF_MODEL: Mapping[str, Callable[[Subject], float]] = {**BUILT, **TRAINING}

DEPTH = "depth"
"""The layer's relative depth l/(L-1): 0 is the first layer, 1 the last; 0 where there is one layer only."""

LINEAR = (*(one.words for one in FEATURES.values() if one.scale == "itself"), *WIRING, DEPTH)
"""The features that stand for themselves; all others are logarithms to base 2."""


def of_model(subject: Subject) -> dict[str, float]:
    """The features of a model, nan where one is not known."""
    return {name: feature(subject) for name, feature in OF_MODEL.items()}


def depths(layers: int) -> Array:
    """The relative depth of each of so many layers, shape (layers,)."""
    return np.arange(layers) / max(1, layers - 1)


def training_of(dataset: Dataset, model: str) -> Training:
    """How a model was trained: from its record where the lab trained it, else the last step that was measured.

    Raises:
        UsageError: the record's numbers cannot be those of a training.
    """
    record = dataset.training(model)
    recipe = record.plan.get("recipe") if record else None
    if not recipe:
        return Training(steps=max(1, max(dataset.steps(model), default=1)))
    try:
        hold_as(recipe, _Recipe, "recipe")
    except DatasetError as e:
        raise UsageError(f"its training record is not one of the lab's: {e}") from e
    return Training(
        steps=recipe["steps"],
        learning_rate=float(recipe["learning_rate"]),
        tokens_per_step=recipe["batch_size"] * recipe["length"],
    )


def untold_of(dataset: Dataset, model: str) -> dict[str, Any] | None:
    """What a model's record says of its recipe that `Training` has no place for; None where there is no recipe."""
    record = dataset.training(model)
    recipe = record.plan.get("recipe") if record else None
    return {name: value for name, value in recipe.items() if name not in _TOLD} if isinstance(recipe, dict) else None


def wiring_of(dataset: Dataset, model: str) -> Wiring:
    """How a model's layers are wired, from its record where the lab built it; what is not known is usual.

    Raises:
        UsageError: the record names no wiring that there is.
    """
    record = dataset.training(model)
    plan = record.plan.get("blueprint") if record else None
    return as_wiring({name: plan[name] for name in LEVELS if name in plan} if isinstance(plan, dict) else {})


def as_wiring(levels: Mapping[str, Any]) -> Wiring:
    """A wiring from the levels that are not usual. Raises UsageError for what is no field or level."""
    for name, level in levels.items():
        if name not in LEVELS or level not in LEVELS[name]:
            known = "; ".join(f"{field}: {', '.join(own)}" for field, own in LEVELS.items())
            raise UsageError(f"{quoted(name)} = {quoted(level)} is no wiring; those that there are: {known}")
    return Wiring(**levels)


class _Recipe(TypedDict):
    """What is read of a lab's recipe."""

    steps: Annotated[Step, Gt(0)]
    learning_rate: Positive
    batch_size: Annotated[Step, Gt(0)]
    length: Annotated[Step, Gt(0)]


_TOLD = tuple(_Recipe.__annotations__)
"""What `Training` is made from; a sequence's length is the shape's context, too."""


def as_steps(steps: ArrayLike) -> Array:
    """Training steps as an array, (S,). Raises UsageError for anything but numbers from 0 upward."""
    t = read_row(steps, "steps")
    if not t.size or not np.isfinite(t).all() or (t < 0).any():
        raise UsageError(f"steps are a list of numbers from 0 upward, not {steps!r:.80}")
    return t


def in_words(feature: str, value: float) -> str:
    """A feature's value as a person writes it: 64 for a hidden size of log2 6."""
    return f"{value:.3g}" if feature in LINEAR else f"{2**value:.5g}"


def complete(values: Mapping[str, Any], family: Iterable[Architecture]) -> Architecture:
    """An architecture from the fields that are given and, for the others, what all of a family have in common.

    Args:
        values: fields by name, or what stands in for one, as `mlp_ratio` does for `intermediate_size`.
        family: the architectures of the models that are learned from.

    Raises:
        ArchitectureError: a field is missing in which the family differs (it says which, what the family has, and gives
            one of its architectures to start from), a name is unknown, or no such model can be built.
    """
    family = list(family)
    given = {name: value for name, value in values.items() if value is not None}
    missing = []
    for name in _ASKED:
        one = stand_in(name) or FIELDS[name]
        if name in given or one.name in given:
            continue
        common = {one.of(a) for a in family}
        if len(common) == 1 and name not in REQUIRED:
            given[one.name] = common.pop()
        else:
            missing.append((one.name, common))
    if missing:
        example = min(family, key=lambda a: abs(a.num_parameters - np.median([b.num_parameters for b in family])))
        shown = {name: getattr(example, name) for name in _EXAMPLE}
        had = "; ".join(f"{name} {', '.join(_word(v) for v in sorted(vs, key=_word_order))}" for name, vs in missing)
        raise ArchitectureError(
            f"an architecture needs {', '.join(_with_option(name) for name, _ in missing)}; the models of this dataset "
            f"have {had}; one of them is {json.dumps(shown)}"
        )
    architecture = Architecture.from_dict(solved(given))
    check_possible(architecture)
    return architecture


_ASKED = sorted(FIELDS, key=lambda name: stand_in(name) is not None)  # what follows from others comes last
_EXAMPLE = [name for name in _ASKED if name in REQUIRED or stand_in(name)]


def _with_option(name: str) -> str:
    """A field, and the option of the command line that gives it."""
    return f"{name} ({SEARCHED[name].option})" if name in SEARCHED else name


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def _word_order(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, (int, float))
    return (not number, float(value) if number else 0.0, str(value))


def check_possible(architecture: Architecture) -> None:
    """Raises ArchitectureError where the width cannot be shared among the heads."""
    width, heads = architecture.hidden_size, architecture.num_attention_heads
    if width % heads:
        near = sorted(sorted(divisors(width), key=lambda h: abs(h - heads))[:2])
        raise ArchitectureError(
            f"no model has hidden_size {width} and {heads} heads: the width is shared evenly among the heads; "
            f"{' or '.join(str(h) for h in near)} heads would do"
        )


def divisors(width: int) -> list[int]:
    """All whole numbers that divide a width, ascending."""
    small = [n for n in range(1, math.isqrt(width) + 1) if width % n == 0]
    return sorted({*small, *(width // n for n in small)})


def as_record(subject: Subject) -> dict[str, Any]:
    wiring = {name: level for name, level in asdict(subject.wiring).items() if level != USUAL[name]}
    said = {"wiring": wiring} if wiring else {}
    return {"architecture": subject.architecture.to_dict(), "training": asdict(subject.training), **said}


def from_record(record: Mapping[str, Any]) -> Subject:
    architecture = Architecture.from_dict(record["architecture"])
    return Subject(architecture, Training(**record["training"]), as_wiring(record.get("wiring", {})))
