"""What attends to a massive activation: the share of its attention that each head gives to given positions.

Attention sinks stand where massive activations do (Sun et al. 2024, Xiao et al. 2024): heads that have nothing to say
look there. The weights are read off the attention modules while the model runs, and reduced where they lie: a head's
S x S weights are never kept. The usual fused kernels give no weights, so that the model computes its attention in the
eager form for that pass, which is the same function with other rounding.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from madyn.errors import ArchitectureError, UsageError, listed
from madyn.intervention.passes import Passes, hooked
from madyn.measurement.forward import Layers
from madyn.measurement.layers import leaving_no_hooks

_ROUNDING = 0.01  # a row of 16-bit weights sums to 1 within this; what lacks more goes to a learned sink
_SAME_FUNCTION = ("sdpa", "flash", "flex", "paged")  # names of implementations that eager stands for


def attention_shares(
    model: nn.Module, sequences: Any, positions: int | Sequence[int] = 0, *, layers: Layers = None
) -> pd.DataFrame:
    """The share of attention that every head gives to given positions.

    A head's share is the mean of its weight on the position over the queries that can see it, those after it (in a
    model that looks both ways all others), and over the sequences. With sliding windows the queries beyond the window
    count with 0.

    Args:
        model: with or without its head; run as it is, under an intervention too. Its attention is switched to the
            eager form for the time being, and is then what it was.
        sequences: token ids (B, S).
        positions: those of massive activations, counted from 0; the same ones in all sequences.
        layers: as in `measure`.

    Returns:
        a row a layer, head and position: `layer` (0-indexed; an encoder's before the decoder's), `head`, `position`,
        `share`, and `sink`, the share that goes to no token but to a sink that was learned (gpt-oss), over the same
        queries; 0 where there is none. `attrs["remarks"]` says what is worth knowing of them, a sentence each.

    Raises:
        ArchitectureError: the model has no attention weights (a state-space model), or gives none.
        UsageError: a position is outside of the sequences, or the last of one: nothing comes after it.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> shares = madyn.intervention.attention_shares(model, ids, positions=0)
    >>> list(shares.columns[:3])
    ['layer', 'head', 'position']
    """
    passes = Passes.of(model, sequences, layers)
    places = [passes.position(place, after=1) for place in _listed(positions)]
    with eager_attention(passes.part) as former:
        found = _Weights(passes, places)
        found.read()
        if not found.rows and _asks_for_weights(passes.part):
            with leaving_no_hooks(passes.part):
                found.read(output_attentions=True)
    name = type(passes.part).__name__
    if not found.rows:
        raise ArchitectureError(f"{name} gives no attention weights; the share of a position cannot be told")
    shares = found.table()
    shares.attrs["remarks"] = [*_said_of_form(former), *found.remarks()]
    return shares


def _listed(positions: Any) -> list[Any]:
    places = [positions] if np.ndim(positions) == 0 else listed("positions", positions)
    if not places:
        raise UsageError("positions is empty; expected at least one")
    return list(dict.fromkeys(places))


def _asks_for_weights(part: Any) -> bool:
    """Whether it is a model whose attention gives its weights only where they are asked for."""
    return "output_attentions" in inspect.signature(part.forward).parameters


def _said_of_form(former: str | None) -> list[str]:
    if former is None:
        return []
    return [f"the attention was computed in its eager form, since {former} gives no weights"]


@contextmanager
def eager_attention(part: Any) -> Iterator[str | None]:
    """The eager form of a model's attention for the time being; gives the name of the one that it has otherwise.

    An implementation of somebody's own (another softmax, say) is left as it is: eager would be another function.
    """
    former = getattr(getattr(part, "config", None), "_attn_implementation", None)
    can = getattr(part, "_can_set_attn_implementation", None)
    if former is None or can is None or not can() or not former.startswith(_SAME_FUNCTION):
        yield None
        return
    kept = [(config, config._attn_implementation) for config in _configs(part)]
    part.set_attn_implementation("eager")
    try:
        yield former
    finally:
        for config, implementation in kept:
            config._attn_implementation_internal = implementation


def _configs(part: nn.Module) -> list[Any]:
    """The configs of a model and of all models in it, with those inside them."""
    left = [config for module in part.modules() if hasattr(config := getattr(module, "config", None), "sub_configs")]
    found: dict[int, Any] = {}
    while left:
        config: Any = left.pop()
        if id(config) not in found:
            found[id(config)] = config
            left += [inner for name in config.sub_configs if (inner := getattr(config, name, None)) is not None]
    return list(found.values())


class _Weights:
    """Reads the weights of each layer's attention over itself, and keeps their means."""

    def __init__(self, passes: Passes, places: list[int]) -> None:
        self.passes, self.places = passes, places
        self.rows: list[tuple[int, int, int, float, float]] = []  # layer, head, position, share, sink
        self.bare: set[int] = set()  # layers without weights
        self.beyond = False  # whether weights of a query sum to more than 1
        self._layer, self._length, self._open = -1, 0, False

    def read(self, **arguments: Any) -> None:
        self.rows, self.bare = [], set()
        for number, ids in enumerate(self.passes.sequences):
            self._layer, self._length = -1, ids.shape[1]
            modules = [module for stack in self.passes.stacks for module in stack.modules]
            inner = [m for module in modules for m in module.modules() if m is not module]
            with hooked(modules, self._end, before=self._begin), hooked(inner, self._see):
                self.passes.run(number, **arguments)

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._layer, self._open = self._layer + 1, True

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._open:
            self.bare.add(self._layer)
        self._open = False

    def _see(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """The first weights in a layer: those that follow in a decoder look at the encoder."""
        weights = _weights_in(output, self._length) if self._open else None
        if weights is None:
            return
        self._open = False
        weights = weights[0].double()
        causal = not bool(weights.triu(1).any())
        sums = weights.sum(dim=-1)
        self.beyond |= bool((sums > 1 + _ROUNDING).any())
        lacking = 1 - sums if bool((sums < 1 - _ROUNDING).any()) else torch.zeros_like(sums)
        for place in self.places:
            queries = torch.arange(self._length, device=weights.device)
            queries = queries[queries > place] if causal else queries[queries != place]
            shares = weights[:, queries, place].mean(dim=1).tolist()
            sinks = lacking[:, queries].mean(dim=1).clamp(min=0).tolist()
            self.rows += [
                (self._layer, head, place, *pair) for head, pair in enumerate(zip(shares, sinks, strict=True))
            ]

    def table(self) -> pd.DataFrame:
        table = pd.DataFrame(self.rows, columns=pd.Index(["layer", "head", "position", "share", "sink"]))
        return pd.DataFrame(table.groupby(["layer", "head", "position"], as_index=False).mean())

    def remarks(self) -> list[str]:
        said = []
        if self.bare:
            said.append(f"layers {', '.join(map(str, sorted(self.bare)))} have no attention weights and are left out")
        if any(row[-1] > 0 for row in self.rows):
            said.append("weights do not sum to 1: what is left goes to a sink that was learned, in the column `sink`")
        if self.beyond:
            said.append("weights of some queries sum to more than 1: this attention is not normalised")
        return said


def _weights_in(output: Any, length: int) -> torch.Tensor | None:
    """Attention weights (1, H, S, S) among what a module gives: none of them negative, as a bias may be."""
    found = [one for one in output if isinstance(one, torch.Tensor)] if isinstance(output, (tuple, list)) else []
    for one in reversed(found):
        square = one.ndim == 4 and one.shape[0] == 1 and one.shape[-2:] == (length, length)
        if square and one.is_floating_point() and bool((one >= 0).all()):
            return one
    return None
