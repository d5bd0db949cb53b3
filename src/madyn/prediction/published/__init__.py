"""The published predictor: five parameters of the reparam curve from sixteen features, one by one.

Kept as Gallego-Feliciano et al. (arXiv 2508.03616) describe it, so that their Table 3 and its figures can be made of
any dataset. `madyn.Predictor` answers the question that it leaves open: what a model does that nobody has trained.
"""

from madyn.prediction.published.explanation import (
    depth_dependence,
    importances,
    partial_dependence,
    residuals,
    shap_values,
)
from madyn.prediction.published.features import FEATURES, feature_table, features_of
from madyn.prediction.published.predictor import ParameterPredictor
from madyn.prediction.published.protocols import RANDOM_LAYERS, WHOLE_MODELS, caution, score_table, scores
from madyn.prediction.published.regressors import REGRESSORS
from madyn.prediction.published.targets import TARGETS

__all__ = [
    "FEATURES",
    "RANDOM_LAYERS",
    "REGRESSORS",
    "TARGETS",
    "WHOLE_MODELS",
    "ParameterPredictor",
    "caution",
    "depth_dependence",
    "feature_table",
    "features_of",
    "importances",
    "partial_dependence",
    "residuals",
    "score_table",
    "scores",
    "shap_values",
]
