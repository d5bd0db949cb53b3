"""Predicting a layer's trajectory from the shape of its model, and saying how far to believe it."""

from madyn.prediction.inputs import Training
from madyn.prediction.predictor import Predictor

__all__ = ["Predictor", "Training"]
