"""What a layer adds to the residual stream, found by what its modules do and not by their names.

A layer's output is its input and a few addends: what its attention gives, what its MLP gives, in some architectures
after a norm or times a constant. They are outputs of modules inside the layer, but of which ones differs: those whose
sum is the layer's change. This is asked of several thousand values of a sequence at once, up to the rounding of the
additions, so that a wrong set of modules does not pass. Names decide only what an addend is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import nn

from madyn.intervention.passes import Passes, hooked
from madyn.measurement.layers import Stack, first_tensor

_SAMPLED = 4096  # values of a sequence that a set of addends is held against
_MOST = 3  # addends of a layer
_TRIED = 32  # modules whose sums of three are tried
_ATTENTION = re.compile(r"attn|attention")
_MLP = re.compile(r"mlp|ffn|feed_?forward|moe|expert|(^|\.)(fc|dense|wo)\d?($|\.)")


@dataclass(frozen=True)
class Addend:
    """One of what a layer adds.

    Attributes:
        part: "attention", "mlp", or the name of the layer's module that gives it (a state-space model's "mixer");
            "layer" for the whole of a layer whose addends were not found.
        value: what it adds at the place that is looked at.
        module: the path, in the layer, of the module whose output it is.
        source: the path of the module that gives it before any norm: the same one, but in a layer with norms behind
            its attention and MLP.
        factor: a constant that the layer multiplies the module's output with.
    """

    part: str
    value: float
    module: str = ""
    source: str = ""
    factor: float = 1.0


@dataclass
class LayerRun:
    """One call of a layer on one sequence, at the place that is looked at.

    Attributes:
        before, after: the residual stream's value there, as the layer takes it and as it hands it on.
        addends: their sum is the difference, up to rounding.
        found: whether modules were found whose outputs are added.
    """

    before: float
    after: float
    addends: list[Addend]
    found: bool


def layer_runs(passes: Passes, number: int, position: int, feature: int) -> list[LayerRun]:
    """Every layer's addends at one place of one sequence.

    Args:
        passes: of a model of one stack.
        number: of the sequence.
    """
    (stack,) = passes.stacks
    recorder = _Recorder(stack, passes.sequences[number].shape[1], position, feature)
    with recorder.watching():
        passes.run(number)
    return recorder.runs


@dataclass
class _Seen:
    """The output of one module or several equal ones, at the sampled values; the first is the place looked at."""

    names: list[str]
    values: np.ndarray
    norm: bool  # all of them are norms
    source: str  # the module before a norm


@dataclass
class _Recorder:
    stack: Stack
    length: int
    position: int
    feature: int
    runs: list[LayerRun] = field(default_factory=list)
    _layer: nn.Module | None = None
    _before: np.ndarray | None = None
    _seen: list[_Seen] = field(default_factory=list)
    _known: tuple[str, ...] = ()  # modules that were the addends in the layer before
    _places: torch.Tensor | None = None

    def watching(self) -> ExitStack:
        names = {inside: name for m in self.stack.modules for name, inside in m.named_modules() if name}
        stack = ExitStack()
        stack.enter_context(hooked(self.stack.modules, self._end, before=self._begin))
        stack.enter_context(hooked(names, lambda module, inputs, output: self._see(names[module], module, output)))
        return stack

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._layer, self._seen = module, []
        given = [one for one in (*args, *kwargs.values()) if self._flat(one) is not None]
        self._before = self._sample(given[0]) if given else None

    def _flat(self, tensor: Any) -> torch.Tensor | None:
        """A hidden state of the whole sequence as one row of values, token by token; None for anything else."""
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or not 2 <= tensor.ndim <= 3:
            return None
        if tensor.shape[-1] <= self.feature or tensor.numel() != self.length * tensor.shape[-1]:
            return None
        return tensor.detach().reshape(-1)

    def _sample(self, tensor: torch.Tensor) -> np.ndarray | None:
        flat = self._flat(tensor)
        if flat is None:
            return None
        if self._places is None:
            width = tensor.shape[-1]
            drawn = np.random.default_rng(0).permutation(flat.numel())[:_SAMPLED]
            self._places = torch.as_tensor([self.position * width + self.feature, *drawn])
        if flat.numel() <= int(self._places.max()):
            return None
        return flat[self._places.to(flat.device)].double().cpu().numpy()

    def _see(self, name: str, module: nn.Module, output: Any) -> None:
        if self._before is None or self._layer is None:
            return
        tensor = first_tensor(output)
        values = None if tensor is None or self._flat(tensor) is None else self._sample(tensor)
        if values is None or len(values) != len(self._before) or not values.any():
            return
        norm = "norm" in type(module).__name__.lower()
        for known in self._seen:
            if np.array_equal(known.values, values, equal_nan=True):
                known.names.append(name)
                known.norm &= norm
                return
        before = next((one for one in reversed(self._seen) if not one.norm), None)
        source = before.source if norm and before is not None else name
        self._seen.append(_Seen([name], values, norm, source))

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = self.stack.hidden_state(output, self.length)
        after = None if hidden is None else self._sample(hidden)
        if after is None or self._before is None:
            self.runs.append(LayerRun(np.nan, np.nan, [], False))
            return
        eps = torch.finfo(first_tensor(output).dtype).eps  # pyright: ignore[reportOptionalMemberAccess]
        addends = self._addends(after, eps)
        whole = [Addend("layer", float(after[0] - self._before[0]))]
        self.runs.append(LayerRun(float(self._before[0]), float(after[0]), addends or whole, bool(addends)))
        self._layer = None

    def _addends(self, after: np.ndarray, eps: float) -> list[Addend]:
        assert self._before is not None
        change, size = after - self._before, np.abs(after) + np.abs(self._before)
        for chosen in self._sets():
            values = np.stack([one.values for one in chosen])
            if _sums_to(change, values, size, eps):
                return self._named(chosen, np.ones(len(chosen)))
        for count in (1, 2):
            for chosen in combinations(self._seen[:_TRIED], count):
                values = np.stack([one.values for one in chosen])
                weight = 1 / (size + np.abs(values).sum(axis=0) + 1e-30)  # a large value is rounded by as much
                factors = np.linalg.lstsq((weight * values).T, weight * change, rcond=None)[0]
                if _sums_to(change, factors[:, None] * values, size, eps):
                    return self._named(chosen, factors)
        return []

    def _sets(self) -> Iterator[tuple[_Seen, ...]]:
        """Sets of modules to try, first those that were the addends in the layer before."""
        known = tuple(one for one in self._seen if one.names[0] in self._known)
        if known and len(known) == len(self._known):
            yield known
        for count in range(1, _MOST + 1):
            yield from combinations(self._seen if count < _MOST else self._seen[:_TRIED], count)

    def _named(self, chosen: tuple[_Seen, ...], factors: np.ndarray) -> list[Addend]:
        self._known = tuple(one.names[0] for one in chosen)
        return [
            Addend(_part(one), float(factor * one.values[0]), one.names[0], one.source, float(factor))
            for one, factor in zip(chosen, factors, strict=True)
        ]


def _part(seen: _Seen) -> str:
    names = [seen.source] if seen.norm else seen.names
    if any(_ATTENTION.search(name) for name in names):
        return "attention"
    if any(_MLP.search(name) for name in names):
        return "mlp"
    return names[-1].split(".")[0]


def _sums_to(change: np.ndarray, addends: np.ndarray, size: np.ndarray, eps: float) -> bool:
    """Whether addends are a change, up to the rounding of as many additions; a few values are asked first."""
    for part in (slice(1, 65), slice(None)):
        room = 4 * eps * (size[part] + np.abs(addends[:, part]).sum(axis=0))
        if not (np.abs(change[part] - addends[:, part].sum(axis=0)) <= room + 1e-30).all():
            return False
    return True
