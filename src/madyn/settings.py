"""What a measurement is made with: the probe's text and windows, and the numbers' type, device and batch.

Each field says what it is in its annotation. From there come the class's documentation and the options of the commands
that take one, so that this file imports nothing that takes time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_type_hints

from madyn.architecture import Architecture
from madyn.errors import MOST_SEED, UsageError, check_range, one_of, quoted

PAPER_CONTEXT = 2048
PAPER_DOCUMENTS = 500
GIVEN = "given"  # in the place of a text's name: token ids or images that the user gave

DTYPES = ("float32", "bfloat16", "float16", "float64")
FORMS = ("auto", "safetensors", "bin")
"""What a user may ask for where a checkpoint is stored in several forms: the first that is there, or one of the two."""

T = TypeVar("T")

_LAST_POSITION = 10**8  # beyond any context
_MOST_SEQUENCES = 10**7


class Said(NamedTuple):
    """What is said of a field, to whoever reads the code, its documentation or a command's help.

    Attributes:
        help: a sentence or two.
        option: the name of its option, where that is not the field's own.
    """

    help: str
    option: str = ""


def said_of(kind: type) -> dict[str, tuple[Any, Said]]:
    """The type of each field of a dataclass, and what is said of it."""
    hints = get_type_hints(kind, include_extras=True)
    return {f.name: get_args(hints[f.name]) for f in fields(kind)}


def _documented(kind: type[T]) -> type[T]:
    """A dataclass whose documentation names its fields and what is said of them."""
    told = "\n".join(f"    {name}: {said.help}" for name, (_, said) in said_of(kind).items())
    kind.__doc__ = f"{kind.__doc__}\n\nAttributes:\n{told}\n"
    return kind


@_documented
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How checkpoints are loaded and run.

    >>> import madyn
    >>> madyn.sweep.Settings(dtype="bfloat16").batch_size
    1
    """

    dtype: Annotated[str, Said("float32, bfloat16, float16 or float64, whatever the weights are stored in.")] = (
        "float32"
    )
    device: Annotated[str | None, Said("A torch device; CUDA if there is one, else the CPU.")] = None
    batch_size: Annotated[int, Said("Sequences forwarded together; more than 1 may change the last bits.")] = 1
    trust_remote_code: Annotated[bool, Said("Run the code that comes with a model.")] = False
    layers: Annotated[
        str | None, Said("Path of the list of layers in the model, such as model.layers; found if not given.")
    ] = None
    stream: Annotated[
        bool | None, Said("Weights pass through layer by layer; by default where they would not fit in memory.")
    ] = None
    keep_cache: Annotated[
        int | None,
        Said(
            "Downloaded checkpoints to keep on disk, besides the next; by default all. What was there before stays in "
            "any case."
        ),
    ] = None
    decoder_only: Annotated[
        bool,
        Said(
            "Do not download weights that the decoder does not need (its head). What is downloaded in part cannot be "
            "held against the file's hash."
        ),
    ] = False
    weights: Annotated[
        str,
        Said(
            "auto, safetensors or bin: which is read of checkpoints that are stored in both, where one is not what it "
            "should be."
        ),
    ] = "auto"
    allow_duplicates: Annotated[
        bool,
        Said(
            "Measure checkpoints that hold the weights of another step, or say another step inside, instead of "
            "recording them as failed."
        ),
    ] = False

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, DTYPES)
        one_of("weights", self.weights, FORMS)
        check_range("batch_size", self.batch_size, 1, _MOST_SEQUENCES)
        if self.keep_cache is not None:
            check_range("keep_cache", self.keep_cache, 0, MOST_SEED)


@_documented
@dataclass(frozen=True)
class Probe:
    """What models are measured on.

    >>> import madyn
    >>> probe = madyn.sweep.Probe("stdlib", length=128, exclude_positions="0-1")
    >>> probe.excluded, probe.length_for(madyn.PYTHIA.architectures["pythia-14m"])
    ((0, 1), 128)
    >>> madyn.sweep.Probe(positions="0;1-").groups
    {'0': slice(0, 1, None), '1-': slice(1, None, None)}
    """

    text: Annotated[
        str,
        Said(
            "Text to measure on: stdlib, redpajama, a text or JSONL file, or OWNER/NAME?config=C&split=S&column=T of "
            "the Hub; #held-out or #train after it takes a part.",
            option="probe",
        ),
    ] = "stdlib"
    sequences: Annotated[int, Said("How many.")] = 10
    length: Annotated[int | None, Said("Tokens a sequence; else the context, at most 2048.")] = None
    bos: Annotated[bool, Said("Start each sequence with the tokenizer's BOS token, in place of a token of text.")] = (
        False
    )
    documents: Annotated[int, Said("How many are drawn from the text.")] = PAPER_DOCUMENTS
    seed: Annotated[int, Said("Seed of the drawing of documents.")] = 0
    exclude_positions: Annotated[str, Said("Positions left out of everything: 0, or 0,5, or 0-3.")] = ""
    positions: Annotated[str, Said('Groups of positions measured by themselves too: "0;1-15;16-".')] = ""

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
