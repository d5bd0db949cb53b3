"""Token sequences from any text source, for probing a model and for training one."""

from madyn.text.sources import BLANK_LINE, PAPER_DOCUMENTS, REDPAJAMA, Text, is_here, read_text, refuse_no_source
from madyn.text.tokens import (
    Tokens,
    Windows,
    adds_bos,
    cut_windows,
    hash_tokens,
    spelt_remark,
    token_sequences,
    tokenize,
)

__all__ = [
    "BLANK_LINE",
    "PAPER_DOCUMENTS",
    "REDPAJAMA",
    "Text",
    "Tokens",
    "Windows",
    "adds_bos",
    "cut_windows",
    "hash_tokens",
    "is_here",
    "read_text",
    "refuse_no_source",
    "spelt_remark",
    "token_sequences",
    "tokenize",
]
