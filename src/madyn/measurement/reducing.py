"""Hooks that reduce what the layers hand on to order statistics, where it lies.

What a layer hands on is the residual sum, before any final norm. Whoever runs the forward, the measuring of a model or
a training step, says before each batch which of its sequences are to be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from madyn.errors import ArchitectureError, NonFiniteError, UsageError
from madyn.massive import tail_ranks
from madyn.measurement.layers import Stack
from madyn.measurement.order_statistics import Scratch, order_statistics

Row = tuple[int, slice | None]
"""A sequence of a batch, and the part of it that is looked at; None for all of it."""


@dataclass(frozen=True)
class Tails:
    """The tail of each sequence's |h| at each layer.

    Attributes:
        values: those at the ranks of `massive.tail_ranks`, shape (B, L, 4).
        count, features: how many values |h| and features they were taken from, shape (L,).
    """

    values: np.ndarray
    count: np.ndarray
    features: np.ndarray


@dataclass(frozen=True)
class Measurement:
    """What one checkpoint shows on a set of sequences.

    Attributes:
        statistics: shape (B, k + 1, L): top 1 to top k, then the median of |h|.
        positions, features: where each of the top k stands, shape (B, k, L), both counted from 0.
        peaks: the largest |h|, shape (B, L), at whatever position: at those that are left out too.
        lengths: how many positions the longest sequence has at each layer, shape (L,), those left out among them.
        stacks: the path of each stack of layers and how many of the L layers are its own, in order.
        groups: by the name of a group of positions, the statistics over those positions alone.
        tails: what `massive.judge_tails` asks for, where it was asked for.
    """

    statistics: np.ndarray
    positions: np.ndarray
    features: np.ndarray
    peaks: np.ndarray
    lengths: np.ndarray
    stacks: dict[str, int] = field(default_factory=dict)
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    tails: Tails | None = None


class Reducing:
    """The layers of a model with hooks that reduce what they hand on, while a `with` block lasts.

    Args:
        stacks: the stacks of layers.
        top_k, exclude, groups, tails: as `measure_with_locations` takes them.
        guard: what each hook is called through, for a forward that must not fail for a hook's sake.
    """

    def __init__(
        self,
        stacks: Sequence[Stack],
        top_k: int,
        exclude: tuple[int, ...] = (),
        groups: dict[str, slice] | None = None,
        tails: bool = False,
        guard: Callable[[Callable[..., None]], Callable[..., None]] = lambda hook: hook,
    ) -> None:
        self._guard = guard
        self._groups, self._tails = groups or {}, tails
        self._reducers = [_Reducer(stack, top_k, exclude, self._groups, tails) for stack in stacks]
        self._hooks = ExitStack()

    def __enter__(self) -> Reducing:
        for reducer in self._reducers:
            for module in dict.fromkeys(reducer.stack.modules):
                self._hooks.callback(module.register_forward_hook(self._guard(reducer)).remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def begin(self, length: int, rows: Sequence[Row]) -> None:
        """A forward of a batch comes. Args: how many positions its sequences have, and which are looked at."""
        for reducer in self._reducers:
            reducer.begin(length, rows)

    def measurement(self, model: nn.Module, starts: np.ndarray) -> Measurement:
        """What the forwards have shown.

        Args:
            model: whose layers they are.
            starts: where each sequence's own tokens begin in the input, shape (B,).

        Raises:
            ArchitectureError: a layer did not run once for each sequence.
            NonFiniteError: a hidden state holds NaN or infinity.
        """
        for reducer in self._reducers:
            reducer.require_complete(type(model).__name__)
        statistics, positions, features = (self._collect(name) for name in ("statistics", "positions", "features"))
        _require_finite(statistics, next(model.parameters()).dtype)
        return Measurement(
            statistics,
            positions + starts[:, None, None],
            features,
            self._collect("peak")[:, 0],
            np.concatenate([reducer.lengths for reducer in self._reducers]),
            {reducer.stack.name: len(reducer.calls) for reducer in self._reducers},
            {name: self._collect(name) for name in self._groups},
            _tails_of(self._reducers) if self._tails else None,
        )

    def _collect(self, name: str) -> np.ndarray:
        return np.concatenate([reducer.collect(name) for reducer in self._reducers], axis=2)


class _Reducer:
    """A hook that keeps the statistics of a stack's layers, a row a sequence, on each layer's own device."""

    def __init__(
        self, stack: Stack, top_k: int, exclude: tuple[int, ...], groups: dict[str, slice], tails: bool
    ) -> None:
        self.stack, self.top_k, self.exclude, self.groups, self.tails = stack, top_k, exclude, groups, tails
        self.calls: list[list[dict[str, torch.Tensor]]] = []  # by layer, then by sequence
        self.lengths: list[int] = []  # by layer
        self._scratch = Scratch()
        self._at, self._sequences, self._length = 0, 0, 0
        self._rows: Sequence[Row] = ()

    def begin(self, length: int, rows: Sequence[Row]) -> None:
        """A batch comes; its first layer is the first again."""
        self._at, self._length, self._rows = 0, length, rows
        self._sequences += len(rows)

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = self.stack.hidden_state(output, self._length)
        if hidden is None or len(hidden) <= max(row for row, _ in self._rows):
            raise ArchitectureError(f"{type(module).__name__} does not return a hidden state of shape (B, S, d)")
        if self._at == len(self.calls):
            self.calls.append([])
            self.lengths.append(0)
        self.lengths[self._at] = max(self.lengths[self._at], hidden[0].numel() // hidden.shape[-1])
        self.calls[self._at] += [
            self._reduce(hidden[row] if part is None else hidden[row, part]) for row, part in self._rows
        ]
        self._at += 1

    def _reduce(self, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        """All that is kept of one sequence, shape (S, d) or, of an image, (H, W, d)."""
        rows = hidden.flatten(end_dim=-2)
        kept = _positions_left(len(rows), self.exclude, rows.device)
        values, indices = self._order_statistics(rows if kept is None else rows[kept])
        position, feature = indices // rows.shape[-1], indices % rows.shape[-1]
        found = {
            "statistics": values,
            "positions": position if kept is None else kept[position],
            "features": feature,
            "peak": values[:1] if kept is None else rows.abs().max().to(values.dtype)[None],
        }
        for name, part in self.groups.items():
            found[name] = self._order_statistics(rows[part])[0]
        if self.tails:
            found["tails"], found["sizes"] = _tail(rows if kept is None else rows[kept])
        return found

    def _order_statistics(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if rows.numel() < self.top_k:
            raise UsageError(f"top_k is {self.top_k}, and a hidden state has only {rows.numel()} values")
        values, indices = order_statistics(rows, self.top_k, self._scratch)
        return (values if values.dtype == torch.float64 else values.float()), indices

    def require_complete(self, name: str) -> None:
        for number, rows in enumerate(self.calls):
            if len(rows) != self._sequences:
                raise ArchitectureError(f"layer {number} of {name} did not run once for each sequence")
        if len(self.calls) < len(set(self.stack.modules)):
            raise ArchitectureError(f"only {len(self.calls)} of the layers {self.stack.name} of {name} ran")

    def collect(self, name: str) -> np.ndarray:
        """What was kept under a name, shape (B, rows, L)."""
        every = [kept[name] for rows in self.calls for kept in rows]
        # In one piece: a copy a layer would wait for a GPU as often. The layers may be on several.
        together = torch.stack([one.to(every[0].device) for one in every]).cpu().numpy()
        return together.reshape(len(self.calls), self._sequences, -1).transpose(1, 2, 0)


def _tail(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """|h| at the ranks that a tail is read from, among all values and the features' largest; how many there are."""
    sizes = rows.numel(), rows.shape[1]
    a, b, i, j = tail_ranks(*sizes)
    values = order_statistics(rows, b)[0]
    maxima = rows.abs().amax(dim=0).topk(j).values
    return torch.stack([values[a - 1], values[b - 1], maxima[i - 1], maxima[j - 1]]).double(), torch.tensor(sizes)


def _tails_of(reducers: Sequence[_Reducer]) -> Tails:
    values = np.concatenate([reducer.collect("tails") for reducer in reducers], axis=2)
    count, features = np.concatenate([reducer.collect("sizes")[0] for reducer in reducers], axis=1)
    return Tails(values.swapaxes(1, 2), count, features)


def _positions_left(count: int, exclude: tuple[int, ...], device: torch.device) -> torch.Tensor | None:
    if not exclude:
        return None
    out_of_range = [p for p in exclude if not 0 <= p < count]
    if out_of_range:
        raise UsageError(f"position {out_of_range[0]} is to be left out of sequences of {count}")
    left = torch.ones(count, dtype=torch.bool)
    left[list(exclude)] = False
    if not left.any():
        raise UsageError(f"all {count} positions are left out; nothing is left to measure")
    return left.nonzero()[:, 0].to(device)


def _require_finite(statistics: np.ndarray, dtype: torch.dtype) -> None:
    # A NaN or infinite hidden value ranks highest, so the first row shows it.
    bad = np.argwhere(~np.isfinite(statistics[:, 0, :]))
    if len(bad):
        sequence, layer = (int(i) for i in bad[np.lexsort(bad.T)][0])
        advice = "; float16 overflows past 65504: measure in float32 or bfloat16" if dtype == torch.float16 else ""
        raise NonFiniteError(f"the hidden state after layer {layer} is not finite on sequence {sequence}{advice}")
