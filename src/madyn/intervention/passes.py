"""One forward a sequence of a model without its head, as the model is now: with whatever hooks stand on it.

All that is read off a model's inside here is read this way, so that it is the same with an intervention and without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from madyn.errors import ArchitectureError, check_range
from madyn.measurement.forward import Layers, arguments_for, evaluating, part_to_run, stacks_of
from madyn.measurement.inputs import read_inputs
from madyn.measurement.layers import Stack
from madyn.measurement.resuming import copied
from madyn.measurement.wrapping import device_of, unwrap


@dataclass(frozen=True)
class Passes:
    """A model's text part, its stacks of layers, and the sequences that it is run on.

    Attributes:
        part: the model without its head.
        sequences: token ids, each of shape (1, S) and without padding, on the model's device.
        stacks: one, or the encoder's and the decoder's.
    """

    part: Any
    sequences: list[torch.Tensor]
    stacks: list[Stack]

    @classmethod
    def of(cls, model: nn.Module, sequences: Any, layers: Layers = None) -> Passes:
        """
        Args:
            model: with or without its head, wrapped or not.
            sequences: token ids (B, S), as `measure` takes them.
            layers: as in `measure`.

        Raises:
            ArchitectureError, UsageError: as `measure` raises them.
        """
        stacks = stacks_of(model, sequences, layers)
        part = part_to_run(unwrap(model))
        given = read_inputs(sequences)
        return cls(part, list(given.batches(given.values.to(device_of(part)), 1)), stacks)

    @property
    def shortest(self) -> int:
        """How many tokens the shortest sequence has."""
        return min(ids.shape[1] for ids in self.sequences)

    def position(self, value: Any, name: str = "position", after: int = 0) -> int:
        """A position that every sequence has, with at least so many after it."""
        return check_range(name, value, 0, self.shortest - 1 - after)

    def layer(self, value: Any) -> int:
        """A layer of the first stack."""
        return check_range("layer", value, 0, len(self.stacks[0].modules) - 1)

    def feature(self, value: Any) -> int:
        """A feature of the residual stream, whose width is that of the embedding or what the config says."""
        config: Any = getattr(self.part, "config", None)
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        width = getattr(config, "hidden_size", None)
        return check_range("feature", value, 0, (width or 1 << 20) - 1)

    @torch.no_grad()
    def run(self, number: int, **arguments: Any) -> Any:
        """One forward of one sequence, without dropout; what the model gives."""
        with evaluating(self.part):
            return self.part(**arguments_for(self.part, self.sequences[number]), **arguments)

    def given_to(self, number: int, layer: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a layer of the first stack is given when the model runs on a sequence, copied.

        Raises:
            ArchitectureError: the layer runs more than once a forward, or not at all.
        """
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def begin(_: nn.Module, args: Any, kwargs: Any) -> None:
            calls.append((copied(args), {name: copied(value) for name, value in kwargs.items()}))

        handle = self.stacks[0].modules[layer].register_forward_pre_hook(begin, with_kwargs=True)
        try:
            self.run(number)
        finally:
            handle.remove()
        if len(calls) != 1:
            raise ArchitectureError(f"layer {layer} of {type(self.part).__name__} ran {len(calls)} times a forward")
        return calls[0]


Hook = Callable[..., Any]


@contextmanager
def hooked(modules: Any, hook: Hook, *, before: Hook | None = None, prepend: bool = True) -> Iterator[None]:
    """A forward hook on each of some modules for the time being, and one before their forward, with its keywords.

    Args:
        prepend: before hooks that are there already, so that what a module itself gives is seen.
    """
    with ExitStack() as stack:
        for module in dict.fromkeys(modules):
            stack.callback(module.register_forward_hook(hook, prepend=prepend).remove)
            if before is not None:
                stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
        yield
