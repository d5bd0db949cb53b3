"""Running a model again from behind one of its layers, when nothing before it is to change.

Every layer up to that one hands on what the last of them handed on before, without computing anything. What the model
does around its layers (masks, rotary angles, norm, head) runs as ever, so that the outcome is the whole forward's, bit
for bit. A layer that occurs twice in a stack (ALBERT's) cannot be told apart from itself, and is never skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn


def can_resume(modules: Sequence[nn.Module]) -> bool:
    return len(set(modules)) == len(modules)


@contextmanager
def recording(module: nn.Module) -> Iterator[list[Any]]:
    """The list that the outputs of a layer are appended to, a copy each, before any hook that is there already."""
    kept: list[Any] = []
    handle = module.register_forward_hook(lambda module, inputs, output: kept.append(copied(output)), prepend=True)
    try:
        yield kept
    finally:
        handle.remove()


@contextmanager
def resumed_behind(modules: Sequence[nn.Module], layer: int, output: Any) -> Iterator[None]:
    """Layers 0 to `layer` hand on copies of `output` for the time being. Hooks on them run as ever."""
    with ExitStack() as stack:
        for module in modules[: layer + 1]:
            stack.enter_context(_answering(module, output))
        yield


@contextmanager
def _answering(module: nn.Module, output: Any) -> Iterator[None]:
    own = vars(module).get("forward")  # where accelerate or a user has put one already
    vars(module)["forward"] = lambda *args, **kwargs: copied(output)
    try:
        yield
    finally:
        if own is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = own


def copied(output: Any) -> Any:
    """A layer's output with its tensors copied, for hooks and layers that work in place."""
    if isinstance(output, torch.Tensor):
        return output.clone()
    if isinstance(output, (tuple, list)):
        return type(output)(copied(one) for one in output)
    return output
