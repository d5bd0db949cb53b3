"""Whether a model that a dataset holds is the one that is to be traced into it, and not another of the same name.

A step that is there is not measured again, so that two runs whose folders share a name would become one model, half of
each. Where the name that the user gave is the one in the manifest, the Hub's commit tells; where it is another (the
folder was moved, or it is another run), the weights of one step that is there are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from madyn.checkpoints import Checkpoint
from madyn.dataset import layout
from madyn.dataset.manifest import Unit
from madyn.errors import MadynError, UsageError
from madyn.terminal import note


def refuse_other_source(
    root: Path, model: str, source: str, done: Mapping[int, Checkpoint], known: Mapping[int, Unit]
) -> None:
    """Refuse a model whose measured steps are known to be of other weights than those given now.

    Args:
        done: the checkpoints of the steps that are there.
        known: what the manifest says of them.

    Raises:
        UsageError: they are.
    """
    measured = {step: known[step] for step in done if step in known}
    trained = [unit for unit in measured.values() if unit.run_sha256 is not None]
    if trained and (root / "training").is_dir() and layout.training_path(root, model).exists():
        raise UsageError(
            f"{root} holds {model}, trained and measured there by a lab: trace {source} with another --name or --out"
        )
    moved = [step for step, unit in measured.items() if not _is_same_place(unit.source, source)]
    renewed = [
        step
        for step, unit in measured.items()
        if step not in moved and unit.commit and done[step].commit and unit.commit != done[step].commit
    ]
    for step in (*moved[:1], *renewed):
        unit, same = measured[step], _is_same_weights(measured[step], done[step])
        was = f"{unit.source}{f' at commit {unit.commit[:12]}' if unit.commit else ''}"
        if same is False:
            raise UsageError(
                f"{root} holds {model} as measured from {was}, and step {step} of {done[step]} has other weights: use "
                "another --name or --out"
            )
        if same is None:
            note(f"{model} was measured from {was} so far; whether {source} holds the same weights cannot be told")


def _is_same_place(one: str, other: str) -> bool:
    return one == other or (Path(one).exists() and Path(other).exists() and Path(one).samefile(other))


def _is_same_weights(unit: Unit, checkpoint: Checkpoint) -> bool | None:
    """Whether a unit was measured on the weights of a checkpoint; None where the hashes cannot tell."""
    try:
        return checkpoint.holds(unit.weights_xxh3, unit.weights_sha256)
    except (MadynError, OSError):
        return None  # what is wrong with the checkpoint is said when it is read
