"""Where checkpoints come from, and how their weights get into a model."""

from madyn.checkpoints.finding import Checkpoint, Checkpoints, find_checkpoint, find_checkpoints

__all__ = ["Checkpoint", "Checkpoints", "find_checkpoint", "find_checkpoints"]
