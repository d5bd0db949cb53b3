"""The wirings that the models of a family have: whole combinations of levels, since of those that were never trained
nothing is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields

from madyn.architecture import Architecture
from madyn.errors import UsageError
from madyn.prediction.predictor import Predictor
from madyn.wirings import Wiring, departing, in_words


def wired(predictor: Predictor) -> dict[Wiring, list[Architecture]]:
    """The shapes of the trained models by their wiring, the usual one first."""
    found: dict[Wiring, list[Architecture]] = {predictor.wiring: []}
    for subject in predictor.state.table.subjects.values():
        found.setdefault(subject.wiring, []).append(subject.architecture)
    return found


def label(wiring: Wiring, usual: Wiring) -> str:
    """A wiring in words: in what it departs from the usual one, or "usual"."""
    return in_words(departing(wiring, usual)) or "usual"


def chosen_of(
    families: Mapping[Wiring, Sequence[Architecture]], wanted: Mapping[str, str]
) -> dict[Wiring, Sequence[Architecture]]:
    """Those of some wirings that have the levels that are wanted.

    Raises:
        UsageError: none has; it says what there is.
    """
    for name, level in wanted.items():
        levels = list(dict.fromkeys(getattr(wiring, name) for wiring in families))
        if level not in levels:
            raise UsageError(f"no trained model has {name} {level}; the trained models have {_trained(families, name)}")
    chosen = {w: own for w, own in families.items() if all(getattr(w, name) == level for name, level in wanted.items())}
    if not chosen:
        usual = next(iter(families))
        trained = "; ".join(label(wiring, usual) for wiring in families)
        raise UsageError(f"no trained model has {in_words(wanted)} together; the wirings that were trained: {trained}")
    return chosen


def _trained(families: Iterable[Wiring], name: str) -> str:
    """The levels of a field, and of each other one that varies."""
    families = list(families)
    levels = {f.name: list(dict.fromkeys(getattr(wiring, f.name) for wiring in families)) for f in fields(Wiring)}
    return "; ".join(
        f"{field} {', '.join(own)}"
        for field, own in sorted(levels.items(), key=lambda one: one[0] != name)
        if field == name or len(own) > 1
    )
