"""At which steps a run is measured.

Massive activations grow fast at first and slowly later, so that powers of two catch the growth at hardly any cost, and
a regular step catches what happens after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from madyn.dataset.layout import check_step
from madyn.errors import UsageError, listed, quoted

_FORMS = (
    '"log2+1000" (0 and the powers of two, then every 1000), "log2", a number N for every N steps, or a list of steps'
)


@dataclass(frozen=True)
class Schedule:
    """The steps at which a run is measured.

    Attributes:
        text: as it was asked for, for a reader.
        powers: step 0 and the powers of two are measured: all of them, or those below `every` where that is given.
        every: every so many steps; 0 for none.
        steps: these steps besides.
    """

    text: str
    powers: bool = False
    every: int = 0
    steps: frozenset[int] = frozenset()

    def is_due(self, step: int) -> bool:
        """Whether a step is measured.

        >>> [step for step in range(26) if read_schedule("log2+8").is_due(step)]
        [0, 1, 2, 4, 8, 16, 24]
        """
        if step in self.steps or (self.every and step % self.every == 0):
            return True
        return self.powers and step & (step - 1) == 0 and (not self.every or step < self.every)

    def following(self, step: int) -> int | None:
        """The next step that is measured; None where none is.

        >>> read_schedule("log2+8").following(4), read_schedule([3, 5]).following(5)
        (8, None)
        """
        later = [other for other in self.steps if other > step]
        if self.every:
            later.append((step // self.every + 1) * self.every)
        power = 1 << step.bit_length()
        if self.powers and (not self.every or power < self.every):
            later.append(power)
        return min(later, default=None)


def read_schedule(given: Any) -> Schedule:
    """A schedule from text, a number or a list of steps.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(given, str):
        words = re.fullmatch(r"(log2)(?:\+0*([1-9]\d{0,14}))?|0*([1-9]\d{0,14})", re.sub(r"\s", "", given))
        if words:
            if words[3]:
                return _regular(int(words[3]))
            return Schedule(given.strip(), powers=True, every=int(words[2] or 0))
        if re.fullmatch(r"\s*\d{1,15}(\s*,\s*\d{1,15})+\s*,?\s*", given):
            return _listed([int(step) for step in given.split(",") if step.strip()])
        raise UsageError(f"every is {quoted(given)}; it is {_FORMS}")
    if isinstance(given, Iterable):
        return _listed([check_step(step) for step in listed("every", given)])
    number = check_step(given)
    if number == 0:
        raise UsageError(f"every is 0; it is {_FORMS}")
    return _regular(number)


def _regular(number: int) -> Schedule:
    return Schedule(f"every {number} steps" if number > 1 else "every step", every=number)


def _listed(steps: list[int]) -> Schedule:
    if not steps:
        raise UsageError(f"every is an empty list; it is {_FORMS}")
    ordered = sorted(set(steps))
    shown = ", ".join(map(str, ordered[:8])) + (", ..." if len(ordered) > 8 else "")
    return Schedule(f"{len(ordered)} steps: {shown}", steps=frozenset(ordered))
