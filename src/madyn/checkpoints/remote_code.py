"""Code that comes with a model: never run unless the user says so, and said in one line where it would be needed.

Every call of transformers' loaders says whether that code may run: what is left unsaid is asked of the user at the
terminal, and a script has nobody to answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from madyn.checkpoints.records import read_json_as
from madyn.errors import CheckpointError, MadynError, one_line

_REFUSALS = ("trust_remote_code", "custom code")  # in transformers' own words
_CONFIGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
_LARGEST = 1 << 20  # bytes of a config that is looked into
_WHERE_TRUSTED = (
    "which is run only where you trust it: madyn scan, plan and trace do with --trust-remote-code "
    "(trust_remote_code=True)"
)
_ADVICE = f"it comes with code of its own, {_WHERE_TRUSTED}"


def refuse_kernels(config: Mapping[str, Any], where: object) -> None:
    """Raise CheckpointError where a config asks for attention or experts of a repository of the Hub.

    transformers takes "OWNER/NAME:FUNCTION" for one of its own names and, where the package `kernels` is installed,
    fetches that repository and runs what is in it.
    """
    for key, value in _implementations(config):
        if "/" in value:
            raise CheckpointError(
                f"{where}: its config says that {key} is {one_line(repr(value), 80)}, code of the Hub, {_WHERE_TRUSTED}"
            )


def _implementations(value: Any, key: str | None = None) -> Iterator[tuple[str, str]]:
    """The texts of a config under keys that name an implementation, at any depth: a config may hold other configs, and
    give an implementation for each."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _implementations(inner, str(name) if "implementation" in str(name) else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _implementations(inner, key)
    elif isinstance(value, str) and key is not None:
        yield key, value


def describe_failure(e: Exception, source: str | Path, *, trusted: bool) -> str:
    """Why a loader of transformers failed, for a reader: what to pass, where code would have to run.

    Args:
        source: the folder, if it is one; transformers may pass over the code in it and fail for the lack of it.
        trusted: the code was run.
    """
    odd = _odd_auto_map(Path(source))
    reason = odd or one_line(e) or type(e).__name__
    if any(words in reason for words in _REFUSALS):
        return _ADVICE
    return reason + (f"; {_ADVICE}" if not trusted and _brings_code(Path(source)) else "")


def _odd_auto_map(folder: Path) -> str | None:
    """What is wrong with an `auto_map` that is no record of names, of which a loader says what Python says of it."""
    for name in _CONFIGS:
        with suppress(OSError, MadynError):
            found = read_json_as(folder / name, dict[str, Any]).get("auto_map", {})
            if not isinstance(found, dict) or not all(isinstance(of, (str, list)) for of in found.values()):
                return (
                    f"auto_map in {name} is {one_line(repr(found), 80)}; it names a class of the model's code by kind"
                )
    return None


def _brings_code(folder: Path) -> bool:
    for name in _CONFIGS:
        with suppress(OSError, ValueError), (folder / name).open("rb") as file:
            if b'"auto_map"' in file.read(_LARGEST):
                return True
    return False
