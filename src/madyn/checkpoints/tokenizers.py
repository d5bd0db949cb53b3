"""The tokenizer that a user names in place of a checkpoint's own, which a run's folders often lack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from madyn.checkpoints.remote_code import describe_failure
from madyn.checkpoints.sources.pretrained import is_empty
from madyn.checkpoints.sources.protocol import Source
from madyn.checkpoints.sources.registry import kind_of
from madyn.errors import CheckpointError, MadynError
from madyn.hub import hub_errors
from madyn.paths import describe_missing, exists, means_path


def refuse_no_tokenizer(name: str | Path) -> None:
    """Raise CheckpointError where a name is a path that is not there: told without reading anything."""
    if means_path(name) and not exists(name):
        raise CheckpointError(f"tokenizer {name}: {describe_missing(name)}")


def find_tokenizer(name: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer in a folder or a GGUF file, or of a model of the Hub.

    Raises:
        CheckpointError: there is none, or it cannot be loaded.
    """
    refuse_no_tokenizer(name)
    source = kind_of(name) or Source()
    try:
        with hub_errors(f"tokenizer {name}", CheckpointError, remote=not exists(name)):
            found = source.tokenizer(name, trust_remote_code=trust_remote_code)
    except MadynError:
        raise
    except Exception as e:  # a broken file can make the loaders raise anything at all
        reason = describe_failure(e, name, trusted=trust_remote_code)
        raise CheckpointError(f"tokenizer {name}: cannot be loaded: {reason}") from e
    if is_empty(found):
        raise CheckpointError(f"tokenizer {name}: there is none in it")
    return found
