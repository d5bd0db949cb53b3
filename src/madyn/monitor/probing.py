"""What a monitor measures on: a probe's text, token ids that the user gives, or the first batch that the run sees.

The first batch is kept in the dataset, so that a run that goes on, and other runs measured into the same dataset, are
measured on the same tokens.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from madyn.architecture import Architecture
from madyn.dataset import layout, manifest
from madyn.dataset.files import create_bytes, is_there, read_bytes
from madyn.errors import ArchitectureError, DatasetError, UsageError
from madyn.settings import GIVEN, Probe
from madyn.sweep.inputs import given_inputs, named_tokenizer, probe_of_inputs, probe_record, refuse_typos
from madyn.text import cut_windows, hash_tokens, read_text

MOST_SEQUENCES = 10  # taken of the first batch: as many as the published measurements had
_LONGEST = 2048  # tokens of each
_MOST_BYTES = 1 << 30


class Measured:
    """What a run is measured on.

    Attributes:
        values: token ids (B, S), or pixel values (B, C, H, W).
        probe: what is said of them, with the positions that are left out.
        record: what the dataset says of them.
        described: in words.
    """

    def __init__(self, values: np.ndarray, probe: Probe, record: manifest.ProbeRecord, described: str) -> None:
        self.values, self.probe, self.record, self.described = values, probe, record, described

    @property
    def tokens_sha256(self) -> str:
        return hash_tokens(self.values)


def read_given(given: Any, config: Any, tokenizer: Any) -> Measured | None:
    """What the user gave as a probe; None where nothing was given.

    Args:
        given: token ids or pixel values, a mapping that holds them, a `Probe`, or the name of a text.
        config: the model's, for the length of its context; it may be None.
        tokenizer: for a text; itself, or its name or folder.

    Raises:
        UsageError: it is none of these, is longer than the model's context, or is a text and there is no tokenizer.
        TextError: the text cannot be read, or is too short.
    """
    if given is None:
        return None
    if isinstance(given, (str, Probe)):
        return _of_text(Probe(given) if isinstance(given, str) else given, config, tokenizer)
    try:
        values = given_inputs(np.asarray(_numbers(given)))
    except (TypeError, ValueError) as e:
        raise UsageError(f"the probe is no array of token ids (B, S) or pixel values (B, C, H, W): {e}") from e
    return of_values(values, "given token ids" if values.ndim == 2 else "given images")


def of_values(values: np.ndarray, what: str, probe: Probe | None = None) -> Measured:
    """Sequences as they are."""
    probe = probe_of_inputs(probe or Probe(), values)
    size = f"{len(values)} sequences of {values.shape[1]} tokens" if values.ndim == 2 else f"{len(values)} images"
    return Measured(values, probe, probe_record(probe, None, values), f"{what}: {size}")


def require_context(values: np.ndarray, config: Any) -> None:
    """Refuse sequences that are longer than a model's context. Raises UsageError."""
    context = _context(config)
    if values.ndim == 2 and context is not None and values.shape[1] > context:
        raise UsageError(f"the probe's sequences have {values.shape[1]} tokens, and the model's context is {context}")


def _of_text(probe: Probe, config: Any, tokenizer: Any) -> Measured:
    if tokenizer is None:
        raise UsageError(
            f"the probe is the text {probe.text!r}, and there is no tokenizer for it: give one to the monitor "
            "(tokenizer=...), or token ids as the probe"
        )
    refuse_typos(probe, tokenizer)
    text = read_text(probe.text, probe.documents, probe.seed)
    try:
        length = probe.length_for(Architecture.from_config(config))
    except (ArchitectureError, AttributeError):
        length = probe.length or _context(config) or _LONGEST
    values = cut_windows(text, named_tokenizer(tokenizer), probe.sequences, length, bos=probe.bos).ids
    described = f"{probe.text}: {len(values)} sequences of {length} tokens"
    return Measured(values, probe, probe_record(probe, text, None), described)


def _context(config: Any) -> int | None:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    context = getattr(text, "max_position_embeddings", None)
    return context if isinstance(context, int) and context > 0 else None


def _numbers(given: Any) -> Any:
    found = given.get("input_ids", given.get("pixel_values")) if isinstance(given, Mapping) else given
    return found.detach().cpu() if isinstance(found, torch.Tensor) else found


def of_batch(batch: Any) -> np.ndarray | None:
    """The sequences of a training batch that a run can be measured on; None where the batch holds no token ids.

    They are the first ten, cut to the length of the shortest. Of sequences with padding, those that are at least half
    as long as the longest are taken, without their padding.

    Args:
        batch: a mapping with `input_ids` (B, S) or `pixel_values` (B, C, H, W) and perhaps an `attention_mask`, a
            tensor, or a sequence whose first tensor of such a shape is meant.
    """
    ids, mask = batch_inputs(batch)
    if ids is None:
        return None
    values = (ids.float() if ids.is_floating_point() else ids).detach().cpu().numpy()
    if values.ndim == 4:
        return values[:MOST_SEQUENCES]
    kept = np.ones(values.shape, bool) if mask is None else mask.detach().cpu().numpy().astype(bool)
    lengths = kept.sum(axis=1)
    rows = [row for row in range(len(values)) if 2 * lengths[row] >= max(2, lengths.max())][:MOST_SEQUENCES]
    if not rows:
        return None
    length = min(_LONGEST, *(int(lengths[row]) for row in rows), values.shape[1])
    return np.stack([values[row][kept[row]][:length] for row in rows]).astype(np.int64)


def batch_inputs(batch: Any) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The token ids or pixel values of a batch, and its attention mask of the same shape; None for what it has not."""
    if isinstance(batch, Mapping):
        ids = next((batch[name] for name in ("input_ids", "pixel_values") if _is_input(batch.get(name))), None)
        mask = batch.get("attention_mask")
        fits = isinstance(mask, torch.Tensor) and ids is not None and ids.ndim == 2 and mask.shape == ids.shape
        return ids, mask if fits else None
    if isinstance(batch, torch.Tensor):
        return (batch if _is_input(batch) else None), None
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return next((found for part in batch if (found := batch_inputs(part))[0] is not None), (None, None))
    return None, None


def _is_input(value: Any) -> bool:
    if not isinstance(value, torch.Tensor) or 0 in value.shape:
        return False
    whole = not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool
    return (value.ndim == 2 and whole) or (value.ndim == 4 and value.is_floating_point())


def keep_inputs(root: Path, measured: Measured) -> None:
    """Keep sequences in a dataset for whoever goes on with it. Raises StorageError."""
    content = io.BytesIO()
    np.save(content, measured.values, allow_pickle=False)
    create_bytes(layout.inside(root, layout.monitor_inputs_path(root)), content.getvalue())


def kept_inputs(root: Path) -> Measured | None:
    """The sequences that a dataset was measured on by a monitor before; None where it keeps none.

    Raises:
        DatasetError: they are damaged: not those that the dataset's record of its probe tells of.
    """
    path = layout.monitor_inputs_path(root)
    if not is_there(path):
        return None
    try:
        values = np.load(io.BytesIO(read_bytes(path, _MOST_BYTES)), allow_pickle=False)
        measured = of_values(given_inputs(values), "the first batch seen")
    except (ValueError, EOFError, MemoryError, UsageError) as e:
        raise DatasetError(f"{path}: not the sequences of a monitor; give the probe that was used") from e
    known = manifest.read_probe(root)
    if known is not None and (known.text, known.sha256) != (GIVEN, measured.record.sha256):
        raise DatasetError(
            f"{path}: not the sequences that {root} was measured on; give those as the probe, or another out"
        )
    return measured
