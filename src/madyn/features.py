"""What an entry of the table of features says: one of an architecture's features, for all rooms that deal with it.

The entries themselves stand in `architecture`, in the bodies of its classes: a field with `feature(...)`, or a ratio of
fields with `@derived(...)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple, get_type_hints

from madyn.errors import ArchitectureError, quoted

# Beyond any model's: so that a wrong number in a file costs neither memory nor time.
_LARGEST_SIZE = 1 << 40


class Kind(NamedTuple):
    """What the values of a feature are.

    Attributes:
        check: the value as it is kept, from name, value and the largest there is. Raises ArchitectureError.
        cell: see `Feature.cell`.
    """

    check: Callable[[str, Any, float], Any]
    cell: Literal["size", "number", "text"]


def _whole(name: str, value: Any, most: float) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = 0
    if number < 1 or number != value or number > most:
        raise ArchitectureError(f"{name} is {quoted(value)}; it must be a positive whole number, {most:,} at most")
    return number


def _number(name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArchitectureError(f"{name} is {quoted(value)}; it must be a number")
    return value


def _share(name: str, value: Any, most: float) -> Any:
    if not 0 <= _number(name, value) <= 1:
        raise ArchitectureError(f"{name} is {quoted(value)}; it is a share of each head, from 0 to 1")
    return value


def _positive(name: str, value: Any, most: float) -> Any:
    if not 0 < _number(name, value) <= most:
        raise ArchitectureError(f"{name} is {quoted(value)}; it must be positive and at most {most:g}")
    return value


def _positive_or_none(name: str, value: Any, most: float) -> Any:
    if value is not None and not 0 < _number(name, value) <= most:
        raise ArchitectureError(f"{name} is {quoted(value)}; it must be positive and at most {most:g}, or None")
    return value


def _words(name: str, value: Any, most: float) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ArchitectureError(f"{name} is {quoted(value)}; it must be a name")
    return value


SIZE = Kind(_whole, "size")
SHARE = Kind(_share, "number")
POSITIVE = Kind(_positive, "size")
POSITIVE_OR_NONE = Kind(_positive_or_none, "size")
NAME = Kind(_words, "text")

_BY_TYPE: Mapping[Any, Kind] = {int: SIZE, float: POSITIVE, float | None: POSITIVE_OR_NONE, str: NAME}


@dataclass(frozen=True, kw_only=True)
class Feature:
    """All that is told of one feature.

    Attributes:
        words: what readers call it, "hidden size"; with - for each space it is the option of the command line.
        about: what it is, in the help of that option.
        kind: what its values are: by the field's type, if it does not say; and `most` the largest there is.
        spellings: other names that configs give it, in the order they are tried; `read`, where that is not all there is
            to finding it, reads it from a config, None where it is not there.
        scale: whether the predictor is told its logarithm to base 2, it itself, or nothing of it.
        factor: what effects call it; a factor is positive, and taken by its logarithm. Not studied if empty.
        example: a range of it; designs are searched over a feature that has one, up to `most_searched`.
        aliases: other names of its option.
        setting: where transformers' configs keep what the lab builds with, by dots; `tag` stands before the value in a
            model's name, and is by default the feature's own name.
        formula: of a derived feature, from a shape. `gives` is the field that it may be given for, and `solve` the
            field's value from this and the other fields; `usual` is taken where neither is given. It is listed behind
            the field `after`.
        name: of the field or property; it is set when the table is made.
    """

    words: str
    about: str = ""
    kind: Kind | None = None
    most: float = _LARGEST_SIZE
    spellings: tuple[str, ...] = ()
    read: Callable[[Any], Any] | None = None
    scale: Literal["log2", "itself"] | None = "log2"
    factor: str = ""
    example: str = ""
    most_searched: float = math.inf
    aliases: tuple[str, ...] = ()
    setting: str = ""
    tag: str = ""
    formula: Callable[[Any], Any] | None = None
    after: str = ""
    gives: str = ""
    solve: Callable[[Any, Mapping[str, Any]], Any] | None = None
    usual: Any = None
    name: str = ""

    @property
    def keyword(self) -> str:
        """Its name where people write it: hidden_size, layers, mlp_ratio."""
        return self.words.lower().replace(" ", "_")

    @property
    def option(self) -> str:
        """Its option of the command line."""
        return f"--{self.keyword.replace('_', '-')}"

    @property
    def is_given(self) -> bool:
        """It is said of a model; what is derived and stands for no field only follows."""
        return self.formula is None or bool(self.gives)

    def of(self, shape: Any) -> Any:
        """Its value of a shape."""
        return getattr(shape, self.name)

    def input_of(self, shape: Any) -> float:
        """What the predictor is told; nan where the shape has none."""
        value = self.of(shape)
        if self.scale == "itself":
            return value
        return math.log2(value) if value else math.nan

    def check(self, value: Any) -> Any:
        """The value as it is kept. Raises ArchitectureError."""
        assert self.kind is not None, "set when the table is made"
        return self.kind.check(self.name, value, self.most)

    @property
    def cell(self) -> str:
        """What a cell of the parameter table holds of it; see `table_cells.refuse_values`."""
        assert self.kind is not None, "set when the table is made"
        return self.kind.cell


class Derived(property):
    """A property that is a feature too."""

    feature: Feature


def feature(*spellings: str, default: Any = MISSING, **told: Any) -> Any:
    """A field of a shape that is a feature; what is told of it are the attributes of `Feature`."""
    return field(default=default, metadata={"feature": Feature(spellings=spellings, **told)})


def derived(**told: Any) -> Callable[[Callable[[Any], Any]], Derived]:
    """Make a formula over fields a feature."""

    def made(formula: Callable[[Any], Any]) -> Derived:
        found = Derived(formula)
        found.feature = Feature(formula=formula, **told)
        return found

    return made


def features_of(kind: type) -> dict[str, Feature]:
    """The features that are fields of a dataclass, by name, in the order that they are declared in."""
    types = get_type_hints(kind)
    told = {f.name: f.metadata["feature"] for f in fields(kind) if "feature" in f.metadata}
    return {name: replace(one, name=name, kind=one.kind or _kind_of(name, types[name])) for name, one in told.items()}


def _kind_of(name: str, of: Any) -> Kind:
    """The kind of a field's values by its type. Raises TypeError where no kind is of that type."""
    if of not in _BY_TYPE:
        raise TypeError(f"{name} is of type {of}; a feature is an int, float, float | None or str, or says its `kind`")
    return _BY_TYPE[of]


def derived_of(kind: type) -> dict[str, Feature]:
    """The features of a class that have a formula, by name."""
    return {name: replace(one.feature, name=name) for name, one in vars(kind).items() if isinstance(one, Derived)}
