"""What a sweep is going to do: which checkpoints of which models, what is there already, and whose share it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from madyn.checkpoints import Checkpoint, Checkpoints, find_checkpoints
from madyn.checkpoints.naming import describe_left_out
from madyn.dataset import layout, manifest
from madyn.errors import UsageError
from madyn.settings import Settings
from madyn.sharing import list_steps
from madyn.suites import PYTHIA
from madyn.sweep.sources import refuse_other_source
from madyn.terminal import note

Steps = str | int | Iterable[int] | None


@dataclass(frozen=True)
class ModelPlan:
    """What is to be done for one model.

    Attributes:
        model: its directory in the dataset; `source` is what the user called it.
        wanted: all checkpoints asked for; `todo` those still to measure; `done` the steps that are there.
        known: what the manifest says of the model so far.
        left_out: what was seen of the model and is not traced, a sentence a reason.
        found: all the checkpoints of the model, asked for or not.
        refused: checkpoints that are not what they say and are left out of `todo`, with the reasons.
        remarks: what is to be recorded of a step that is measured all the same.
    """

    model: str
    source: str
    wanted: list[Checkpoint]
    todo: list[Checkpoint]
    done: list[int]
    known: dict[int, manifest.Unit]
    found: Checkpoints
    left_out: tuple[str, ...] = ()
    refused: Sequence[tuple[Checkpoint, str]] = ()
    remarks: Mapping[int, str] = field(default_factory=dict)

    def remarks_of(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        remark = None if checkpoint.step is None else self.remarks.get(checkpoint.step)
        return () if remark is None else (remark,)


def plan_models(
    root: Path | None,
    models: Sequence[str | Path | Checkpoints],
    steps: Steps,
    name: str | None,
    settings: Settings,
    revisions: str | None = None,
) -> list[ModelPlan]:
    """What is to be done for each model. Without a dataset (`root` None), all of it.

    Args:
        revisions: a regular expression with a group named `step`, for revisions or folders named in a way of their own.

    Raises:
        CheckpointError: a model or a step does not exist.
        UsageError: two models would share a directory, the dataset holds another of that name, or an argument cannot
            mean anything.
    """
    if not models:
        raise UsageError("no model to trace")
    if name is not None and len(models) > 1:
        raise UsageError("--name goes with one model")
    plans: dict[str, ModelPlan] = {}
    for model in models:
        found = model if isinstance(model, Checkpoints) else find_checkpoints(
            model, trust_remote_code=settings.trust_remote_code, revisions=revisions, form=settings.weights
        )  # fmt: skip
        directory = layout.directory_name(name or found.name)
        same = layout.same_name(directory)
        twin = next((plan for other, plan in plans.items() if layout.same_name(other) == same), None)
        if twin is not None:
            raise UsageError(f"{twin.source} and {found.source} would both be {directory}; trace one with --name")
        if root is not None:
            layout.refuse_twin(root, directory)
        wanted = found.at(choose_steps(steps, found))
        present = _present(root, directory, {c.step for c in wanted}, found) if root is not None else set()
        known = manifest.read_sound_units(root, directory)[0] if root is not None else {}
        done = {c.step: c for c in wanted if c.step in present and c.step is not None}
        if root is not None:
            refuse_other_source(root, directory, found.source, done, known)
        plans[directory] = ModelPlan(
            directory,
            found.source,
            wanted,
            [c for c in wanted if c.step not in present],
            list(done),
            known,
            found,
            tuple(f"{found.source}: {sentence}" for sentence in describe_left_out(found.left_out)),
        )
    return list(plans.values())


def _present(root: Path, model: str, wanted: set[int | None], found: Checkpoints) -> set[int]:
    """The steps that are measured; one whose files are damaged is not, and is said to be measured again.

    So is one that is damaged and of which there is no checkpoint any more, which stays as it is.
    """
    files = layout.statistics_files(root, model)
    gone = files.keys() - set(found.steps)
    files = {step: path for step, path in files.items() if step in wanted | gone}
    whole = {step for step, path in files.items() if manifest.is_measured(root, model, step, path)}
    for steps, said in ((wanted, "and are measured again"), (gone, f"and {found.source} has no checkpoint of them")):
        damaged = [step for step in files if step in steps and step not in whole]
        if damaged:
            note(f"{root / model}: the files of {list_steps(damaged)} are damaged, {said}")
    return whole - gone


def take_share(plans: Sequence[ModelPlan], shard: str | None) -> list[ModelPlan]:
    """The share `i/N` of the units: each unit belongs to one share, whatever has been measured by then.

    Units are dealt out in turn, so that every share gets early and late steps of every model.

    Raises:
        UsageError: `shard` is not i/N with i from 1 to N.
    """
    if shard is None:
        return list(plans)
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", shard)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"shard {shard!r}: expected i/N with i from 1 to N, such as 1/8")
    index, count = int(match[1]) - 1, int(match[2])
    shares, number = [], 0
    for plan in plans:
        mine = set()
        for checkpoint in plan.wanted:
            if number % count == index:
                mine.add(checkpoint.step)
            number += 1
        shares.append(
            replace(plan, todo=[c for c in plan.todo if c.step in mine], done=[s for s in plan.done if s in mine])
        )
    return shares


def choose_steps(steps: Steps, found: Checkpoints) -> list[int]:
    """The training steps that a request means for a model.

    Raises:
        UsageError: the request is not understood, or the published grid has no step in common with the model.
    """
    if steps is None:
        steps = "paper" if found.name in PYTHIA.models else "all"
    if steps == "all":
        return found.steps
    if steps == "paper":
        chosen = [step for step in PYTHIA.grids["paper"] if step in set(found.steps)]
        if not chosen:
            raise UsageError(f"{found.source} has none of the paper's steps; say --steps all, or which")
        return chosen
    try:
        numbers = [int(s) for s in steps.split(",")] if isinstance(steps, str) else list(_listed(steps))
    except (TypeError, ValueError) as e:
        raise UsageError(f"steps {str(steps)[:60]!r}: expected paper, all, or whole numbers such as 0,1,2") from e
    if not numbers:
        raise UsageError("steps: at least one is needed")
    return [layout.check_step(number) for number in numbers]


def _listed(steps: int | Iterable[int]) -> Iterable[int]:
    return [steps] if isinstance(steps, int) else steps
