"""What a change of wiring or recipe does: models that depart in it from the usual, each against the usual one of its
shape and seed.

The usual is what most of a family's models have, field by field. A family made to compare remedies varies one thing at
a time, with the same seeds, and so the same data in the same order: the differences between the pairs have little of
the chance that divides two models. A departure is a level of its own, whatever its nature, as is several things
at once where models depart in them together.

Intervals are Student's over the pairs of one shape, or, where there are several shapes, over their means; p-values
are corrected for how many departures are compared by the method of Holm (1979).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from madyn.architecture import FIELDS
from madyn.dataset import Dataset
from madyn.errors import UsageError, quoted
from madyn.typing import Array
from madyn.wirings import USUAL, in_words

if TYPE_CHECKING:
    import pandas as pd

_ALIKE = 0.02  # of parameters: models that differ by more are not of one size
_NO_CHOICES = ("match_parameters",)  # what of a blueprint says nothing of how a model works


@dataclass(frozen=True)
class Departure:
    """In what a model departs from the usual, in words (nothing: ""), the usual model that it is paired with, and the
    level of each field in which it departs."""

    label: str = ""
    base: str = ""
    levels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Known:
    """What the lab's record says of a model."""

    choices: Mapping[str, Any]
    shape: tuple[Any, ...]
    seed: Any
    parameters: int


def find_departures(dataset: Dataset, plain: str | None = None) -> dict[str, Departure]:
    """In what each model departs. Models of a departure of which no pair is there count as usual: nothing is known of
    what it does.

    Args:
        plain: a model whose levels are the usual ones; by default those that most models have.

    Raises:
        UsageError: there is no such model, or nothing says how it was trained.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> few = data.select(data.models[:18:3])
    >>> {
    ...     departure.label for departure in madyn.effects.find_departures(few).values()
    ... }  # all models are wired alike
    {''}
    """
    known = {model: _read(dataset, model) for model in dataset}
    if plain is None:
        usual = _usual([one for one in known.values() if one])
    else:
        one = known.get(plain)
        if one is None:
            raise UsageError(
                f"{dataset.path}: no model {quoted(plain)} with a training record is there to be the plain one"
            )
        names = dict.fromkeys(name for other in known.values() if other for name in other.choices)
        usual = {name: repr(one.choices.get(name)) for name in names}
    levels = {model: _levels(one, usual) if one else {} for model, one in known.items()}
    labels = {model: in_words(changed) for model, changed in levels.items()}
    bases = {model: _base(model, known, labels) for model, label in labels.items() if label}
    paired = {labels[model] for model, base in bases.items() if base}
    return {
        model: Departure(label, bases[model], levels[model]) if label in paired else Departure()
        for model, label in labels.items()
    }


def _read(dataset: Dataset, model: str) -> _Known | None:
    record = dataset.training(model)
    plan = record.plan if record else {}
    blueprint, recipe = plan.get("blueprint"), plan.get("recipe")
    if record is None or not isinstance(blueprint, dict) or not isinstance(recipe, dict) or "seed" not in plan:
        return None
    wiring = {name: value for name, value in blueprint.items() if name not in FIELDS and name not in _NO_CHOICES}
    shape = tuple(blueprint.get(name) for name in FIELDS if name != "intermediate_size")
    return _Known({**USUAL, **wiring, **recipe}, shape, plan["seed"], record.parameters)


def _usual(known: list[_Known]) -> dict[str, Any]:
    """The most common level of each choice; of a recipe's later entries nothing is said where they are usual."""
    names = list(dict.fromkeys(name for one in known for name in one.choices))
    counts = {name: Counter(repr(one.choices.get(name)) for one in known) for name in names}
    return {name: count.most_common(1)[0][0] for name, count in counts.items()}


def _levels(one: _Known, usual: Mapping[str, str]) -> dict[str, Any]:
    """What it has of each choice in which it departs."""
    return {name: one.choices.get(name) for name, level in usual.items() if repr(one.choices.get(name)) != level}


def _base(model: str, known: Mapping[str, _Known | None], labels: Mapping[str, str]) -> str:
    mine = known[model]
    assert mine is not None, "it has a label"
    for other, one in known.items():
        if (
            one
            and not labels[other]
            and (one.shape, one.seed) == (mine.shape, mine.seed)
            and abs(one.parameters / mine.parameters - 1) <= _ALIKE
        ):
            return other
    return ""


def departure_effects(table: pd.DataFrame, response: str, level: float = 0.95) -> pd.DataFrame:
    """What a response is multiplied by in models that depart, against those they are paired with.

    Args:
        table: a row a model, as `model_responses` gives it; pairs without the response are left out.

    Returns:
        a row a departure: times, lower, upper, p, of the hypothesis that it is 1, corrected (p for how many are
        compared), pairs, spread (see `effects_of_pairs`). Intervals and p are nan for a single pair.

    >>> import madyn
    >>> data = madyn.open_dataset("tiny-suite")
    >>> few = data.select(data.models[:18:3])
    >>> responses = madyn.effects.model_responses(few)
    >>> len(madyn.effects.departure_effects(responses, "final ratio"))  # no model departs in wiring
    0
    """
    own = table.set_index("model")
    paired = own[own["base"] != ""]
    bases = own.loc[list(paired["base"])]
    with np.errstate(invalid="ignore", divide="ignore"):
        change = np.log2(np.asarray(paired[response], float) / np.asarray(bases[response], float))
    return effects_of_pairs(list(paired["departure"]), change, np.asarray(bases["architecture"]), level)


def effects_of_pairs(departure: Sequence[str], change: Array, shapes: np.ndarray, level: float = 0.95) -> pd.DataFrame:
    """As `departure_effects`, from n pairs.

    Args:
        departure: in what each pair differs, n words.
        change: (n,) base-2 logarithms of what a response is multiplied by; pairs where it is not finite are left out.
        shapes: (n,) what is the same for pairs of one shape.

    Returns:
        the same, with `spread`, the standard deviation of the logarithms (of the shapes' means where there are several;
        nan for one).

    >>> import numpy as np
    >>> pairs = effects_of_pairs(["sink", "sink"], np.array([-1.0, -1.2]), np.array(["a", "a"]))
    >>> pairs[["times", "pairs"]].round(2).values.tolist()
    [[0.47, 2.0]]
    """
    import pandas as pd
    from scipy.stats import t

    rows = []
    for label in dict.fromkeys(departure):
        mine = np.array([one == label for one in departure]) & np.isfinite(change)
        if not mine.any():
            continue
        units = _units(change[mine], shapes[mine])
        mean, n = float(units.mean()), len(units)
        spread = float(units.std(ddof=1)) if n > 1 else math.nan
        error = spread / math.sqrt(n)
        half = float(t.ppf((1 + level) / 2, n - 1)) * error if n > 1 else math.nan
        p = math.nan if n < 2 else float(2 * t.sf(abs(mean) / error, n - 1)) if error > 0 else float(mean == 0)
        rows.append([label, 2**mean, 2 ** (mean - half), 2 ** (mean + half), p, int(mine.sum()), spread])
    columns = ["departure", "times", "lower", "upper", "p", "pairs", "spread"]
    frame = pd.DataFrame(rows, columns=columns).set_index("departure")
    frame.insert(4, "corrected", holm(frame["p"].to_numpy(float)))
    return frame


def _units(change: Array, shapes: np.ndarray) -> Array:
    """What chance is told from: the pairs of one shape, or the mean of each of several."""
    distinct = np.unique(shapes)
    return change if len(distinct) == 1 else np.array([change[shapes == one].mean() for one in distinct])


def holm(p: Array) -> Array:
    """p-values corrected for how many there are, so that the chance of any false one is kept: Holm 1979.

    >>> holm(np.array([0.01, 0.04, np.nan, 0.02])).tolist()
    [0.03, 0.04, nan, 0.04]
    """
    found = np.full(len(p), np.nan)
    order = [i for i in np.argsort(p) if np.isfinite(p[i])]
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p[i] * (len(order) - rank)))
        found[i] = largest
    return found
