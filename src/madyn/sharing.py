"""What several checkpoints of a model hold in common that each should have of its own, and whose it is.

Training changes every weight at every step, so two steps that hold the same bytes are not both what their names say.
This is the one place where that is judged: of files and tensors before anything is measured, of statistics afterwards.

How it is judged. Every checkpoint is a set of named pieces (files, tensors, statistics up to a layer), each with a hash
of its content; `main` is the one that a repository's name alone stands for.

1. Checkpoints that agree in all their pieces are *duplicates*. One of each set of duplicates is then held against the
   others, and a piece that several of them hold is *shared in part*.
2. Some sharing is plausible, and no fault:
   - one step and `main`: main was made from that step;
   - two steps that follow each other by one (0 and 1, or the last two): an update at a learning rate of zero, where a
     warm-up begins or a decay ends, changes nothing;
   - a piece that all the different checkpoints hold: it is no weight that is trained (a mask, a rotary table), or it
     is frozen. With only two different checkpoints this cannot be told from a fault, and is no evidence either;
   - a piece that three or more neighbours hold, from the first step on, and the last step does not: it seems to be
     frozen at first, which is said, since a file left over from the first step looks the same.
3. Otherwise at most one of the steps is what it says. It is taken to be
   - the step that the checkpoints themselves name (the Trainer's record), where exactly one agrees with its name;
   - else the model's last step, where `main` holds the same: two names that should agree do, and the final weights are
     what an upload that goes wrong leaves in the other branches;
   - else nobody: a file left over from an earlier step looks the same as one that was there too soon, and all of the
     steps are suspect. The last step alone is not believed without `main`, for this reason.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Set
from dataclasses import dataclass

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
    """

    steps: tuple[int, ...]
    main: bool
    pieces: tuple[str, ...]
    whole: bool
    owner: int | None
    suspects: tuple[int, ...]


def find_sharings(
    held: Mapping[int | None, Pieces],
    *,
    last: int | None = None,
    inside: Mapping[int, int] | None = None,
    weak: Set[str] = frozenset(),
) -> list[Sharing]:
    """All that checkpoints share: duplicates first, then what is shared in part.

    Args:
        held: the pieces of each checkpoint by its step, those of `main` under `MAIN`; one with none is passed over.
        last: the model's last step, which need not be among them.
        inside: the step that a checkpoint says itself, where it does.
        weak: pieces that are no evidence by themselves, such as one that is constant.
    """
    identities: dict[Hashable, list[int | None]] = {}
    for key, pieces in held.items():
        if pieces:
            identities.setdefault(frozenset(pieces.items()), []).append(key)
    groups = sorted(identities.values(), key=_first_step)
    found = [_judged(group, held[group[0]], True, last, inside or {}) for group in groups if len(group) > 1]
    for together, names in _parts(groups, held, weak).items():
        keys = [key for number in together for key in groups[number]]
        having = [number for number, group in enumerate(groups) if set(names) & set(held[group[0]])]
        sharing = _judged(keys, names, False, last, inside or {})
        frozen = len(together) >= 3 and list(together) == having[: len(together)] and last not in keys
        found.append(_plausible(sharing) if frozen else sharing)
    return found


def _parts(
    groups: list[list[int | None]], held: Mapping[int | None, Pieces], weak: Set[str]
) -> dict[tuple[int, ...], list[str]]:
    """The pieces that several groups hold and not all, by the numbers of those groups."""
    holders: dict[tuple[str, Hashable], list[int]] = {}
    having: dict[str, int] = {}
    for number, group in enumerate(groups):
        for name, content in held[group[0]].items():
            if name not in weak:
                holders.setdefault((name, content), []).append(number)
                having[name] = having.get(name, 0) + 1
    parts: dict[tuple[int, ...], list[str]] = {}
    for (name, _), numbers in holders.items():
        if 1 < len(numbers) < having[name]:
            parts.setdefault(tuple(numbers), []).append(name)
    return parts


def _judged(
    keys: Iterable[int | None], names: Iterable[str], whole: bool, last: int | None, inside: Mapping[int, int]
) -> Sharing:
    keys = list(keys)
    steps = tuple(sorted(key for key in keys if key is not None))
    sharing = Sharing(steps, MAIN in keys, tuple(names), whole, None, steps)
    following = len(steps) == 2 and steps[1] == steps[0] + 1
    if len(steps) < 2 or (following and (not sharing.main or steps[1] == last)):
        return _plausible(sharing)
    own = [step for step in steps if inside.get(step) == step]
    owner = own[0] if len(own) == 1 else last if sharing.main and last in steps else None
    return Sharing(steps, sharing.main, sharing.pieces, whole, owner, tuple(step for step in steps if step != owner))


def _plausible(sharing: Sharing) -> Sharing:
    return Sharing(sharing.steps, sharing.main, sharing.pieces, sharing.whole, None, ())


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
