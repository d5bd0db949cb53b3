"""Statistics from a training batch's own forward: no probe and no forward besides, but another input at every step.

Hooks stand on the layers for one forward only. A layer that is run again while gradients are computed (gradient
checkpointing) is not counted twice, since they are gone by then. Nothing that goes wrong here ends the training step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from madyn.measurement import Measurement
from madyn.measurement.layers import Stack
from madyn.measurement.reducing import Reducing, Row
from madyn.monitor.probing import batch_inputs


class Sample:
    """Takes the statistics of the next forward that has enough sequences.

    Args:
        model: whose forward is looked at, without its wrappers.
        stacks: its layers.
        sequences: how many of a batch are taken: the first ones.
        top_k: how many of the largest values.
    """

    def __init__(self, model: nn.Module, stacks: Sequence[Stack], sequences: int, top_k: int = 3) -> None:
        self._model, self._stacks, self._sequences, self._top_k = model, stacks, sequences, top_k
        self._names = list(inspect.signature(model.forward).parameters)
        self._reducing: Reducing | None = None
        self._starts = np.zeros(sequences, int)
        self._values: np.ndarray | None = None
        self._hooks = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after),
        ]
        self.result: tuple[Measurement, np.ndarray] | None = None
        self.failure: Exception | None = None

    def close(self) -> None:
        """Take all hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._end()

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.result is None and self.failure is None and module.training:
            try:
                self._begin(args, kwargs)
            except Exception as e:
                self.failure = e
                self._end()

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._end()  # of a forward that failed, and was caught
        values, mask = batch_inputs({**dict(zip(self._names, args, strict=False)), **kwargs})
        if values is None or len(values) < self._sequences:
            return
        rows = _rows(values, mask, self._sequences)
        self._starts = np.array([0 if part is None else part.start for _, part in rows])
        self._values = values[: self._sequences].detach().cpu().numpy()
        self._reducing = Reducing(self._stacks, self._top_k, guard=self._guarded).__enter__()
        self._reducing.begin(values.shape[1] if values.ndim == 2 else 0, rows)

    def _guarded(self, hook: Callable[..., None]) -> Callable[..., None]:
        """A layer's hook that computes no gradients, and after whose failure the training step goes on."""

        def look(module: nn.Module, args: Any, output: Any) -> None:
            if self.failure is None:
                try:
                    with torch.no_grad():
                        hook(module, args, output)
                except Exception as e:
                    self.failure = e

        return look

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._reducing is None or self._values is None:
            return
        try:
            if self.failure is None:
                self.result = self._reducing.measurement(self._model, self._starts), self._values
        except Exception as e:
            self.failure = e
        self._end()

    def _end(self) -> None:
        if self._reducing is not None:
            self._reducing.__exit__()
            self._reducing = None


def _rows(values: torch.Tensor, mask: torch.Tensor | None, count: int) -> list[Row]:
    """The first sequences of a batch, each without its padding."""
    if mask is None or values.ndim != 2:
        return [(row, None) for row in range(count)]
    kept = mask[:count].bool().cpu().numpy()
    first = kept.argmax(axis=1)
    last = kept.shape[1] - kept[:, ::-1].argmax(axis=1)
    return [(row, slice(int(first[row]), int(last[row]))) for row in range(count)]
