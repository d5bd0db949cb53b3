"""A byte-level BPE tokenizer trained on the text that the models will learn from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

BOS = "<|bos|>"


def train_tokenizer(documents: Iterable[str], vocab_size: int) -> Any:
    """Train a byte-level BPE tokenizer with one special token, which begins a sequence.

    Returns:
        a transformers `PreTrainedTokenizerFast`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that was saved in a folder."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False)
