"""Old words that still work: what 0.1 called a curve's `model` is its `hypothesis`, since a model is a network here.

A keyword or an attribute of the old name warns, says what to write, and does the same. Only names are translated, and
only while the program runs: a type checker knows the new ones alone.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from madyn.errors import UsageError

Renamed = TypeVar("Renamed", bound=Callable[..., Any])


def renamed(**new: str) -> Callable[[Renamed], Renamed]:
    """A decorator for a function, or a class with these fields, whose keywords were called otherwise: `old="new"`.

    What it decorates raises UsageError where a keyword is given by its old and by its new name.
    """

    def decorate(thing: Any) -> Any:
        if not isinstance(thing, type):
            return _function(thing, thing.__qualname__, new)
        initialise: Any = _function(thing.__init__, thing.__name__, new)
        thing.__init__ = initialise
        for old, name in new.items():
            setattr(thing, old, _attribute(thing.__name__, old, name))
        return thing

    return decorate


def _function(function: Any, said: str, new: dict[str, str]) -> Any:
    order = list(inspect.signature(function).parameters)

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        for old in new.keys() & kwargs.keys():
            name = new[old]
            if name in kwargs or order.index(name) < len(args):
                raise UsageError(f"{said} was given {name} and {old}, which is the old word for it; give {name} alone")
            warnings.warn(f"write {said}({name}=...); {old} is the old word for it", DeprecationWarning, stacklevel=2)
            kwargs[name] = kwargs.pop(old)
        return function(*args, **kwargs)

    return called


def _attribute(said: str, old: str, name: str) -> property:
    def read(self: Any) -> Any:
        warnings.warn(f"write {said}.{name}; {old} is the old word for it", DeprecationWarning, stacklevel=2)
        return getattr(self, name)

    return property(read, doc=f"The old word for `{name}`.")
