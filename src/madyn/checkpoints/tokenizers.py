"""The tokenizer that a user names in place of a checkpoint's own, which a run's folders often lack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from madyn.checkpoints.remote_code import describe_failure
from madyn.errors import CheckpointError, MadynError
from madyn.hub import hub_errors
from madyn.paths import describe_missing, exists, means_path

OTHERWISE = "give --tokenizer NAME or FOLDER (tokenizer=), or token ids with --tokens FILE.npy (inputs=)"
"""What to do where a checkpoint has no tokenizer."""


def find_tokenizer(name: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer in a folder or a GGUF file, or of a model of the Hub.

    Raises:
        CheckpointError: there is none, or it cannot be loaded.
    """
    from transformers import AutoTokenizer

    if means_path(name) and not exists(name):
        raise CheckpointError(f"tokenizer {name}: {describe_missing(name)}")
    path, options = Path(name), {}
    if path.suffix == ".gguf" and path.is_file():
        path, options = path.parent, {"gguf_file": path.name}
    source = str(path) if exists(path) else str(name)
    try:
        with hub_errors(f"tokenizer {name}", CheckpointError, remote=not exists(name)):
            found = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code, **options)
    except MadynError:
        raise
    except Exception as e:  # a broken file can make the loaders raise anything at all
        reason = describe_failure(e, path, trusted=trust_remote_code)
        raise CheckpointError(f"tokenizer {name}: cannot be loaded: {reason}") from e
    if is_empty(found):
        raise CheckpointError(f"tokenizer {name}: there is none in it")
    return found


def is_empty(tokenizer: Any) -> bool:
    """Whether it knows no letter: what transformers makes of a folder that has no tokenizer, from the model's type.

    Such a one has special tokens, for some types (T5) a hundred, and at most the mark of a space or a full stop.
    """
    vocabulary = getattr(tokenizer, "get_vocab", None)
    if vocabulary is None:  # of a kind of its own, which nothing but a file can have said
        return False
    added = {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values()}
    return not any(any(map(str.isalnum, str(word))) for word in vocabulary() if word not in added)
