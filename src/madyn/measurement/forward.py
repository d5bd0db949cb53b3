"""Hidden states reduced to their statistics where they lie.

Only the decoder's own forward runs: no language-model head, no KV cache, and no hidden state is kept. Hooks on the
layers reduce what each hands on (`reducing`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, overload
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from madyn.errors import UsageError
from madyn.measurement.inputs import explaining_images, read_inputs, require_kind, require_known_tokens
from madyn.measurement.labelling import label
from madyn.measurement.layers import Stack, find_stacks
from madyn.measurement.reducing import Measurement, Reducing
from madyn.measurement.wrapping import device_of, unwrap

if TYPE_CHECKING:
    import xarray as xr

_PROBE_TOKENS = 8  # enough to tell one layer's hidden state from another's

Layers = str | Sequence[str] | None


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

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> madyn.measure(model, ids).shape  # sequences, top 1 to 3 and the median, layers
    (2, 4, 2)
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

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> madyn.measurement.measure_with_locations(model, ids).positions.shape
    (2, 3, 2)
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
        with Reducing(stacks, top_k, tuple(exclude), dict(groups or {}), tails) as reducing:
            for batch in given.batches(values, batch_size):
                reducing.begin(batch.shape[1], [(row, None) for row in range(len(batch))])
                part(**arguments_for(part, batch))
    return reducing.measurement(part, given.starts)


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


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the time being; every module gets its own mode back."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False  # not eval(): a module that merges an adapter there would never take it out again
    try:
        yield
    finally:
        for module in training:
            module.training = True
