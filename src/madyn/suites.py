"""Suites: families of models trained alike, with the checkpoints they were saved at.

`PYTHIA` is the family of the published dataset. A suite says which architectures it holds, what their directories are
called in a dataset, where their checkpoints lie on the Hub and at which training steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from madyn.architecture import Architecture

_POWERS_OF_TWO = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Suite:
    """A family of models and its checkpoints.

    Attributes:
        name: what the family is called.
        owner: the account on the Hub that holds the models.
        architectures: the shape of each model, by its name on the Hub without the owner.
        grids: named lists of training steps, ascending.

    >>> import madyn
    >>> madyn.PYTHIA.models[0], len(madyn.PYTHIA.grids["paper"])
    ('EleutherAI/pythia-14m', 37)
    >>> madyn.PYTHIA.architectures["pythia-1b"].num_hidden_layers
    16
    """

    name: str
    owner: str
    architectures: Mapping[str, Architecture]
    grids: Mapping[str, tuple[int, ...]]

    def __repr__(self) -> str:
        names = list(self.architectures)
        grids = ", ".join(f"{name} ({len(steps)} steps)" for name, steps in self.grids.items())
        return (
            f"<madyn Suite {self.name}: {len(names)} models of {self.owner}, {names[0]} to {names[-1]}\n "
            f"grids: {grids}\n models, architectures, grids>"
        )

    @property
    def models(self) -> list[str]:
        """The models' names on the Hub, owner included."""
        return [f"{self.owner}/{name}" for name in self.architectures]


def _pythia(layers: int, hidden: int, heads: int, vocab: int = 50304) -> Architecture:
    return Architecture(
        num_hidden_layers=layers, hidden_size=hidden, intermediate_size=4 * hidden, num_attention_heads=heads,
        rotary_pct=0.25, rotary_emb_base=10000.0, vocab_size=vocab, max_position_embeddings=2048,
    )  # fmt: skip


PYTHIA = Suite(
    name="pythia",
    owner="EleutherAI",
    architectures={
        "pythia-14m": _pythia(6, 128, 4),
        "pythia-70m": _pythia(6, 512, 8),
        "pythia-160m": _pythia(12, 768, 12),
        "pythia-410m": _pythia(24, 1024, 16),
        "pythia-1b": _pythia(16, 2048, 8),
        "pythia-1.4b": _pythia(24, 2048, 16),
        "pythia-2.8b": _pythia(32, 2560, 32),
        "pythia-6.9b": _pythia(32, 4096, 32, vocab=50432),
        "pythia-12b": _pythia(36, 5120, 40, vocab=50688),
    },
    grids={
        # The 37 steps that the dataset card lists; it says 39 are used.
        "paper": _POWERS_OF_TWO
        + tuple(1000 * k for k in (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 36, 40))
        + tuple(1000 * k for k in (50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 143)),
    },
)
"""The nine Pythia models of the published dataset (Biderman et al. 2023, arXiv 2304.01373).

>>> import madyn
>>> madyn.PYTHIA.models[-1], madyn.PYTHIA.architectures["pythia-12b"].num_hidden_layers
('EleutherAI/pythia-12b', 36)
"""
