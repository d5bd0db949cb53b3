"""The shape of a model in the words of the command line, the same in `predict` and `design`.

Each size that the table of features has an example for is an option, or a key of the JSON that --architecture takes;
`predict` takes a number for it, `design` a number or a range. Keys are held against those that there are before
anything is read or fitted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, get_type_hints

import typer

from madyn.architecture import DERIVED, FIELDS, SEARCHED, Architecture
from madyn.cli.spread import Option, Spread
from madyn.errors import UsageError

PREDICTED = (*FIELDS, *(one.name for one in DERIVED.values() if one.gives))
"""What may be said of an architecture that is predicted."""

DESIGNED = tuple(SEARCHED)
"""What may be said of architectures that are searched."""


class Sizes(Spread):
    """The options for sizes: a parameter of a command that has it is what was said, by field."""

    def __init__(self, *, ranges: bool) -> None:
        """Args: ranges: each takes a range as text, in place of a number."""
        self.ranges = ranges
        self.features = [one for one in SEARCHED.values() if ranges or one.is_given]

    def options(self) -> dict[str, Option]:
        types = get_type_hints(Architecture)
        found = {}
        for one in self.features:
            example = f", as {one.example}" if self.ranges else ""
            told = typer.Option(one.option, *one.aliases, help=f"{one.about}{example}.")
            kind = str if self.ranges else types.get(one.name, float)
            found[one.keyword] = Option(Annotated[kind | None, told], None)
        return found

    def gather(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {one.name: values[one.keyword] for one in self.features if values[one.keyword] is not None}


NUMBERS, RANGES = Sizes(ranges=False), Sizes(ranges=True)


def shape_fields(text: str | None, sizes: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """What is said of a shape, by field.

    Args:
        text: JSON, as --architecture takes it; None where it was not given.
        sizes: what single options say, by field.
        known: the fields that there are.

    Raises:
        UsageError: the text is no JSON object, a key in it is unknown, or two places say one thing.

    >>> shape_fields('{"hidden_size": 64}', {"num_hidden_layers": 2}, PREDICTED)
    {'hidden_size': 64, 'num_hidden_layers': 2}
    """
    values = _object(text) if text is not None else {}
    known = list(known)
    for key in values:
        if key not in known:
            close = get_close_matches(key, known, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UsageError(f"--architecture: unknown key {key!r}{hint}; known: {', '.join(known)}")
    twice = next((name for name in sizes if name in values), None)
    if twice is not None:
        raise UsageError(f"{SEARCHED[twice].option} and {twice} in --architecture say one thing: give one of them")
    return {**values, **sizes}


def _object(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"--architecture is not JSON: {e}") from e
    if not isinstance(values, dict):
        raise UsageError("--architecture is not a JSON object")
    return values
