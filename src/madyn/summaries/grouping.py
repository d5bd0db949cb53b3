"""Many lines that say one thing of many models, as one line with a count.

A dataset of hundreds of models has hundreds of everything that is absent. What is said of each is the same but for the
names of model, step and quantity; those are put in general terms, and lines that are then equal are told once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from madyn.terminal import console, is_verbose


def print_grouped(label: str, lines: Iterable[str], root: Path, models: Iterable[str], most: int = 10) -> None:
    """Print lines by what they say, `label` before each; every single one where all details were asked for."""
    lines = list(lines)
    if is_verbose():
        for line in lines:
            console.print(f"{label}{line}")
        return
    groups = grouped(lines, root, models)
    for said, members in groups[:most]:
        console.print(f"{label}{members[0] if len(members) == 1 else f'{said} ({len(members)} such)'}")
    if len(groups) > most:
        left = sum(len(members) for _, members in groups[most:])
        console.print(f"{label}... and {left:,} more; -v shows all")


def grouped(lines: Iterable[str], root: Path, models: Iterable[str]) -> list[tuple[str, list[str]]]:
    """What lines say in general terms, each with the lines that say it, in their order.

    >>> grouped(["d/a_1/stats/exp2_a_1_step7: bad", "d/b/stats/exp2_b_step10: bad"], Path("d"), ["a_1", "b"])
    [('MODEL/stats/exp2_MODEL_stepN: bad', ['d/a_1/stats/exp2_a_1_step7: bad', 'd/b/stats/exp2_b_step10: bad'])]
    """
    names = sorted(map(re.escape, models), key=len, reverse=True)
    # A model's name and not a part of another word; in a file's name it stands between underscores.
    model = re.compile(rf"(?<![A-Za-z0-9.])({'|'.join(names)})(?![A-Za-z0-9.])") if names else None
    found: dict[str, list[str]] = {}
    for line in lines:
        said = line.replace(f"{root}/", "")
        said = model.sub("MODEL", said) if model else said
        said = re.sub(r"step ?\d+", lambda m: "step N" if " " in m[0] else "stepN", said)
        said = re.sub(r"layer \d+", "layer N", said)
        found.setdefault(said, []).append(line)
    return list(found.items())
