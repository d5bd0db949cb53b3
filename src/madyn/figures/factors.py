"""Effects as factors, ×2 or ×0.5, since nobody thinks in natural logarithms of a ratio."""

from __future__ import annotations

import math

from madyn.figures import style


def times(value: float) -> str:
    return f"×{style.number(float(f'{value:.2g}'))}"


def factor_ticks(low: float, high: float) -> list[float]:
    """Round factors for a log axis, 1 among them, none so close to another that their labels touch."""
    steps = [*(m * 10.0**k for k in range(4) for m in (1, 2, 5, 1.5, 3, 7, 1.2)), 1.1, 1.05, 1.02, 1.01]
    kept: list[float] = []
    for factor in (f for step in steps for f in (step, 1 / step)):
        inside = low <= factor <= high
        if inside and all(abs(math.log(factor / k)) > 0.14 * math.log(high / low) for k in kept):
            kept.append(factor)
    return sorted(kept)
