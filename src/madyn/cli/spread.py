"""Options that are declared once, where what they set is declared, and become options of every command that takes it.

A command that takes `settings: Annotated[Settings, Fields("dtype", "device")]` has the options --dtype and --device,
with the type, the default and the words that the fields of that dataclass have, and is called with one `Settings`.
typer reads a function's signature alone, so that a decorator which builds the signature anew, and gathers the values
again when the function is called, is all that it takes: nothing of typer's is replaced.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import typer

from madyn.settings import Said, said_of


class Option(NamedTuple):
    """An option as typer reads it: its annotation, typer's own words in it, and its default."""

    annotation: Any
    default: Any


class Spread(ABC):
    """What stands in the annotation of a parameter that several options are for."""

    @abstractmethod
    def options(self) -> dict[str, Option]:
        """The options, by the names of their parameters."""

    @abstractmethod
    def gather(self, values: Mapping[str, Any]) -> Any:
        """The parameter's value, from those of its options."""


class Fields(Spread):
    """Options for fields of a dataclass, made from their annotations.

    Args:
        names: the fields that are options, all by default; the others keep their defaults.
        defaults: of fields whose default is another one in this command.
        words: of fields whose help is.
    """

    def __init__(
        self, *names: str, defaults: Mapping[str, Any] | None = None, words: Mapping[str, str] | None = None
    ) -> None:
        self.names, self.defaults, self.words = names, defaults or {}, words or {}
        self.kind: Any = None

    def options(self) -> dict[str, Option]:
        usual = {f.name: f.default for f in fields(self.kind)}
        found = {}
        for name, (kind, said) in self._chosen().items():
            own = said.option or name
            flag = f"--{own.replace('_', '-')}"
            if kind == bool | None:  # three answers: yes, no, and what is best
                flag = f"{flag}/--no-{own.replace('_', '-')}"
            told = typer.Option(flag, help=self.words.get(name, said.help))
            found[own] = Option(Annotated[kind, told], self.defaults.get(name, usual[name]))
        return found

    def gather(self, values: Mapping[str, Any]) -> Any:
        return self.kind(**{name: values[said.option or name] for name, (_, said) in self._chosen().items()})

    def _chosen(self) -> dict[str, tuple[Any, Said]]:
        said = said_of(self.kind)
        return {name: said[name] for name in self.names or said}


def spread(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as typer is to read it: each parameter that is for several options in their place."""
    signature = inspect.signature(function, eval_str=True)
    parameters, gathered = [], {}
    for name, parameter in signature.parameters.items():
        found = _spread_of(parameter.annotation)
        if found is None:
            parameters.append(parameter)
            continue
        options = found.options()
        gathered[name] = (found, list(options))
        for own, option in options.items():
            new = inspect.Parameter(own, parameter.KEYWORD_ONLY, default=option.default, annotation=option.annotation)
            parameters.append(new)
    if not gathered:
        return function

    @functools.wraps(function)
    def run(**values: Any) -> Any:
        for name, (found, own) in gathered.items():
            values[name] = found.gather({each: values.pop(each) for each in own})
        return function(**values)

    return signed(run, parameters)


def signed(command: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> Callable[..., Any]:
    """The command with this signature, which is what typer reads its options from."""
    command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _spread_of(annotation: Any) -> Spread | None:
    if get_origin(annotation) is not Annotated:
        return None
    kind, *said = get_args(annotation)
    found = next((one for one in said if isinstance(one, Spread)), None)
    if isinstance(found, Fields):
        found.kind = kind
    return found
