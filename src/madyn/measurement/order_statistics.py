"""The largest values and the median of |h|, exactly, in a few passes over memory.

Non-negative floats order like their bit patterns read as whole numbers. So |h| is a number with its sign bit cleared,
and both questions become questions about whole numbers, which no rounding, no flushing of denormals and no negative
zero can disturb:

- The k largest lie in the k rows with the largest maxima. One pass finds the row maxima; the rest looks at k rows.
- The median is found by radix selection: a histogram over the leading 16 bits tells the bin of the wanted rank, and
  the few values inside that bin are looked at again by their next 16 bits. 16-bit floats need one histogram alone.

A CPU makes one histogram of 65536 bins fast and can pick out what lies in a bin. A GPU does neither without waiting for
the host, so there the digits are short enough for a histogram in shared memory, and every round passes over all values.
Both give the same answer: that of a full sort.
"""

from __future__ import annotations

import torch

_KEYS = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}
_CPU_DIGIT = 16
_GPU_DIGIT = 11  # 2048 bins of 8 bytes: a histogram that fits in the shared memory of every GPU


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
    magnitude = _magnitude_keys(hidden.detach())
    top, indices = _largest(magnitude, k)
    flat = magnitude.flatten()
    rank = (flat.numel() - 1) // 2
    median = (_select_on_cpu if flat.device.type == "cpu" else _select_in_rounds)(flat, rank)
    return torch.cat([top, median.reshape(1)]).view(hidden.dtype), indices


def _magnitude_keys(hidden: torch.Tensor) -> torch.Tensor:
    """|h| as whole numbers in the same order, shape (rows, d)."""
    kind = _KEYS[hidden.dtype]
    return (hidden.view(kind) & torch.iinfo(kind).max).reshape(-1, hidden.shape[-1])


def _largest(keys: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of (rows, d) and their flat indices.

    An element among the k largest is preceded, for every row with a larger maximum (or with the same one and earlier),
    by an element of that row. So fewer than k rows come before its own.
    """
    rows, d = keys.shape
    candidates = _first_largest(keys.amax(dim=-1), min(k, rows))
    # In the order of memory, so that of equal values the first found is the first in memory.
    candidates = candidates.sort().values
    inside = keys[candidates].flatten()
    found = _first_largest(inside, k)
    return inside[found], candidates[found // d] * d + found % d


def _first_largest(keys: torch.Tensor, k: int) -> torch.Tensor:
    """Indices of the k largest of a flat tensor, in descending order; of equal keys the first come first."""
    if keys.dtype == torch.int64:  # no room for an index beside the key
        return keys.sort(descending=True, stable=True).indices[:k]
    index = torch.arange(keys.numel(), device=keys.device)
    # One number that orders by key, then backwards by index: no two are equal, so every device gives the same.
    unique = (keys.long() << 32) - index
    return unique.topk(k).indices


def _select_on_cpu(keys: torch.Tensor, rank: int) -> torch.Tensor:
    """The value of a rank (0 the smallest) among non-negative whole numbers."""
    found, kind = 0, keys.dtype
    leading = torch.iinfo(kind).bits - _CPU_DIGIT
    for shift in range(leading, -1, -_CPU_DIGIT):
        digits = keys >> shift if shift else keys
        if shift < leading:
            digits = digits & ((1 << _CPU_DIGIT) - 1)
        upto = torch.bincount(digits).cumsum(0)
        digit = int(torch.searchsorted(upto, rank, right=True))
        found |= digit << shift
        if shift:
            rank -= int(upto[digit - 1]) if digit else 0
            # numpy compares and picks out several times faster than torch on a CPU, on the same memory.
            keys = torch.from_numpy(keys.numpy()[digits.numpy() == digit])
    return torch.tensor(found, dtype=kind)


def _select_in_rounds(keys: torch.Tensor, rank: int) -> torch.Tensor:
    """As `_select_on_cpu`, with no step that the host has to wait for."""
    bits = torch.iinfo(keys.dtype).bits - 1  # the sign bit is clear
    found = torch.zeros((), dtype=keys.dtype, device=keys.device)
    left = torch.full((), rank, dtype=torch.int64, device=keys.device)
    shift = bits
    while shift > 0:
        above, shift = shift, max(0, shift - _GPU_DIGIT)
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
