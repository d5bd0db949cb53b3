"""madyn: massive activations over a transformer's training, measured, fitted and predicted.

Names are loaded when they are first used, so that importing the package costs nothing and reading a dataset needs
neither torch nor a regressor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from madyn.telemetry import switch_off

if TYPE_CHECKING:
    from madyn.analysis.comparison import Comparison, compare_dataset
    from madyn.analysis.fitting import fit_dataset
    from madyn.analysis.forecasting import forecast_dataset
    from madyn.architecture import Architecture
    from madyn.checking import check_dataset
    from madyn.curves.bayes.learning import learn_prior
    from madyn.curves.bayes.posteriors import Posterior, posterior
    from madyn.curves.bayes.priors import Prior
    from madyn.curves.fitting.fits import Fits, fit_curves
    from madyn.curves.fitting.validation import holdout_scores, kfold_scores
    from madyn.curves.hypotheses.separable import SeparableModel
    from madyn.curves.responses import curve_quantities, quantity_intervals
    from madyn.dataset.view import Dataset, open_dataset
    from madyn.errors import MadynError
    from madyn.figures.draw import draw_figures
    from madyn.lab.recipe import Recipe
    from madyn.lab.running import LabReport, run_suite
    from madyn.lab.suites import LabSuite, read_suite
    from madyn.massive import Verdict, massive_by_start, massive_by_tail, massive_published
    from madyn.measurement.forward import measure
    from madyn.prediction.design import Designs, search_designs
    from madyn.prediction.evaluation import Evaluation, evaluate_dataset
    from madyn.prediction.inputs import Training
    from madyn.prediction.predictor import Predictor
    from madyn.suites import PYTHIA, Suite
    from madyn.sweep.scanning import scan_checkpoint
    from madyn.sweep.settings import Probe, Settings
    from madyn.sweep.tracing import TraceReport, trace
    from madyn.sweep.verifying import verify_checkpoints

__version__ = "0.1.0"

switch_off()

_HOMES = {
    "Architecture": "madyn.architecture",
    "Comparison": "madyn.analysis.comparison",
    "Dataset": "madyn.dataset.view",
    "Designs": "madyn.prediction.design",
    "Evaluation": "madyn.prediction.evaluation",
    "Fits": "madyn.curves.fitting.fits",
    "LabReport": "madyn.lab.running",
    "LabSuite": "madyn.lab.suites",
    "MadynError": "madyn.errors",
    "PYTHIA": "madyn.suites",
    "Posterior": "madyn.curves.bayes.posteriors",
    "Predictor": "madyn.prediction.predictor",
    "Prior": "madyn.curves.bayes.priors",
    "Probe": "madyn.sweep.settings",
    "Recipe": "madyn.lab.recipe",
    "SeparableModel": "madyn.curves.hypotheses.separable",
    "Settings": "madyn.sweep.settings",
    "Suite": "madyn.suites",
    "TraceReport": "madyn.sweep.tracing",
    "Training": "madyn.prediction.inputs",
    "Verdict": "madyn.massive",
    "check_dataset": "madyn.checking",
    "compare_dataset": "madyn.analysis.comparison",
    "curve_quantities": "madyn.curves.responses",
    "draw_figures": "madyn.figures.draw",
    "evaluate_dataset": "madyn.prediction.evaluation",
    "fit_curves": "madyn.curves.fitting.fits",
    "fit_dataset": "madyn.analysis.fitting",
    "forecast_dataset": "madyn.analysis.forecasting",
    "holdout_scores": "madyn.curves.fitting.validation",
    "kfold_scores": "madyn.curves.fitting.validation",
    "learn_prior": "madyn.curves.bayes.learning",
    "massive_by_start": "madyn.massive",
    "massive_by_tail": "madyn.massive",
    "massive_published": "madyn.massive",
    "measure": "madyn.measurement.forward",
    "open_dataset": "madyn.dataset.view",
    "posterior": "madyn.curves.bayes.posteriors",
    "quantity_intervals": "madyn.curves.responses",
    "read_suite": "madyn.lab.suites",
    "run_suite": "madyn.lab.running",
    "scan_checkpoint": "madyn.sweep.scanning",
    "search_designs": "madyn.prediction.design",
    "trace": "madyn.sweep.tracing",
    "verify_checkpoints": "madyn.sweep.verifying",
}

__all__ = [
    "PYTHIA",
    "Architecture",
    "Comparison",
    "Dataset",
    "Designs",
    "Evaluation",
    "Fits",
    "LabReport",
    "LabSuite",
    "MadynError",
    "Posterior",
    "Predictor",
    "Prior",
    "Probe",
    "Recipe",
    "SeparableModel",
    "Settings",
    "Suite",
    "TraceReport",
    "Training",
    "Verdict",
    "check_dataset",
    "compare_dataset",
    "curve_quantities",
    "draw_figures",
    "evaluate_dataset",
    "fit_curves",
    "fit_dataset",
    "forecast_dataset",
    "holdout_scores",
    "kfold_scores",
    "learn_prior",
    "massive_by_start",
    "massive_by_tail",
    "massive_published",
    "measure",
    "open_dataset",
    "posterior",
    "quantity_intervals",
    "read_suite",
    "run_suite",
    "scan_checkpoint",
    "search_designs",
    "trace",
    "verify_checkpoints",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'madyn' has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as e:
        from madyn.errors import missing_dependency

        raise missing_dependency(e) from e
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
