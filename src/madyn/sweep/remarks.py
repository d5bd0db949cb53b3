"""What is worth knowing of a measurement that went well, a sentence each: for the manifest, and for who looks on."""

from __future__ import annotations

from typing import Any

import numpy as np

from madyn.text import adds_bos

FLOAT16_LARGEST = 65504
FLOAT16_MARGIN = 4  # other text, a longer one or a fine-tuned copy of the model may well show so much more


def bos_remark(tokenizer: Any) -> str:
    """That the tokenizer begins a text with a BOS token and the probe does not; nothing where it does not."""
    if not adds_bos(tokenizer):
        return ""
    return (
        f"the tokenizer puts {tokenizer.bos_token} before a text and these sequences start without it, so that a model "
        "trained with it may be off its track: --bos start puts it there, and madyn scan --bos both shows the two"
    )


def overflow_remark(peaks: np.ndarray) -> str:
    """That |h| comes near to what float16 holds, or passes it, whatever it was measured in; else nothing.

    Args:
        peaks: the largest |h| at any position, of any shape whose last axis is the layer; what is not finite counts as
            past everything.
    """
    top1 = np.where(np.isfinite(peaks), peaks, np.inf)
    if top1.max() * FLOAT16_MARGIN <= FLOAT16_LARGEST:
        return ""
    layer = int(top1.reshape(-1, top1.shape[-1]).max(axis=0).argmax())
    largest = f"|h| reaches {top1.max():,.0f} after layer {layer}"
    if top1.max() > FLOAT16_LARGEST:
        return f"{largest}, more than float16 holds ({FLOAT16_LARGEST:,}): run this model in bfloat16 or float32"
    return (
        f"{largest}, within a factor of {FLOAT16_MARGIN} of the most that float16 holds ({FLOAT16_LARGEST:,}): "
        "there it may overflow on other text; bfloat16 and float32 do not"
    )
