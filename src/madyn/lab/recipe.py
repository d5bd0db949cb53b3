"""How a model is trained: steps, batches, optimiser and schedule.

The defaults are the smallest recipe known to show both published classes of trajectory on a laptop: every sequence
starts with a BOS token and the learning rate is high; with lower rates and no BOS token the activations hardly grow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from madyn.arrays import number
from madyn.errors import UsageError, check_range, quoted

_MOST_STEPS = 1 << 40


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Attributes:
        steps: updates; `batch_size` sequences of `length` tokens each, the first a BOS token.
        optimizer: adamw, or sgd with a momentum of `beta1`.
        learning_rate: its peak, reached after the share `warmup` of the steps; `schedule` then takes it to the share
            `final_rate` of the peak, by a cosine or a straight line, or leaves it where it is.
        beta1, beta2, weight_decay: of AdamW. Norms and biases are decayed too.
        clip: the largest norm of the gradient.

    Raises:
        UsageError: a number is out of its range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}  # for a recipe that is read from a file

    steps: int = 2000
    batch_size: int = 16
    length: int = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-2
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.01
    final_rate: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1, _MOST_STEPS)
        check_range("batch_size", self.batch_size, 1, 1 << 20)
        check_range("length", self.length, 2, 1 << 24)  # a BOS token and one to predict
        fine: dict[str, Callable[[float], bool]] = {
            "learning_rate": lambda x: x > 0,
            "warmup": lambda x: 0 <= x < 1,
            "final_rate": lambda x: 0 <= x <= 1,
            "beta1": lambda x: 0 <= x < 1,
            "beta2": lambda x: 0 <= x < 1,
            "weight_decay": lambda x: x >= 0,
            "clip": lambda x: x > 0,
        }
        for name, is_fine in fine.items():
            value = number(getattr(self, name), name)
            if not math.isfinite(value) or not is_fine(value):
                raise UsageError(f"{name} is {quoted(value)}, which is out of range")

    def rate(self, step: int) -> float:
        """The learning rate of the update that follows `step` updates. Raises UsageError where that is no number of
        updates."""
        step = check_range("a step", step, 0, _MOST_STEPS)
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        share = (step - warm) / max(1, self.steps - warm)
        falling = {"cosine": 0.5 * (1 + math.cos(math.pi * share)), "linear": 1 - share, "constant": 1.0}[self.schedule]
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * falling)


def checkpoint_steps(total: int, count: int) -> list[int]:
    """About `count` training steps from 0 to `total`: powers of two while those are closer together, then even ones.

    >>> checkpoint_steps(300, 16)
    [0, 1, 2, 4, 8, 16, 32, 59, 86, 112, 139, 166, 193, 220, 246, 273, 300]
    """
    powers = [0, 1]
    while True:
        gap = (total - powers[-1]) / max(1, count - len(powers))
        if powers[-1] >= gap or 2 * powers[-1] >= total:
            break
        powers.append(2 * powers[-1])
    rest = np.linspace(powers[-1], total, max(2, count - len(powers) + 2))[1:]
    return sorted({*powers, *(round(float(step)) for step in rest)})
