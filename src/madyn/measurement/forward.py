"""Hidden states reduced to their statistics where they lie.

Only the decoder's own forward runs: no language-model head, no KV cache, and no hidden state is kept. A hook on each
layer reduces what the layer hands on (the residual sum, before any final norm) to its largest values and its median.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from madyn.errors import ArchitectureError, NonFiniteError, UsageError
from madyn.massive import tail_ranks
from madyn.measurement.inputs import explaining_images, read_inputs, require_kind, require_known_tokens
from madyn.measurement.labelling import label
from madyn.measurement.layers import Stack, find_stacks
from madyn.measurement.order_statistics import Scratch, order_statistics
from madyn.measurement.wrapping import device_of, unwrap

if TYPE_CHECKING:
    import xarray as xr

_PROBE_TOKENS = 8  # enough to tell one layer's hidden state from another's

Layers = str | Sequence[str] | None


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


@overload
def measure(
    model: nn.Module,
    input_ids: Any,
    top_k: int = 3,
    *,
    batch_size: int = 1,
    layers: Layers = None,
    attention_mask: Any = None,
    labelled: Literal[False] = False,
) -> np.ndarray: ...


@overload
def measure(
    model: nn.Module,
    input_ids: Any,
    top_k: int = 3,
    *,
    batch_size: int = 1,
    layers: Layers = None,
    attention_mask: Any = None,
    labelled: Literal[True],
) -> xr.DataArray: ...


def measure(
    model: nn.Module,
    input_ids: Any,
    top_k: int = 3,
    *,
    batch_size: int = 1,
    layers: Layers = None,
    attention_mask: Any = None,
    labelled: bool = False,
) -> np.ndarray | xr.DataArray:
    """The largest values and the median of |h| after every layer.

    |h| is taken over all S*d values of a sequence, h being the layer's own output (the last one's before the final
    norm). Equal values count as often as they occur; the median of an even count is the lower middle value.

    Args:
        model: a transformers model, with or without its head, on any device, or any module that takes token ids;
            compiled, parallelised, offloaded or with PEFT adapters too. Its dtype, mode and weights are left as they
            are; it runs without dropout. An encoder-decoder reads the same tokens in both stacks, and has the encoder's
            layers first.
        input_ids: token ids, shape (B, S), or (S,) for one sequence: a tensor, an array (of a labelled one the
            dimension "sequence" goes first, of a masked one what is masked is padding), nested lists, or what a
            tokenizer returns. For a vision transformer its pixel values, shape (B, C, H, W), floating point.
        top_k: how many of the largest values.
        batch_size: sequences forwarded together. One by default: a larger batch may change the last bits.
        layers: the path of the list of layers in the model, such as "model.layers", or several; found by running
            the model on a few tokens, once, if not given. A path in the model without its head will do too.
        attention_mask: shape (B, S), 0 at padding, which may stand before or after a sequence. It is left out: each
            sequence is measured as if it had come alone.
        labelled: the same as an xarray DataArray.

    Returns:
        shape (B, top_k + 1, L): rows top 1 to top k, then the median. float32, or float64 for a float64 model.
        Labelled it has the dims (sequence, quantity, layer), and along the layers the coordinates `stack`, the path of
        the list of layers that each is in (an encoder's, a decoder's), and `layer_in_stack`.

    Raises:
        ArchitectureError: no layers can be recognised.
        NonFiniteError: a hidden state holds NaN or infinity.
        UsageError: the ids are not whole numbers of shape (B, S), or the model has no token of such an id, or it reads
            images and no tokens, or the other way round, or top_k or batch_size is out of range.
    """
    measured = measure_with_locations(
        model, input_ids, top_k, batch_size=batch_size, layers=layers, attention_mask=attention_mask
    )
    return label(measured.statistics, measured.stacks) if labelled else measured.statistics


def measure_with_locations(
    model: nn.Module,
    inputs: Any,
    top_k: int = 3,
    *,
    batch_size: int = 1,
    layers: Layers = None,
    exclude: Sequence[int] = (),
    groups: Mapping[str, slice] | None = None,
    tails: bool = False,
    attention_mask: Any = None,
) -> Measurement:
    """As `measure`, and where the largest values stand.

    Positions are those of the input; `exclude` and `groups` count from a sequence's first token that is no padding.

    Args:
        exclude: positions that are left out of everything, such as the first token's, which often holds the most.
        groups: positions that are measured by themselves too, by a name.
        tails: whether to keep what tells if the largest values lie beyond their layer's own tail.
    """
    part = part_to_run(unwrap(model))
    given = read_inputs(inputs, attention_mask)
    require_kind(part, given.values)
    require_known_tokens(part, given.values)
    values = given.values.to(device_of(part))
    if top_k < 1 or batch_size < 1:
        raise UsageError(f"top_k is {top_k} and batch_size {batch_size}; both must be at least 1")
    with evaluating(part), explaining_images(part, values), torch.no_grad():
        stacks = _stacks(part, values, layers, model)
        reducers = [_Reducer(stack, top_k, tuple(exclude), dict(groups or {}), tails) for stack in stacks]
        with ExitStack() as hooks:
            for reducer in reducers:
                for module in dict.fromkeys(reducer.stack.modules):
                    hooks.callback(module.register_forward_hook(reducer).remove)
            for batch in given.batches(values, batch_size):
                for reducer in reducers:
                    reducer.begin(batch)
                part(**arguments_for(part, batch))
    for reducer in reducers:
        reducer.require_complete(type(part).__name__)
    statistics, positions, features = (
        np.concatenate([reducer.collect(name) for reducer in reducers], axis=2)
        for name in ("statistics", "positions", "features")
    )
    _require_finite(statistics, next(part.parameters()).dtype)
    return Measurement(
        statistics,
        positions + given.starts[:, None, None],
        features,
        np.concatenate([reducer.collect("peak")[:, 0] for reducer in reducers], axis=1),
        np.concatenate([reducer.lengths for reducer in reducers]),
        {reducer.stack.name: len(reducer.calls) for reducer in reducers},
        {name: np.concatenate([r.collect(name) for r in reducers], axis=2) for name in groups or {}},
        _tails_of(reducers) if tails else None,
    )


def part_to_run(model: nn.Module) -> Any:
    """The model without its head; of a model of several modalities, the part that reads text."""
    base: Any = getattr(model, "base_model", model)
    config: Any = getattr(base, "config", None)
    if hasattr(config, "get_text_config") and not config.is_encoder_decoder and hasattr(base, "get_decoder"):
        decoder = base.get_decoder()
        if config.get_text_config() is not config and isinstance(decoder, nn.Module):
            return getattr(decoder, "base_model", decoder)
    return base


def stacks_of(model: nn.Module, sequences: Any, layers: Layers = None) -> list[Stack]:
    """The stacks of layers of a model, with or without its head: one, or the encoder's and the decoder's.

    Args:
        sequences: token ids (B, S) that the model can read.
        layers: as in `measure`.

    Raises:
        ArchitectureError: no layers can be recognised.
        UsageError: as `measure` raises it of its input.
    """
    part = part_to_run(unwrap(model))
    values = read_inputs(sequences).values
    require_kind(part, values)
    require_known_tokens(part, values)
    values = values.to(device_of(part))
    with evaluating(part), torch.no_grad():
        return _stacks(part, values, layers, model)


_KNOWN_STACKS: WeakKeyDictionary[nn.Module, dict[Layers, list[Stack]]] = WeakKeyDictionary()


def _stacks(part: nn.Module, values: torch.Tensor, layers: Layers, model: nn.Module) -> list[Stack]:
    """The stacks of a model, looked for once: a run over thousands of steps must not search at each."""
    key = layers if layers is None or isinstance(layers, str) else tuple(layers)
    known = _KNOWN_STACKS.setdefault(part, {})
    if key not in known or not all(stack.still_in(part) for stack in known[key]):
        short = values[:1] if values.is_floating_point() else values[:1, :_PROBE_TOKENS]
        known[key] = find_stacks(part, arguments_for(part, short), layers, owners=(model,))
    return known[key]


def arguments_for(part: Any, batch: torch.Tensor) -> dict[str, Any]:
    """What the model's forward takes for a batch, by name."""
    config = getattr(part, "config", None)
    names = list(inspect.signature(part.forward).parameters)
    if batch.is_floating_point():
        name = part.main_input_name if "pixel_values" not in names and config is not None else "pixel_values"
        return {name if name in names else names[0]: batch.to(next(part.parameters()).dtype)}
    arguments: dict[str, Any] = {"input_ids" if "input_ids" in names else names[0]: batch}
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in names:
        arguments["decoder_input_ids"] = batch
    if config is not None and hasattr(config, "use_cache"):
        arguments["use_cache"] = False
    return arguments


class _Reducer:
    """A hook that keeps the statistics of a stack's layers, a row a sequence, on each layer's own device."""

    def __init__(
        self, stack: Stack, top_k: int, exclude: tuple[int, ...], groups: dict[str, slice], tails: bool
    ) -> None:
        self.stack, self.top_k, self.exclude, self.groups, self.tails = stack, top_k, exclude, groups, tails
        self.calls: list[list[dict[str, torch.Tensor]]] = []  # by layer, then by sequence
        self.lengths: list[int] = []  # by layer
        self._scratch = Scratch()
        self._at, self._sequences, self._batch, self._length = 0, 0, 0, 0

    def begin(self, batch: torch.Tensor) -> None:
        """A batch comes; its first layer is the first again."""
        self._at, self._batch, self._length = 0, len(batch), batch.shape[1]
        self._sequences += len(batch)

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = self.stack.hidden_state(output, self._length)
        if hidden is None or len(hidden) != self._batch:
            raise ArchitectureError(f"{type(module).__name__} does not return a hidden state of shape (B, S, d)")
        if self._at == len(self.calls):
            self.calls.append([])
            self.lengths.append(0)
        self.lengths[self._at] = max(self.lengths[self._at], hidden[0].numel() // hidden.shape[-1])
        self.calls[self._at] += [self._reduce(sequence) for sequence in hidden]
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


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the time being; every module gets its own mode back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
