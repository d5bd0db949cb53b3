"""Adapters (LoRA and its kin, as PEFT saves them): weights that are nothing without the model that they adapt.

A folder that holds an adapter alone is a checkpoint of a run, and cannot be measured by itself. It is named for what
it is, with what to do, where it is found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from madyn.checkpoints.records import read_json_as
from madyn.errors import CheckpointError, one_line

CONFIG = "adapter_config.json"


def is_adapter(names: Collection[str]) -> bool:
    """Whether these are the files of an adapter, and of no whole model."""
    return CONFIG in names and "config.json" not in names


def refuse_adapter(where: str, names: Collection[str], read_config: Callable[[], Path]) -> None:
    """Raise CheckpointError where these files are an adapter's.

    Args:
        where: the checkpoint, for the message.
        names: the files that it has.
        read_config: gives the file `adapter_config.json`.
    """
    if not is_adapter(names):
        return
    raise CheckpointError(
        f"{where} is an adapter (PEFT) on {_base_of(read_config())}, without that model's own weights; merge it with "
        "`merge_and_unload()`, save that with `save_pretrained`, and measure what was saved; or give `madyn.trace` a "
        "function `load=` that returns the merged model at a step"
    )


def refuse_adapter_beside(where: object, names: Collection[str]) -> None:
    """Raise CheckpointError where an adapter lies beside whole weights.

    transformers applies it where PEFT is installed, and passes over it where it is not.
    """
    if CONFIG in names:
        raise CheckpointError(
            f"{where}: an adapter ({CONFIG}) lies beside the weights, and whether it is part of the model cannot be "
            "told: merge it and save the model, or take the adapter's files away"
        )


def _base_of(config: Path) -> str:
    base = None
    with suppress(CheckpointError):
        base = read_json_as(config, dict[str, Any]).get("base_model_name_or_path")
    return one_line(base) if base else "a model that it does not name"
