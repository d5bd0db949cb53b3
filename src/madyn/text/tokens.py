"""Text as token ids: what a text says, and never what it spells.

A text may spell a special token (`<|endoftext|>`, `<s>`), and a tokenizer then puts that token in its place unless it
is told not to. Such a token is no text: models react to it as to nothing else. So it is split into the tokens that its
letters make, and how often that happened is told. Tokens that were added as ordinary ones (the runs of spaces of
GPT-NeoX, say) are text and stay.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from madyn.errors import TextError, UsageError
from madyn.text.sources import Text

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Tokens:
    """Token ids of a text, and at which of them the spelling of a special token begins, ascending."""

    ids: list[int]
    spelt: tuple[int, ...] = ()


@dataclass(frozen=True)
class Windows:
    """Sequences cut from a text: token ids (B, S), int64, and how many special tokens their text spells."""

    ids: np.ndarray
    spelt: int


def cut_windows(text: Text, tokenizer: Any, count: int, length: int, *, bos: bool = False) -> Windows:
    """Cut a text into sequences of tokens.

    The text is tokenised with no special tokens, those that it spells included, and cut into consecutive windows; the
    first `count` are taken.

    Args:
        tokenizer: a Hugging Face tokenizer.
        length: tokens a sequence, the BOS token included.
        bos: start each window with the tokenizer's BOS token.

    Raises:
        TextError: the text is too short.
        UsageError: `bos` is asked of a tokenizer that has no BOS token, or a number is below 1.
    """
    import numpy as np

    if count < 1 or length < (2 if bos else 1):
        raise UsageError(
            f"{count} sequences of {length} tokens: both must be at least 1 (and a BOS token needs one more)"
        )
    tokens = tokenize(text.content, tokenizer)
    ids = np.asarray(tokens.ids, dtype=np.int64)
    stride = length - 1 if bos else length
    windows = len(ids) // stride
    if windows < count:
        raise TextError(
            f"{text.source}: its {len(ids)} tokens fill {windows} sequences of {length}, and {count} were asked for; "
            "give more text, or lower --length or --sequences"
        )
    sequences = ids[: count * stride].reshape(count, stride)
    if bos:
        if tokenizer.bos_token_id is None:
            raise UsageError("the tokenizer has no BOS token to start a sequence with")
        first = np.full((count, 1), tokenizer.bos_token_id, dtype=np.int64)
        sequences = np.concatenate([first, sequences], axis=1)
    return Windows(sequences, sum(place < count * stride for place in tokens.spelt))


def token_sequences(text: Text, tokenizer: Any, count: int, length: int, *, bos: bool = False) -> np.ndarray:
    """The ids alone of `cut_windows`, shape (count, length), int64."""
    return cut_windows(text, tokenizer, count, length, bos=bos).ids


def spelt_remark(spelt: int) -> str:
    """What is worth saying of windows whose text spells special tokens; nothing where it spells none."""
    if not spelt:
        return ""
    times = "once" if spelt == 1 else f"{spelt} times"
    return f"the text spells special tokens {times}; they were split into ordinary tokens"


def adds_bos(tokenizer: Any) -> bool:
    """Whether a tokenizer, left to itself, begins a text with its BOS token: as the models do that were trained so."""
    bos = getattr(tokenizer, "bos_token_id", None)
    return bos is not None and list(tokenizer("x", verbose=False)["input_ids"][:1]) == [bos]


def tokenize(content: str, tokenizer: Any) -> Tokens:
    """Token ids without special tokens, whatever the model's context.

    Where the text spells none, these are the ids that the tokenizer gives by itself.
    """
    ids = _ids(content, tokenizer)
    special = _special_tokens(tokenizer)
    unknown = str(getattr(tokenizer, "unk_token", None))
    if unknown not in content:
        special.pop(unknown, None)  # it stands for what the tokenizer does not know, which is text
    if not set(special.values()).intersection(ids):
        return Tokens(ids)
    return _split_by_flag(content, tokenizer, special) or _split_by_hand(content, tokenizer, special)


def _ids(content: str, tokenizer: Any, **options: Any) -> Any:
    return tokenizer(content, add_special_tokens=False, verbose=False, **options)["input_ids"]


def _special_tokens(tokenizer: Any) -> dict[str, int]:
    """The special tokens by their spelling: those with a role (BOS and the like), and those added as special."""
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {**dict(named), **{token.content: number for number, token in added.items() if token.special}}


def _spellings(content: str, special: dict[str, int]) -> Iterator[re.Match[str]]:
    longest_first = sorted(special, key=len, reverse=True)
    return re.finditer("|".join(map(re.escape, longest_first)), content)


def _split_by_flag(content: str, tokenizer: Any, special: dict[str, int]) -> Tokens | None:
    """By the tokenizer's own means, where it has them.

    None where they do not serve: a tokenizer in Python then splits added tokens that are text too, and one whose model
    has special tokens in its own vocabulary (many of Unigram kind) finds them there.
    """
    if not getattr(tokenizer, "is_fast", False):
        return None
    found = tokenizer(
        content, add_special_tokens=False, verbose=False, split_special_tokens=True, return_offsets_mapping=True
    )
    ids = found["input_ids"]
    if set(special.values()).intersection(ids):
        return None
    ends = [end for _, end in found["offset_mapping"]]
    places = []
    at = 0
    for spelling in _spellings(content, special):
        while at < len(ends) and ends[at] <= spelling.start():
            at += 1
        places.append(at)
    return Tokens(ids, tuple(places))


def _split_by_hand(content: str, tokenizer: Any, special: dict[str, int]) -> Tokens:
    """The text between the spellings, as the tokenizer takes it, and each spelling cut until nothing special is left.

    A tokenizer that marks the beginning of a text marks that of each part.
    """
    ids: list[int] = []
    places = []
    at = 0
    for spelling in _spellings(content, special):
        ids += _ids(content[at : spelling.start()], tokenizer)
        places.append(len(ids))
        ids += _ids_of_spelling(spelling[0], tokenizer, set(special.values()))
        at = spelling.end()
    return Tokens(ids + _ids(content[at:], tokenizer), tuple(places))


def _ids_of_spelling(spelling: str, tokenizer: Any, special: set[int]) -> list[int]:
    ids = _ids(spelling, tokenizer)
    if len(spelling) == 1 or not special.intersection(ids):
        return ids  # a special token of one letter cannot be split
    return _ids(spelling[0], tokenizer) + _ids_of_spelling(spelling[1:], tokenizer, special)


def hash_tokens(sequences: np.ndarray) -> str:
    """SHA-256 of the shape and the token ids, as 64-bit little-endian integers."""
    ids = sequences.astype("<i8")
    return hashlib.sha256(repr(ids.shape).encode() + ids.tobytes()).hexdigest()
