"""How a model is trained: steps, batches, optimiser and schedule.

The defaults are the smallest recipe known to show both published classes of trajectory on a laptop: every sequence
starts with a BOS token and the learning rate is high; with lower rates and no BOS token the activations hardly grow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np

from madyn.arrays import number
from madyn.errors import UsageError, check_range, quoted

_MOST_STEPS = 1 << 40

_ALWAYS_SAID = (
    "steps", "batch_size", "length", "optimizer", "learning_rate", "schedule", "warmup", "final_rate", "beta1", "beta2",
    "weight_decay", "clip",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Attributes:
        steps: updates; `batch_size` sequences of `length` tokens each, the first a BOS token.
        optimizer: adamw; sgd with a momentum of `beta1`; or muon for the matrices of the layers, with AdamW for
            embeddings, head, norms and biases (Jordan et al. 2024, kellerjordan.github.io/posts/muon; as
            `torch.optim.Muon` has it, momentum 0.95, its updates scaled to the size of AdamW's).
        learning_rate: its peak, reached after the share `warmup` of the steps; `schedule` then takes it to the share
            `final_rate` of the peak, by a cosine or a straight line, or leaves it where it is.
        beta1, beta2, weight_decay: of AdamW. Norms and biases are decayed too.
        clip: the largest norm of the gradient.
        muon_learning_rate: the peak for what Muon moves; it follows the same schedule. `weight_decay` is for both.
        bos: each sequence begins with a BOS token; or else with the text's own token before it, and what is measured
            does too.
        registers: learned tokens of their own before each sequence (Darcet et al. 2024, arXiv 2309.16588): positions 0
            to `registers` - 1 are theirs, and BOS comes behind them. They are measured, and are not predicted.
        tweo: how much of TWEO's penalty is added to the loss that is learned from (Liang et al. 2025, arXiv
            2511.23225): the mean over layers of the mean of (|h| / `tweo_threshold`)^`tweo_power` over what the layer
            hands on. 0.01 with 3 and 4 is what they use.

    Raises:
        UsageError: a number is out of its range.

    >>> import madyn
    >>> recipe = madyn.lab.Recipe(steps=1000, length=64)
    >>> recipe.rate(500) < recipe.learning_rate, recipe.positions, recipe.framing
    (True, 64, (64, True, 0))
    >>> recipe.to_dict()["steps"]
    1000
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}  # for a recipe that is read from a file

    steps: int = 2000
    batch_size: int = 16
    length: int = 128
    optimizer: Literal["adamw", "sgd", "muon"] = "adamw"
    learning_rate: float = 1e-2
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.01
    final_rate: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0
    muon_learning_rate: float = 1e-2
    bos: bool = True
    registers: int = 0
    tweo: float = 0.0
    tweo_threshold: float = 3.0
    tweo_power: float = 4.0

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1, _MOST_STEPS)
        check_range("batch_size", self.batch_size, 1, 1 << 20)
        check_range("length", self.length, 2, 1 << 24)  # a BOS token and one to predict
        check_range("registers", self.registers, 0, 1 << 10)
        fine: dict[str, Callable[[float], bool]] = {
            "learning_rate": lambda x: x > 0,
            "warmup": lambda x: 0 <= x < 1,
            "final_rate": lambda x: 0 <= x <= 1,
            "beta1": lambda x: 0 <= x < 1,
            "beta2": lambda x: 0 <= x < 1,
            "weight_decay": lambda x: x >= 0,
            "clip": lambda x: x > 0,
            "muon_learning_rate": lambda x: x > 0,
            "tweo": lambda x: x >= 0,
            "tweo_threshold": lambda x: x > 0,
            "tweo_power": lambda x: x >= 1,
        }
        for name, is_fine in fine.items():
            value = number(getattr(self, name), name)
            if not math.isfinite(value) or not is_fine(value):
                raise UsageError(f"{name} is {quoted(value)}, which is out of range")

    @property
    def framing(self) -> tuple[int, bool, int]:
        """What of it decides which tokens a sequence holds: models that share it are shown the same ones."""
        return self.length, self.bos, self.registers

    @property
    def positions(self) -> int:
        """Of a sequence, the registers among them."""
        return self.registers + self.length

    def to_dict(self) -> dict[str, Any]:
        """What records say: of a later entry nothing where it is usual, as those written before it."""
        usual = {f.name: f.default for f in fields(self)}
        return {name: value for name, value in asdict(self).items() if name in _ALWAYS_SAID or value != usual[name]}

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
