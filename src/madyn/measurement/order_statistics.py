"""The largest values and the median of |h|, exactly, in a few passes over memory.

Non-negative floats order like their bit patterns read as whole numbers. So |h| is a number with its sign bit cleared,
and both questions become questions about whole numbers, which no rounding, no flushing of denormals and no negative
zero can disturb:

- The k largest lie in the k rows with the largest maxima. One pass finds the row maxima; the rest looks at k rows.
- The median is found by radix selection: a histogram over the leading bits tells the bin of the wanted rank, and only
  the few values inside that bin are looked at again. 16-bit floats need the histogram alone.

A CPU picks out what lies in a bin and is done. A GPU cannot do that without waiting for the host, so there the digits
are short enough for a histogram in shared memory, and every round passes over all values. Both give the same answer:
that of a full sort.
"""

from __future__ import annotations

import numpy as np
import torch

_KEYS = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}
_CPU_BITS = 15  # all that a 16-bit float has; a histogram that stays in a core's cache
_GPU_BITS = 11  # 2048 bins of 8 bytes: a histogram that fits in the shared memory of every GPU


def order_statistics(hidden: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Top-k and median of the absolute values of one sequence's hidden state.

    Nothing here waits for a GPU: the results may still be under way when this returns.

    Args:
        hidden: shape (..., d), of at least `k` elements: float16, bfloat16, float32 or float64.
        k: how many of the largest values.

    Returns:
        values, shape (k + 1,), in the dtype of `hidden`: the k largest in descending order, then the lower median
        (the lower middle value of an even count, as `torch.median` has it). NaN counts as larger than infinity;
        indices, shape (k,): where the k largest stand in the flattened `hidden`. Of equal values the first in
        memory comes first, so that the same input gives the same indices on every device.
    """
    keys = _magnitude_keys(hidden.detach())
    rank = (keys.numel() - 1) // 2
    if keys.device.type == "cpu":
        (top, indices), median = _largest_on_cpu(keys, k), _select_on_cpu(keys.flatten(), rank)
    else:
        (top, indices), median = _largest(keys, k), _select_in_rounds(keys.flatten(), rank)
    return torch.cat([top, median.reshape(1)]).view(hidden.dtype), indices


def _magnitude_keys(hidden: torch.Tensor) -> torch.Tensor:
    """|h| as whole numbers in the same order, shape (rows, d)."""
    kind = _KEYS[hidden.dtype]
    return (hidden.view(kind) & torch.iinfo(kind).max).reshape(-1, hidden.shape[-1])


def _largest_on_cpu(keys: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of (rows, d) in descending order, and their flat indices.

    An element among the k largest is preceded, for every row with a larger maximum (or with the same one and earlier),
    by an element of that row. So fewer than k rows come before its own.
    """
    maxima = keys.amax(dim=-1).numpy()
    # numpy is several times faster than torch on so little, on the same memory.
    candidates = np.flatnonzero(maxima >= _kth_largest(maxima, k))
    inside = keys.numpy()[candidates].ravel()
    found = np.flatnonzero(inside >= _kth_largest(inside, k))  # in the order of memory
    found = found[np.argsort(-inside[found].astype(np.int64), kind="stable")[:k]]
    d = keys.shape[1]
    return torch.from_numpy(inside[found]), torch.from_numpy(candidates[found // d] * d + found % d)


def _kth_largest(values: np.ndarray, k: int) -> np.generic:
    k = min(k, values.size)
    return np.partition(values, values.size - k)[values.size - k]


def _select_on_cpu(keys: torch.Tensor, rank: int) -> torch.Tensor:
    """The value of a rank (0 the smallest) among non-negative whole numbers."""
    shift = max(0, torch.iinfo(keys.dtype).bits - 1 - _CPU_BITS)
    digits = keys >> shift if shift else keys
    upto = torch.bincount(digits).cumsum(0)
    digit = int(torch.searchsorted(upto, rank, right=True))
    if not shift:
        return torch.tensor(digit, dtype=keys.dtype)
    rank -= int(upto[digit - 1]) if digit else 0
    inside = keys.numpy()[digits.numpy() == digit]
    return torch.from_numpy(np.partition(inside, rank)[rank : rank + 1])


def _largest(keys: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_largest_on_cpu`, with no step that the host has to wait for."""
    rows, d = keys.shape
    # In the order of memory, so that of equal values the first found is the first in memory.
    candidates = _first_largest(keys.amax(dim=-1), min(k, rows)).sort().values
    inside = keys[candidates].flatten()
    found = _first_largest(inside, k)
    return inside[found], candidates[found // d] * d + found % d


def _first_largest(keys: torch.Tensor, k: int) -> torch.Tensor:
    """Indices of the k largest of a flat tensor, in descending order; of equal keys the first come first."""
    if keys.dtype == torch.int64:  # no room for an index beside the key
        return keys.sort(descending=True, stable=True).indices[:k]
    index = torch.arange(keys.numel(), device=keys.device)
    # One number that orders by key, then backwards by index: no two are equal, so every device gives the same.
    return ((keys.long() << 32) - index).topk(k).indices


def _select_in_rounds(keys: torch.Tensor, rank: int) -> torch.Tensor:
    """As `_select_on_cpu`, with no step that the host has to wait for."""
    bits = torch.iinfo(keys.dtype).bits - 1  # the sign bit is clear
    found = torch.zeros((), dtype=keys.dtype, device=keys.device)
    left = torch.full((), rank, dtype=torch.int64, device=keys.device)
    shift = bits
    while shift > 0:
        above, shift = shift, max(0, shift - _GPU_BITS)
        bins = 1 << (above - shift)
        digits = (keys >> shift) & (bins - 1)
        # What differs in the digits found so far goes to a bin of its own, past the others.
        alike = (keys >> above) == (found >> above) if above < bits else torch.ones_like(keys, dtype=torch.bool)
        counts = _histogram(torch.where(alike, digits, bins), bins)
        upto = counts.cumsum(0)
        digit = torch.searchsorted(upto, left, right=True)
        left = left - (upto[digit] - counts[digit])
        found = found | (digit << shift).to(keys.dtype)
    return found


def _histogram(digits: torch.Tensor, bins: int) -> torch.Tensor:
    """Counts of 0 to bins - 1. `bincount` would ask the device for the largest value, and wait."""
    # float32 holds these digits exactly; its counts, which would be rounded past 2**24, are made in parts.
    parts = digits.to(torch.float32).split(1 << 24)
    # Edges halfway between digits: no rounding can move one over an edge.
    return torch.stack([torch.histc(part, bins + 1, min=-0.5, max=bins + 0.5)[:bins].long() for part in parts]).sum(0)
