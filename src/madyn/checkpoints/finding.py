"""What a name means that a user gives for a model: one checkpoint, or all those of a training.

`find_checkpoints` lists what a model offers, by training step, and loads nothing; a `Checkpoint` loads its weights,
config and tokenizer when asked. Which kinds of checkpoint there are is `sources`' affair, and what their names mean is
`naming`'s.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from madyn.checkpoints.naming import compile_revisions, describe_left_out
from madyn.checkpoints.sources.protocol import Asked, Checkpoint, Checkpoints, Source
from madyn.checkpoints.sources.registry import describe_kinds, kind_of
from madyn.errors import CheckpointError, UsageError
from madyn.paths import describe_missing, exists, means_path


def find_checkpoint(
    model: str | Path, revision: str | None = None, *, trust_remote_code: bool = False, form: str = "auto"
) -> Checkpoint:
    """One checkpoint: a folder, a GGUF file, or a model of the Hub at a revision (its main one by default).

    Args:
        form: which of the forms that weights are stored in is read, one of `settings.FORMS`.

    Raises:
        CheckpointError: there is no such folder or file, and the name could not be one of the Hub.
        UsageError: a revision is asked of a folder or a file.
    """
    if revision and exists(model):
        raise UsageError(f"{model} is a path; --revision goes with a name of the Hub")
    return _source_of(model).find(model, Asked(revision, trust_remote_code, form))


def find_checkpoints(
    model: str | Path, *, trust_remote_code: bool = False, revisions: str | None = None, form: str = "auto"
) -> Checkpoints:
    r"""All the training checkpoints of a model: a folder of them, one alone, or the revisions of a Hub repository.

    Args:
        revisions: a regular expression with a group named `step`, for revisions or folders named in a way of their own,
            such as `r"ckpt_(?P<step>\d+)k"`; the ways in use are tried if not given.
        form: which of the forms that weights are stored in is read, one of `settings.FORMS`.

    Raises:
        UsageError: the expression is none, or has no such group.
        CheckpointError: none is found whose training step is known.
    """
    pattern = None if revisions is None else compile_revisions(revisions)
    asked = Asked(trust_remote_code=trust_remote_code, form=form, pattern=pattern)
    found = _source_of(model).find_all(model, asked)
    if not found.by_step:
        found.collisions.refuse(str(model), found.collisions.by_step)
        raise CheckpointError(
            f"{model}: no training checkpoints in it (stepN, checkpoint-N, ...); for one checkpoint use `madyn scan`"
            + "".join(f"; {sentence}" for sentence in describe_left_out(found.left_out))
        )
    return replace(found, by_step=dict(sorted(found.by_step.items())))


def _source_of(model: str | Path) -> Source:
    """The kind of checkpoint that a name means. Raises CheckpointError where it means none."""
    found = kind_of(model)
    if found is not None:
        return found
    if exists(model):
        raise CheckpointError(f"{model}: a model is {describe_kinds()}")
    if means_path(model):
        raise CheckpointError(f"{model}: {describe_missing(model)}")
    raise CheckpointError(f"{model}: no such folder or file, and not a name of the Hub")
