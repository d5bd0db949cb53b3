"""What a model is measured on: token ids or images, from whatever holds them, and which of them is padding.

Padding is not masked, it is taken away: a sequence is forwarded with its own tokens alone, so that its statistics are
those that it has without a batch around it, whatever the model does with masks and positions.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from madyn.arrays import read, whole_numbers
from madyn.errors import MadynError, UsageError, one_line


@dataclass(frozen=True)
class Inputs:
    """Sequences or images to measure.

    Attributes:
        values: token ids (B, S), or pixel values (B, C, H, W).
        starts, stops: for each sequence, where its own tokens begin and end, shape (B,).
    """

    values: torch.Tensor
    starts: np.ndarray
    stops: np.ndarray

    def batches(self, values: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
        """`values`, wherever they are by now, without padding: neighbours of one length together, at most `size`."""
        if values.ndim != 2:
            yield from values.split(size)
            return
        lengths = self.stops - self.starts
        first = 0
        for number in range(1, len(values) + 1):
            if number == len(values) or lengths[number] != lengths[first] or number - first == size:
                rows = range(first, number)
                yield torch.stack([values[row, self.starts[row] : self.stops[row]] for row in rows])
                first = number


def read_inputs(given: Any, attention_mask: Any = None) -> Inputs:
    """Token ids or pixel values, and what of them is no padding.

    Args:
        given: an array, a tensor or nested lists; a masked array, whose masked ids are padding; or a mapping as a
            tokenizer or an image processor returns it.
        attention_mask: shape (B, S), 0 at padding; in place of the mapping's own.

    Raises:
        UsageError: these are no token ids or pixel values, or the mask does not fit them.
    """
    if isinstance(given, Mapping):
        given, found = _from_mapping(given)
        attention_mask = found if attention_mask is None else attention_mask
    elif isinstance(given, np.ma.MaskedArray) and attention_mask is None and np.ma.is_masked(given):
        given, attention_mask = given.filled(0), ~np.ma.getmaskarray(given)
    values = _values(given)
    length = values.shape[1]
    if attention_mask is None:
        return Inputs(values, np.zeros(len(values), int), np.full(len(values), length))
    starts, stops = _spans(attention_mask, values)
    # Padding is often an id that the model has no row for (-100, or one past the last): it must never reach it.
    values = values.clone()
    for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        values[row, :start], values[row, stop:] = values[row, start], values[row, start]
    return Inputs(values, starts, stops)


def _from_mapping(given: Mapping[str, Any]) -> tuple[Any, Any]:
    inputs = [name for name in ("input_ids", "pixel_values") if name in given]
    if len(inputs) != 1:
        what = f"with {' and '.join(inputs)}" if inputs else f"with {', '.join(map(str, given)) or 'nothing'}"
        raise UsageError(
            f"a mapping {what}: token ids (input_ids) or pixel values (pixel_values) are measured, one of them"
        )
    segments = given.get("token_type_ids")
    if segments is not None and _as_tensor(segments, "token_type_ids").any():
        raise UsageError("token_type_ids that are not all 0: sequences of two segments cannot be measured")
    return given[inputs[0]], given.get("attention_mask") if inputs == ["input_ids"] else None


def _as_tensor(values: Any, name: str) -> torch.Tensor:
    try:
        return values if isinstance(values, torch.Tensor) else torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as e:
        raise UsageError(f"{name} are not an array of numbers of one length: {e}") from e


def _spans(attention_mask: Any, values: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Where each sequence's own tokens begin and end."""
    mask = _mask(attention_mask).cpu()
    mask = mask.unsqueeze(0) if mask.ndim == 1 else mask
    if values.ndim != 2 or mask.shape != values.shape or not ((mask == 0) | (mask == 1)).all():
        raise UsageError(
            f"attention_mask of shape {tuple(mask.shape)} for input of shape {tuple(values.shape)}; one 0 or 1 "
            "for each token id"
        )
    kept = mask.numpy().astype(bool)
    starts, stops = kept.argmax(axis=1), kept.shape[1] - kept[:, ::-1].argmax(axis=1)
    for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        if not kept[row].any():
            raise UsageError(f"attention_mask leaves nothing of sequence {row}")
        if not kept[row, start:stop].all():
            raise UsageError(f"attention_mask of sequence {row} has zeros between tokens; padding stands at the ends")
    return starts, stops


def _mask(given: Any) -> torch.Tensor:
    """An attention mask: an array without holes of its own."""
    if isinstance(given, torch.Tensor):
        return given
    found = read(given, "attention_mask", truth=True)
    if np.any(found.missing):
        raise UsageError("entries of attention_mask are missing; one 0 or 1 for each token id")
    return torch.as_tensor(found.values)


def _values(given: Any) -> torch.Tensor:
    found = _as_tensor(whole_numbers(given, "input_ids", "sequence"), "input_ids")
    if found.is_floating_point() and found.ndim == 4 and 0 not in found.shape:
        return found  # an image's pixel values
    ids = found.unsqueeze(0) if found.ndim == 1 else found
    if ids.ndim != 2 or 0 in ids.shape or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise UsageError(f"input_ids of shape {tuple(ids.shape)} and {ids.dtype}; whole numbers (B, S) are needed")
    return ids.long()


def require_kind(part: Any, values: torch.Tensor) -> None:
    """Refuse images for a model that reads tokens, and tokens for one that reads images or sound.

    Raises:
        UsageError: so it is. A module that is not from transformers is taken at its word.
    """
    reads = getattr(part, "main_input_name", None)
    names = inspect.signature(part.forward).parameters
    given = "pixel_values" if values.is_floating_point() else "input_ids"
    if not hasattr(part, "config") or reads in (None, given) or given in names or reads not in _INPUTS:
        return
    raise UsageError(f"{type(part).__name__} reads {_INPUTS[reads]}, and these are {_INPUTS[given]}")


_INPUTS = {
    "input_ids": "token ids, whole numbers (B, S)",
    "pixel_values": "pixel values, floating point (B, C, H, W)",
    "input_values": "sound (input_values), which cannot be measured",
    "input_features": "sound (input_features), which cannot be measured",
}


@contextmanager
def explaining_images(part: Any, values: torch.Tensor) -> Iterator[None]:
    """What a model raises for images of a size or with channels that it does not take, as one line.

    Raises:
        UsageError: in place of what torch or the model raised.
    """
    try:
        yield
    except (ValueError, RuntimeError) as e:
        if not values.is_floating_point() or isinstance(e, (MadynError, torch.OutOfMemoryError)):
            raise
        shape = tuple(values.shape[1:])
        raise UsageError(f"{type(part).__name__} does not take images of {shape}: {one_line(e, 200)}") from e


def require_known_tokens(part: Any, values: torch.Tensor) -> None:
    """Refuse ids that the embedding has no row for: on a GPU they would end the process, on a CPU say only so much."""
    try:
        embedding = part.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return  # not a transformers model, or one that has no table of tokens
    if values.is_floating_point() or not isinstance(embedding, nn.Embedding):
        return
    rows = embedding.num_embeddings
    bad = ((values < 0) | (values >= rows)).nonzero()
    if len(bad):
        sequence, position = bad[0].tolist()
        raise UsageError(
            f"token id {int(values[sequence, position])} at position {position} of sequence {sequence}: the embedding "
            f"of {type(part).__name__} has {rows} rows, for ids from 0 to {rows - 1}; are these of another tokenizer?"
        )
