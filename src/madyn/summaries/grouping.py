"""Many lines that say one thing of many models, as one line with a count.

A dataset of hundreds of models has hundreds of everything that is absent. What is said of each is the same but for the
names of model, step and layer; those are put in general terms, and lines that are then equal are told once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from madyn.sharing import list_steps
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

    What differs among the lines of a group are the model, the step of the unit that a line is of (which its path, the
    part before the first colon, names) and the layer; what they have in common stands as it is. Any other step in a
    line is what it says.

    >>> grouped(["d/a_1/stats/exp2_a_1_step7: bad", "d/b/stats/exp2_b_step10: bad"], Path("d"), ["a_1", "b"])[0][0]
    'd/MODEL/stats/exp2_MODEL_stepN: steps 7 and 10: bad'
    """
    names = sorted(map(re.escape, models), key=len, reverse=True)
    # A model's name and not a part of another word; in a file's name it stands between underscores.
    model = re.compile(rf"(?<![A-Za-z0-9.])({'|'.join(names)})(?![A-Za-z0-9.])") if names else None
    found: dict[str, list[_Line]] = {}
    for line in lines:
        one = _generalised(line, root, model)
        found.setdefault(one.said, []).append(one)
    return [(_filled(said, members, root), [one.line for one in members]) for said, members in found.items()]


_ROOT, _MODEL, _STEP, _OF_STEP, _LAYER = "\0root\0", "\0model\0", "\0step\0", "\0of step\0", "\0layer\0"


@dataclass(frozen=True)
class _Line:
    """A line, what it says with marks in place of its names, and those names."""

    line: str
    said: str
    models: tuple[str, ...]
    step: int | None
    layer: str | None


def _generalised(line: str, root: Path, model: re.Pattern[str] | None) -> _Line:
    said = line.replace(f"{root}/", _ROOT)
    models = tuple(dict.fromkeys(model.findall(said))) if model else ()
    said = model.sub(_MODEL, said) if model else said
    place, colon, text = said.partition(": ")
    steps = re.findall(r"step ?(\d+)", place)
    step = int(steps[-1]) if steps else None
    if step is not None:
        place = re.sub(rf"step( ?){step}(?!\d)", lambda m: _OF_STEP if m[1] else f"step{_STEP}", place)
        text = re.sub(rf"step {step}(?!\d)", _OF_STEP, text, count=1)
        text = re.sub(rf"(?<=[_/])step{step}(?!\d)", f"step{_STEP}", text)  # a path that is named again
    said = place + colon + text
    layer = re.search(r"layer (\d+)", said)
    if layer:
        said = said.replace(layer[0], f"layer {_LAYER}", 1)
    return _Line(line, said, models, step, layer[1] if layer else None)


def _filled(said: str, members: Sequence[_Line], root: Path) -> str:
    """What a group says, with what all its lines name, and general terms for what they do not."""
    models, layers = {one.models for one in members}, {one.layer for one in members}
    steps = {one.step for one in members if one.step is not None}
    if len(models) == len(layers) == 1 and len(steps) < 2:
        return members[0].line
    if len(steps) > 1 and _OF_STEP not in said:
        said = said.replace(": ", f": {_OF_STEP}: ", 1)
    one_model = models.pop() if len(models) == 1 else ()
    terms = {
        _ROOT: f"{root}/",
        _MODEL: one_model[0] if len(one_model) == 1 else "MODEL",
        _STEP: str(min(steps)) if len(steps) == 1 else "N",
        _OF_STEP: list_steps(steps) if steps else "",
        _LAYER: layers.pop() or "N" if len(layers) == 1 else "N",
    }
    for mark, term in terms.items():
        said = said.replace(mark, term)
    return said
