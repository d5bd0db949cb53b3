"""What a measurement is made with: the probe's text and windows, and the numbers' type, device and batch."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from madyn.architecture import Architecture
from madyn.checkpoints.weights import FORMS
from madyn.errors import MOST_SEED, UsageError, check_range, one_of, quoted
from madyn.text import PAPER_DOCUMENTS

PAPER_CONTEXT = 2048
_LAST_POSITION = 10**8  # beyond any context
_MOST_SEQUENCES = 10**7
GIVEN = "given"  # in the place of a text's name: token ids or images that the user gave

DTYPES = ("float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How checkpoints are loaded and run.

    Attributes:
        dtype: float32 by default on every device, whatever the weights are stored in.
        device: a torch device; CUDA if there is one, else the CPU, if None.
        batch_size: sequences forwarded together. One by default, so that results do not depend on it.
        trust_remote_code: run code that comes with a model of the Hub.
        layers: the path of the list of layers in the model; found if None.
        stream: weights pass through layer by layer, with all sequences together; if None, where they would not fit in
            memory.
        keep_cache: how many downloaded checkpoints stay in the Hub's cache, besides the next; all if None. What was
            there before the sweep stays in any case.
        decoder_only: weights that the decoder does not need are not downloaded; what is downloaded is then not held
            against the file's hash, which is one of the whole.
        weights: "safetensors" or "bin" where checkpoints hold both and one of them is not what it should be; "auto"
            takes what transformers would.
        allow_duplicates: measure checkpoints that hold the weights of another step, or say another step inside,
            instead of recording them as failed.
    """

    dtype: str = "float32"
    device: str | None = None
    batch_size: int = 1
    trust_remote_code: bool = False
    layers: str | None = None
    stream: bool | None = None
    keep_cache: int | None = None
    decoder_only: bool = False
    weights: str = "auto"
    allow_duplicates: bool = False

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, DTYPES)
        one_of("weights", self.weights, FORMS)
        check_range("batch_size", self.batch_size, 1, _MOST_SEQUENCES)
        if self.keep_cache is not None:
            check_range("keep_cache", self.keep_cache, 0, MOST_SEED)


@dataclass(frozen=True)
class Probe:
    """What models are measured on.

    Attributes:
        text: the name of a text source, as in `madyn.text`.
        sequences: how many.
        length: tokens a sequence; the model's context by default, and at most the paper's 2048.
        bos: start each sequence with the tokenizer's BOS token in place of a token of text.
        documents, seed: how many documents are drawn from the source, and with what seed.
        exclude_positions: positions left out of everything, as text: "0", "0,5", "0-3".
        positions: groups of positions that are measured by themselves too: "0;1-15;16-".
    """

    text: str = "stdlib"
    sequences: int = 10
    length: int | None = None
    bos: bool = False
    documents: int = PAPER_DOCUMENTS
    seed: int = 0
    exclude_positions: str = ""
    positions: str = ""

    def __post_init__(self) -> None:
        for name in ("text", "exclude_positions", "positions"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise UsageError(f"{name} is {quoted(value)}; it is text")
        _ = self.excluded, self.groups  # said here if they mean nothing
        check_range("seed", self.seed, 0, MOST_SEED)
        check_range("documents", self.documents, 1, MOST_SEED)
        check_range("sequences", self.sequences, 1, _MOST_SEQUENCES)
        if self.length is not None:
            check_range("length", self.length, 1, _LAST_POSITION)

    @property
    def excluded(self) -> tuple[int, ...]:
        """The positions left out, ascending."""
        parts = [_span(part, closed=True) for part in self.exclude_positions.split(",") if part.strip()]
        return tuple(sorted({position for part in parts for position in range(part.start, part.stop)}))

    @property
    def groups(self) -> dict[str, slice]:
        """The groups of positions, by their names."""
        return {part.strip(): _span(part) for part in self.positions.split(";") if part.strip()}

    @property
    def first_token(self) -> str:
        return "bos" if self.bos else GIVEN if self.text == GIVEN else "text"

    def length_for(self, architecture: Architecture) -> int:
        """Tokens a sequence for a model.

        Raises:
            UsageError: the length asked for is more than the model's context.
        """
        context = architecture.max_position_embeddings
        if self.length is None:
            return min(context, PAPER_CONTEXT)
        if self.length > context:
            raise UsageError(f"--length is {self.length}, and the model's context is {context}")
        return self.length


def _span(text: str, *, closed: bool = False) -> slice:
    """ "5" is one position, "2-5" four, and "2-" all from there on, where that is allowed."""
    match = re.fullmatch(r"\s*(\d{1,18})(?:\s*(-)\s*(\d{0,18}))?\s*", text)
    if match is None or (closed and match[2] and not match[3]) or (match[3] and int(match[3]) < int(match[1])):
        raise UsageError(f"{text!r} is no position or range of positions, such as 0, 2-5{'' if closed else ' or 16-'}")
    first = check_range("a position", max(int(match[1]), int(match[3] or 0)), 0, _LAST_POSITION) and int(match[1])
    if not match[2]:
        return slice(first, first + 1)
    return slice(first, int(match[3]) + 1 if match[3] else None)


def resolve_device(device: str | None) -> str:
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as e:
        raise UsageError(f"device {device!r} cannot be used here: {str(e).splitlines()[0]}") from e
    return device


def torch_dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)


@cache
def versions() -> dict[str, str]:
    """The versions that a measurement depends on."""
    packages = ("madyn", "torch", "transformers", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
