"""Predicting a layer's trajectory from the shape of its model, and saying how far to believe it."""

from madyn.prediction.candidates import Limits
from madyn.prediction.design_search import Designs, design
from madyn.prediction.evaluation import Evaluation, evaluate
from madyn.prediction.inputs import Training
from madyn.prediction.predictor import Predictor

__all__ = ["Designs", "Evaluation", "Limits", "Predictor", "Training", "design", "evaluate"]
