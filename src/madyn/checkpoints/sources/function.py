"""Models that a function of the user's gives, for those that are not from transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from madyn.checkpoints.sources.protocol import Checkpoint, Checkpoints
from madyn.checkpoints.stores import Advance, Store
from madyn.errors import CheckpointError


@dataclass(frozen=True)
class FromFunction(Checkpoint):
    """What a function gives at a step; the source is only a name.

    Attributes:
        load: gives the model, a torch module, at a step.
    """

    load: Callable[[int], Any] = field(kw_only=True)

    origin: ClassVar[str] = "is made by a function, and "

    def load_whole(
        self, dtype: Any, device: str = "cpu", folder: Path | None = None, *, head: bool = False
    ) -> tuple[Any, list[str]]:
        return self._called().to(dtype).eval().to(device), []

    def _called(self) -> Any:
        from torch import nn

        assert self.step is not None
        try:
            model = self.load(self.step)
        except Exception as e:  # the user's own code may raise anything
            raise CheckpointError(f"{self}: load({self.step}) failed: {type(e).__name__}: {e}") from e
        if not isinstance(model, nn.Module):
            raise CheckpointError(f"{self}: load({self.step}) gave a {type(model).__name__}, not a torch module")
        return model

    def store(self, found: Checkpoints, asked: Iterable[int], advance: Advance) -> Store | None:
        return None  # only what they give can be compared: `madyn check` does that


def checkpoints_of(name: str, steps: Iterable[int], load: Callable[[int], Any]) -> Checkpoints:
    """The checkpoints that a function gives at some steps, under a name."""
    return Checkpoints(name, name, {step: FromFunction(name, step, load=load) for step in sorted(set(steps))})
