"""The shape of a model in the words of the command line, the same in `predict` and `design`.

Each size is an option, or a key of the JSON that --architecture takes; `predict` takes a number for it, `design` a
number or a range. Keys are held against those that there are before anything is read or fitted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from madyn.architecture import OPTIONS, Architecture
from madyn.errors import UsageError

PREDICTED = (*(f.name for f in fields(Architecture)), "mlp_ratio")
"""What may be said of an architecture that is predicted."""

DESIGNED = tuple(OPTIONS.values())
"""What may be said of architectures that are searched."""


def shape_fields(text: str | None, options: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """What is said of a shape, by field.

    Args:
        text: JSON, as --architecture takes it; None where it was not given.
        options: what single options say, None for one that was not given.
        known: the fields that there are.

    Raises:
        UsageError: the text is no JSON object, a key in it is unknown, or two places say one thing.

    >>> shape_fields('{"hidden_size": 64}', {"--layers": 2, "--heads": None}, PREDICTED)
    {'hidden_size': 64, 'num_hidden_layers': 2}
    """
    values = _object(text) if text is not None else {}
    known = list(known)
    for key in values:
        if key not in known:
            close = get_close_matches(key, known, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UsageError(f"--architecture: unknown key {key!r}{hint}; known: {', '.join(known)}")
    for option, value in options.items():
        if value is not None and OPTIONS[option] in values:
            raise UsageError(f"{option} and {OPTIONS[option]} in --architecture say one thing: give one of them")
    return values | {OPTIONS[option]: value for option, value in options.items() if value is not None}


def _object(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"--architecture is not JSON: {e}") from e
    if not isinstance(values, dict):
        raise UsageError("--architecture is not a JSON object")
    return values
