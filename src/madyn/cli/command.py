"""What a command is: its function, the panel of `madyn --help` that it stands in, and how its arguments are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from typer.core import TyperCommand

from madyn.cli.spread import spread


@dataclass(frozen=True)
class Command:
    """One command; its name is the function's.

    Attributes:
        function: what typer reads the arguments and the help from, its options for dataclasses spread (see `spread`).
        panel: the group in `madyn --help`.
        kind: of typer's commands, where arguments are read in a way of its own.
    """

    function: Callable[..., Any]
    panel: str
    kind: type[TyperCommand] = TyperCommand

    def __post_init__(self) -> None:
        object.__setattr__(self, "function", spread(self.function))
