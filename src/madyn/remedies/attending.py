"""Attention with remedies, as one function that transformers' own attention modules call.

transformers hands queries, keys and values to the function that a model's config names. The one registered here reads
from the module what is asked of it; projections, rotations and caches stay transformers' own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from madyn.remedies.weights import WEIGHTS

IMPLEMENTATION = "madyn_remedies"
"""The name that a config knows it by."""


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    gate: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """What each head gives, and its weights.

    In this order: the weights of `module.remedies["attention"]`, the values' sum, its norm (`value_norm`), its gate.

    Args:
        module: one of transformers' attention modules, fitted with remedies by `madyn.remedies.models`.
        query, key, value: (B, H, S, D); keys and values may have fewer heads, and more positions.
        attention_mask: True where a query may see a key, (B or 1, 1, Q, K); None: the mask is causal.
        gate: (B, Q, H or H D) what the output gate's sigmoid is taken of.

    Returns:
        (B, Q, H, D), and (B, H, Q, K); no weights from plain softmax while it trains, which is left to the kernels.
    """
    kind = module.remedies["attention"]
    if kind == "softmax" and module.training:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        mixed, weights = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **others
        )
    else:
        mixed, weights = _by_hand(module, query, key, value, attention_mask, scaling, dropout)
    if module.remedies["value_norm"] != "none":
        mixed = module.value_norm(mixed)
    if gate is not None:
        mixed = mixed * gate.sigmoid().view(*mixed.shape[:3], -1)
    return mixed, weights


def _by_hand(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, dropout: float
) -> tuple[Tensor, Tensor]:
    copies = query.shape[1] // key.shape[1]
    if copies > 1:
        key, value = (part.repeat_interleave(copies, 1) for part in (key, value))
    kind = module.remedies["attention"]
    seen = _causal(query, key) if mask is None else mask if mask.dtype == torch.bool else mask > -1.0
    scores = query @ key.transpose(-1, -2) * scaling
    if kind == "key_bias":
        # A key that is learned and holds nothing: its column counts in the softmax, and its value is 0.
        more = (query @ module.key_bias[:, :, None].to(query.dtype)) * scaling
        scores, seen = torch.cat([scores, more], -1), torch.cat([seen, torch.ones_like(seen[..., :1])], -1)
    weights = WEIGHTS[kind](scores, seen, module)
    if kind == "key_bias":
        weights = weights[..., :-1]
    weights = torch.nn.functional.dropout(weights, dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def _causal(query: Tensor, key: Tensor) -> Tensor:
    """(1, 1, Q, K): the last query is at the last key."""
    q, k = query.shape[-2], key.shape[-2]
    return torch.ones(q, k, dtype=torch.bool, device=query.device).tril(k - q)[None, None]


def register() -> None:
    """Tell transformers of the function, with masks as its `sdpa` takes them."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(IMPLEMENTATION, attend)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
