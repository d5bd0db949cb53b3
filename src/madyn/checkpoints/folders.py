"""A run's folder: which of the folders in it are checkpoints, at which steps, and what the rest is.

The Trainer leaves `checkpoint-N/` in a run's folder, and often the final model in that folder itself; other names say
no step, and the files inside may record it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from madyn.checkpoints.adapters import CONFIG as ADAPTER_CONFIG
from madyn.checkpoints.adapters import refuse_adapter
from madyn.checkpoints.fingerprints import sample_files, step_inside, trainer_step
from madyn.checkpoints.naming import NO_MATCH, LeftOut, Named, read_names, step_of
from madyn.checkpoints.weights import local_weight_files, weight_files
from madyn.errors import CheckpointError
from madyn.paths import describe_missing, exists

ITSELF = "."
"""The name of a run's folder among those in it."""

FINAL = (
    "of the final model, whose step neither trainer_state.json nor its config says (move it into a folder called "
    "checkpoint-N)"
)


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a model, or an adapter, which is a checkpoint too even if it cannot be measured alone."""
    return exists(folder / "config.json") or exists(folder / ADAPTER_CONFIG)


def refuse_adapter_folder(folder: Path) -> None:
    """Raise CheckpointError where a folder holds an adapter and no whole model."""
    names = [name for name in ("config.json", ADAPTER_CONFIG) if exists(folder / name)]
    refuse_adapter(str(folder), names, lambda: folder / ADAPTER_CONFIG)


def names_in(folder: Path, pattern: re.Pattern[str] | None) -> Named:
    """What the folders in a run's folder are, and the model that may lie beside them, under the name `ITSELF`.

    A folder whose name does not say its step is asked for what its own files record; a step that a name says counts
    more. Of several that record one step and hold the same weights the first is taken, and none if they differ.
    """
    folders = sorted(p for p in folder.iterdir() if p.is_dir())
    complete = [p.name for p in folders if is_checkpoint(p)]
    named = read_names(complete, str(folder), pattern, {name: str((folder / name).resolve()) for name in complete})
    cut_short = [p.name for p in folders if p.name not in complete and step_of(p.name) is not None]
    left_out = [LeftOut(name, _why_none(folder / name)) for name in cut_short]
    asked = dict.fromkeys([one.name for one in named.left_out if pattern is None and step_of(one.name) is None])
    left_out += [one for one in named.left_out if one.name not in asked]
    if complete and is_checkpoint(folder) and _has_weights(folder):
        if pattern is None:
            asked[ITSELF] = None
        else:
            left_out.append(LeftOut(_shown(folder, ITSELF), NO_MATCH))
    recorded: dict[int, list[str]] = defaultdict(list)
    for name in asked:
        step, reason = _recorded(folder / name)
        by_name = [] if step is None else _names_at(named, step)
        known = [] if step is None else [*recorded.get(step, []), *by_name]
        twin = next((n for n in known if (folder / n).resolve() == (folder / name).resolve()), None)
        if step is None:
            own = FINAL if name == ITSELF else next(one.reason for one in named.left_out if one.name == name)
            left_out.append(LeftOut(_shown(folder, name), reason or own))
        elif twin is not None:
            left_out.append(LeftOut(name, f"for what is also called {twin}"))
        elif by_name:
            left_out.append(LeftOut(_shown(folder, name), f"whose step, {step}, is that of {' and '.join(by_name)}"))
        else:
            recorded[step].append(name)
    by_step = dict(named.by_step)
    for step, names in recorded.items():
        if len(names) == 1 or _hold_the_same([folder / name for name in names]):
            by_step[step] = names[0]
            again = f"that hold the weights of {_shown(folder, names[0])}"
            left_out += [LeftOut(_shown(folder, name), again) for name in names[1:]]
        else:
            unclear = f"that record one step, {step}, with different weights (call the one meant checkpoint-{step})"
            left_out += [LeftOut(_shown(folder, name), unclear) for name in names]
    return Named(dict(sorted(by_step.items())), left_out, named.collisions)


def _why_none(folder: Path) -> str:
    reason = describe_missing(folder / "config.json")
    return f"whose config.json {reason}" if reason.startswith("cannot be read") else "with no config.json in it"


def recorded_step(folder: Path) -> int | None:
    """The training step that the files of a checkpoint's folder record: the Trainer's state, else the config.

    Raises:
        CheckpointError: there is a Trainer's state, and it says none.
    """
    step = trainer_step(folder)
    if step is not None:
        return step
    found = step_inside(folder)
    return None if found is None else found[0]


def step_of_folder(folder: Path) -> int | None:
    """The training step of one folder: as its files record it, else from its name."""
    recorded = recorded_step(folder)
    return step_of(folder.resolve().name) if recorded is None else recorded


def _names_at(named: Named, step: int) -> list[str]:
    """The folders that are at a step by their names."""
    return [named.by_step[step]] if step in named.by_step else [*named.collisions.by_step.get(step, ())]


def _hold_the_same(folders: list[Path]) -> bool:
    """Whether checkpoints at one step have the same weights, judged by blocks of every tensor."""
    try:
        held = [sample_files(folder / name for name in local_weight_files(folder, "auto")) for folder in folders]
    except (CheckpointError, OSError):
        return False
    first, *others = [{name: piece.sample for name, piece in pieces.items()} for pieces in held]
    return all(other == first for other in others)


def _recorded(folder: Path) -> tuple[int | None, str]:
    """The step that a folder records; or none, and why it cannot be read."""
    try:
        return recorded_step(folder), ""
    except CheckpointError as e:
        return None, f"whose step cannot be read ({e})"


def _has_weights(folder: Path) -> bool:
    try:
        return (folder / ADAPTER_CONFIG).exists() or bool(weight_files(p.name for p in folder.iterdir()))
    except CheckpointError:  # there are, and which of them cannot be told
        return True


def _shown(folder: Path, name: str) -> str:
    return folder.resolve().name if name == ITSELF else name
