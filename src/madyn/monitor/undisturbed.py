"""A measurement inside a training run that leaves no trace in it: neither in its numbers, nor in its modes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """The random numbers of a run stay as they are; what runs meanwhile runs in the weights' own precision, eagerly.

    A model that was compiled in place would skip hooks that come after it was compiled, and a surrounding autocast
    would measure another model than the one that a checkpoint of this step holds.
    """
    with ExitStack() as stack:
        devices = [device] if device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=devices))
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if (
            "torch._dynamo" in sys.modules
        ):  # where it was never loaded nothing is compiled, and it takes seconds to load
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def rank() -> int:
    """Which of the processes that train together this is; 0 where it trains alone."""
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
