"""The largest values and the median of |h|, exactly.

One function, one contract: the k largest of |h| over all elements, with multiplicity, where they are, and the lower
middle value (the one that `torch.median` returns for an even count, as reference implementations do).
"""

from __future__ import annotations

import torch


def order_statistics(hidden: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Top-k and median of the absolute values of one sequence's hidden state.

    Args:
        hidden: any shape, of at least `k` elements, of any floating dtype.
        k: how many of the largest values.

    Returns:
        values, shape (k + 1,), in the dtype of `hidden`: the k largest in descending order, then the lower median;
        indices, shape (k,): where the k largest stand in the flattened `hidden`. Of equal values the first in
        memory comes first, so that the same input gives the same indices on every device.
    """
    magnitude = hidden.detach().abs().flatten()
    # One more than asked for, where there is one, shows whether the last place is shared.
    top = torch.topk(magnitude, min(k + 1, magnitude.numel()))
    values, indices = top.values[:k], top.indices[:k]
    if bool((top.values[1:] == top.values[:-1]).any()):
        indices = _first_occurrences(magnitude, values)
    return torch.cat([values, magnitude.median().reshape(1)]), indices


def _first_occurrences(magnitude: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Indices of `values` (descending, with multiplicity) in `magnitude`, equal values in the order of memory."""
    distinct, counts = torch.unique_consecutive(values, return_counts=True)
    found = [(magnitude == v).nonzero()[:n, 0] for v, n in zip(distinct, counts.tolist(), strict=True)]
    return torch.cat(found)
