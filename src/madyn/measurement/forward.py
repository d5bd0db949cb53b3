"""Hidden states reduced to their statistics where they lie.

Only the decoder's own forward runs: no language-model head, no KV cache, and no hidden state is kept. A hook on each
layer reduces what the layer hands on (the residual sum, before any final norm) to its largest values and its median.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from madyn.errors import ArchitectureError, NonFiniteError, UsageError
from madyn.measurement.layers import find_layers
from madyn.measurement.order_statistics import order_statistics


@dataclass(frozen=True)
class Measurement:
    """What one checkpoint shows on a set of sequences.

    Attributes:
        statistics: shape (B, k + 1, L): top 1 to top k, then the median of |h|.
        positions, features: where each of the top k stands, shape (B, k, L), both counted from 0.
    """

    statistics: np.ndarray
    positions: np.ndarray
    features: np.ndarray


def measure(model: nn.Module, input_ids: Any, top_k: int = 3, *, batch_size: int = 1) -> np.ndarray:
    """The largest values and the median of |h| after every decoder layer.

    |h| is taken over all S*d values of a sequence, h being the layer's own output (the last one's before the final
    norm). Equal values count as often as they occur; the median of an even count is the lower middle value.

    Args:
        model: a transformers model, with or without its head, on any device. Its dtype, mode and weights are left as
            they are; it runs without dropout.
        input_ids: token ids, shape (B, S), or (S,) for one sequence: a tensor, an array or nested lists.
        top_k: how many of the largest values.
        batch_size: sequences forwarded together. One by default: a larger batch may change the last bits.

    Returns:
        shape (B, top_k + 1, L): rows top 1 to top k, then the median. float32, or float64 for a float64 model.

    Raises:
        ArchitectureError: no decoder layers can be recognised.
        NonFiniteError: a hidden state holds NaN or infinity.
        UsageError: the ids are not whole numbers of shape (B, S), or top_k or batch_size is out of range.
    """
    return measure_with_locations(model, input_ids, top_k, batch_size=batch_size).statistics


def measure_with_locations(model: nn.Module, input_ids: Any, top_k: int = 3, *, batch_size: int = 1) -> Measurement:
    """As `measure`, and where the largest values stand."""
    decoder: Any = getattr(model, "base_model", model)
    layers = find_layers(decoder)
    ids = _token_ids(input_ids).to(next(decoder.parameters()).device)
    if top_k < 1 or batch_size < 1:
        raise UsageError(f"top_k is {top_k} and batch_size {batch_size}; both must be at least 1")
    reducers = [_Reducer(top_k) for _ in layers]
    arguments = {"use_cache": False} if hasattr(getattr(decoder, "config", None), "use_cache") else {}
    with _hooked(layers, reducers), _evaluating(decoder), torch.no_grad():
        for batch in ids.split(batch_size):
            decoder(batch, **arguments)
    silent = [number for number, reducer in enumerate(reducers) if len(reducer.statistics) != len(ids)]
    if silent:
        raise ArchitectureError(f"layer {silent[0]} of {type(model).__name__} did not run once for each sequence")
    statistics = _by_layer([r.statistics for r in reducers])
    _require_finite(statistics, next(decoder.parameters()).dtype)
    return Measurement(
        statistics, _by_layer([r.positions for r in reducers]), _by_layer([r.features for r in reducers])
    )


def _by_layer(rows: list[list[torch.Tensor]]) -> np.ndarray:
    """Rows by layer and sequence to an array (B, k, L)."""
    return np.stack([torch.stack(layer).cpu().numpy() for layer in rows], axis=2)


class _Reducer:
    """A hook that keeps a layer's statistics, a row a sequence, on the layer's own device."""

    def __init__(self, top_k: int) -> None:
        self.top_k = top_k
        self.statistics: list[torch.Tensor] = []
        self.positions: list[torch.Tensor] = []
        self.features: list[torch.Tensor] = []

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, (tuple, list)) else output
        if not isinstance(hidden, torch.Tensor) or hidden.ndim != 3:
            raise ArchitectureError(f"{type(module).__name__} does not return a hidden state of shape (B, S, d)")
        for sequence in hidden:
            if sequence.numel() < self.top_k:
                raise UsageError(f"top_k is {self.top_k}, and a hidden state has only {sequence.numel()} values")
            values, indices = order_statistics(sequence, self.top_k)
            self.statistics.append(values if values.dtype == torch.float64 else values.float())
            self.positions.append(indices // sequence.shape[-1])
            self.features.append(indices % sequence.shape[-1])


def _token_ids(input_ids: Any) -> torch.Tensor:
    try:
        ids = torch.as_tensor(input_ids)
    except (TypeError, ValueError, RuntimeError) as e:
        raise UsageError(f"input_ids are not an array of token ids: {e}") from e
    ids = ids.unsqueeze(0) if ids.ndim == 1 else ids
    if ids.ndim != 2 or 0 in ids.shape or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise UsageError(f"input_ids of shape {tuple(ids.shape)} and {ids.dtype}; whole numbers (B, S) are needed")
    return ids.long()


def _require_finite(statistics: np.ndarray, dtype: torch.dtype) -> None:
    # A NaN or infinite hidden value ranks highest, so the first row shows it.
    bad = np.argwhere(~np.isfinite(statistics[:, 0, :]))
    if len(bad):
        sequence, layer = (int(i) for i in bad[np.lexsort(bad.T)][0])
        advice = "; float16 overflows past 65504: measure in float32 or bfloat16" if dtype == torch.float16 else ""
        raise NonFiniteError(f"the hidden state after layer {layer} is not finite on sequence {sequence}{advice}")


@contextmanager
def _hooked(layers: nn.ModuleList, hooks: list[_Reducer]) -> Iterator[None]:
    handles = [layer.register_forward_hook(hook) for layer, hook in zip(layers, hooks, strict=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the time being; every module gets its own mode back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
