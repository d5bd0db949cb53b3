"""Seals: a hash that a record carries of all else that it says, and of the place where it says it.

Nothing keeps anyone from sealing a record anew; a seal shows what a disk, a copy, an editor or a script has changed. A
sealed record says its `format`, so that a seal that was taken off is missed; one of an earlier version says none, and
has no seal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = "seal"
FORMAT = {"format": 2}


def sealed(record: Mapping[str, Any], *place: str | int) -> dict[str, Any]:
    """The record with its format and its seal, as JSON holds them.

    Args:
        place: what tells where the record stands: a model and a step, say. Another place gives another seal.
    """
    whole = {**record, **FORMAT}
    return {**whole, KEY: _hash(whole, place)}


def seal_fault(record: Any, *place: str | int) -> str | None:
    """What is wrong with the seal of a record as it was read from JSON; None where nothing is, or it has none."""
    if not isinstance(record, dict) or not ({KEY, *FORMAT} & set(record)):
        return None
    if record.get(KEY) != _hash({key: value for key, value in record.items() if key != KEY}, place):
        return "not what madyn wrote: its seal is not that of what it says"
    return None


def canonical(value: Any) -> str:
    """JSON text that two values share if they are the same, number for number (1 is not 1.0, and not true)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _hash(record: Mapping[str, Any], place: tuple[str | int, ...]) -> str:
    return hashlib.sha256(canonical([*place, record]).encode()).hexdigest()
