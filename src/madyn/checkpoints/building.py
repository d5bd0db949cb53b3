"""Models with no weights of their own, built from a config alone: for their names, their size, or to be filled."""

from __future__ import annotations

from typing import Any

from madyn.checkpoints.remote_code import describe_failure
from madyn.errors import CheckpointError, MadynError, one_line


def build_model(config: Any, source: object, *, trust_remote_code: bool, **options: Any) -> Any:
    """`AutoModel.from_config`.

    Args:
        source: what the config is of, for the message.

    Raises:
        CheckpointError: a model of this config cannot be built, whatever the config, the model's own code or a package
            that is missing made of it.
    """
    from transformers import AutoModel

    try:
        return AutoModel.from_config(config, trust_remote_code=trust_remote_code, **options)
    except MadynError:
        raise
    except Exception as e:  # the code of a model, which raises what it likes at a config that it was not made for
        reason = describe_failure(e, str(source), trusted=trust_remote_code)
        raise CheckpointError(f"{one_line(source)}: no model can be built of its config: {reason}") from e
