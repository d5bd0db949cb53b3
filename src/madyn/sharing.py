"""What several checkpoints of a model hold in common that each should have of its own, and whose it is.

Training changes every weight at every step, so two steps that hold the same bytes are not both what their names say.
This is the one place where that is judged: of files and tensors before anything is measured, of statistics afterwards.

How it is judged. Every checkpoint is a set of named pieces (files, tensors, statistics up to a layer), each with a hash
of its content; `main` is the one that a repository's name alone stands for.

1. Checkpoints that agree in all their pieces are *duplicates*. One of each set of duplicates is then held against the
   others, and a piece that several of them hold is *shared in part*.
2. Some sharing is plausible, and no fault:
   - one step and `main`: main was made from that step;
   - the first steps, if each is one more than the one before, and the last two, if they differ by one: an update at a
     learning rate of zero, where a warm-up begins or a decay ends, changes nothing. Where all steps of the model differ
     by one they count epochs or the like, and a difference of one is more than an update. Other neighbours are at
     fault: a copy of the step before is what an upload that goes wrong leaves, too;
   - a piece that all the different steps hold, whatever `main` holds: it is no weight that is trained (a mask, a rotary
     table), or it is frozen. With only two different steps this cannot be told from a fault, and is no evidence either;
   - a tensor that neighbours hold, and nobody else: it seems to be frozen for a while, or is an expert that no token
     came to. It is said, since a neighbour's tensor looks the same. A whole file of many tensors is not believed to be
     frozen, unless three or more steps hold it from the first on, and the last step does not.
   Steps that are duplicates at fault do not stand between neighbours.
3. Otherwise at most one of the steps is what it says. It is taken to be
   - the step that the checkpoints themselves name (the Trainer's record), where exactly one agrees with its name;
   - else the model's last step, where `main` holds the same: two names that should agree do, and the final weights are
     what an upload that goes wrong leaves in the other branches;
   - else nobody: a file left over from an earlier step looks the same as one that was there too soon, and all of the
     steps are suspect. The last step alone is not believed without `main`, for this reason.
   Of three or more at the end it is said that the learning rate may have been zero, and they are at fault all the same:
   a long decay to nothing is rarer than the final weights under other names.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from itertools import pairwise

MAIN = None
"""The key of the checkpoint that has no step: the one that a repository's name alone stands for."""

Pieces = Mapping[str, Hashable]


@dataclass(frozen=True)
class Sharing:
    """Checkpoints that hold the same.

    Attributes:
        steps: those that do, ascending; `main` whether `main` does too.
        pieces: the names of what is the same, in order.
        whole: nothing else is in them: they are duplicates.
        owner: the step whose it is taken to be; None where that cannot be told, or no step is at fault.
        suspects: the steps that are not what they say, ascending; none where the sharing is plausible.
        ending: they are duplicates, and the model's last steps, with none between them.
    """

    steps: tuple[int, ...]
    main: bool
    pieces: tuple[str, ...]
    whole: bool
    owner: int | None
    suspects: tuple[int, ...]
    ending: bool = False


def find_sharings(
    held: Mapping[int | None, Pieces],
    *,
    steps: Iterable[int] = (),
    inside: Mapping[int, int] | None = None,
    weak: Set[str] = frozenset(),
    files: Set[str] = frozenset(),
) -> list[Sharing]:
    """All that checkpoints share: duplicates first, then what is shared in part.

    Args:
        held: the pieces of each checkpoint by its step, those of `main` under `MAIN`; one with none is passed over.
        steps: all the steps of the model, which need not be among them.
        inside: the step that a checkpoint says itself, where it does.
        weak: pieces that are no evidence by themselves, such as one that is constant.
        files: pieces that are whole files of weights.
    """
    order = tuple(sorted({*steps, *(key for key in held if key is not None)}))
    identities: dict[Hashable, list[int | None]] = {}
    for key, pieces in held.items():
        if pieces:
            identities.setdefault(frozenset(pieces.items()), []).append(key)
    groups = sorted(identities.values(), key=_first_step)
    found = [_judged(group, held[group[0]], True, order, inside or {}) for group in groups if len(group) > 1]
    blamed = {step for sharing in found for step in sharing.suspects}
    for together, names in _parts(groups, held, weak).items():
        keys = [key for number in together for key in groups[number]]
        sharing = _judged(keys, names, False, order, inside or {})
        having = [key for group in groups if set(names) & set(held[group[0]]) for key in group]
        if files.isdisjoint(names):
            frozen = _neighbours(set(keys) - blamed, set(having) - blamed)
        else:
            first = sorted({key for key in having if key is not None})[: len(sharing.steps)]
            frozen = len(together) >= 3 and list(sharing.steps) == first and order[-1] not in keys
        found.append(_plausible(sharing) if frozen else sharing)
    return found


def _parts(
    groups: list[list[int | None]], held: Mapping[int | None, Pieces], weak: Set[str]
) -> dict[tuple[int, ...], list[str]]:
    """The pieces that several groups hold and not all that have a step, by the numbers of those groups."""
    holders: dict[tuple[str, Hashable], list[int]] = {}
    having: dict[str, int] = {}
    stepped = {number for number, group in enumerate(groups) if group != [MAIN]}
    for number, group in enumerate(groups):
        for name, content in held[group[0]].items():
            if name not in weak:
                holders.setdefault((name, content), []).append(number)
                having[name] = having.get(name, 0) + (number in stepped)
    parts: dict[tuple[int, ...], list[str]] = {}
    for (name, _), numbers in holders.items():
        if len(numbers) > 1 and len(stepped.intersection(numbers)) < having[name]:
            parts.setdefault(tuple(numbers), []).append(name)
    return parts


def _judged(
    keys: Iterable[int | None], names: Iterable[str], whole: bool, order: tuple[int, ...], inside: Mapping[int, int]
) -> Sharing:
    keys = list(keys)
    steps = tuple(sorted(key for key in keys if key is not None))
    ending = whole and steps == order[len(order) - len(steps) :]
    sharing = Sharing(steps, MAIN in keys, tuple(names), whole, None, steps, ending)
    if len(steps) < 2 or _no_update(sharing, order):
        return _plausible(sharing)
    own = [step for step in steps if inside.get(step) == step]
    owner = own[0] if len(own) == 1 else order[-1] if sharing.main and order[-1] in steps else None
    return replace(sharing, owner=owner, suspects=tuple(step for step in steps if step != owner))


def _no_update(sharing: Sharing, order: tuple[int, ...]) -> bool:
    """Whether the steps lie where a learning rate may be zero, one update from each to the next."""
    steps = sharing.steps
    if not _dense(steps) or (_dense(order) and order != (0, 1)):
        return False
    return (steps == order[: len(steps)] and not sharing.main) or steps == order[-2:]


def _dense(steps: tuple[int, ...]) -> bool:
    return all(b - a == 1 for a, b in pairwise(steps))


def _neighbours(keys: Set[int | None], among: Set[int | None]) -> bool:
    """Whether no other of the steps lies between some, `main` aside."""
    steps = sorted(key for key in keys if key is not None)
    between = [key for key in among if key is not None and steps and steps[0] <= key <= steps[-1]]
    return len(between) == len(steps)


def _plausible(sharing: Sharing) -> Sharing:
    return replace(sharing, owner=None, suspects=())


def _first_step(group: list[int | None]) -> float:
    """Where a group stands among the others; `main` alone comes last."""
    return min((key for key in group if key is not None), default=float("inf"))


def list_steps(steps: Iterable[int]) -> str:
    """Steps for a sentence, all if they are few, else the ends: "step 5", "steps 1 and 2", "steps 1, ... (76)"."""
    steps = sorted(steps)
    if len(steps) == 1:
        return f"step {steps[0]}"
    if len(steps) > 8:
        return f"steps {', '.join(map(str, steps[:3]))}, ..., {', '.join(map(str, steps[-2:]))} ({len(steps)} of them)"
    return f"steps {', '.join(map(str, steps[:-1]))} and {steps[-1]}"
