"""Code that comes with a model: never run unless the user says so, and said in one line where it would be needed.

Every call of transformers' loaders says whether that code may run: what is left unsaid is asked of the user at the
terminal, and a script has nobody to answer.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from madyn.errors import one_line

_REFUSALS = ("trust_remote_code", "custom code")  # in transformers' own words
_CONFIGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
_LARGEST = 1 << 20  # bytes of a config that is looked into
_ADVICE = (
    "it comes with code of its own, which is run only where you trust it: --trust-remote-code of madyn scan, plan and "
    "trace (trust_remote_code=True)"
)


def describe_failure(e: Exception, source: str | Path, *, trusted: bool) -> str:
    """Why a loader of transformers failed, for a reader: what to pass, where code would have to run.

    Args:
        source: the folder, if it is one; transformers may pass over the code in it and fail for the lack of it.
        trusted: the code was run.
    """
    reason = one_line(e) or type(e).__name__
    if any(words in reason for words in _REFUSALS):
        return _ADVICE
    return reason + (f"; {_ADVICE}" if not trusted and _brings_code(Path(source)) else "")


def _brings_code(folder: Path) -> bool:
    for name in _CONFIGS:
        with suppress(OSError, ValueError), (folder / name).open("rb") as file:
            if b'"auto_map"' in file.read(_LARGEST):
                return True
    return False
