"""The lab: families of small models, trained to be measured."""

from madyn.lab.family import train_family
from madyn.lab.training import Recipe, checkpoint_steps, train

__all__ = ["Recipe", "checkpoint_steps", "train", "train_family"]
