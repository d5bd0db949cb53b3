"""Where checkpoints come from, and how their weights get into a model."""

from madyn.checkpoints.finding import find_checkpoint, find_checkpoints
from madyn.checkpoints.sources.protocol import Checkpoint, Checkpoints

__all__ = ["Checkpoint", "Checkpoints", "find_checkpoint", "find_checkpoints"]
