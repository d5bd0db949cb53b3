"""Predicting a layer's trajectory from the shape of its model, and saying how far to believe it."""

from madyn.prediction.evaluation import caution, left_out_scores, published_scores, score_table, scores
from madyn.prediction.explanation import Explanation, importances, partial_dependence, residuals, shap_values
from madyn.prediction.features import FEATURES, feature_table, features_of
from madyn.prediction.predictor import Predictor
from madyn.prediction.regressors import REGRESSORS
from madyn.prediction.targets import TARGETS

__all__ = [
    "FEATURES",
    "REGRESSORS",
    "TARGETS",
    "Explanation",
    "Predictor",
    "caution",
    "feature_table",
    "features_of",
    "importances",
    "left_out_scores",
    "partial_dependence",
    "published_scores",
    "residuals",
    "score_table",
    "scores",
    "shap_values",
]
