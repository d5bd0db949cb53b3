"""madyn: massive activations over a transformer's training, measured, fitted and predicted.

The names here are those that most scripts need; the rooms have more, each in its `__init__`. All are loaded when they
are first used, so that importing the package costs nothing and reading a dataset needs neither torch nor a regressor.
`__init__.pyi` is the one list of them.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import lazy_loader

from madyn.notebook import look_in
from madyn.telemetry import switch_off

__version__ = "0.1.0"

switch_off()
look_in("madyn.figures.obvious")

_load, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
_rooms = {room.name for room in iter_modules(__path__)}
__all__ = [name for name in _names if name not in _rooms]  # pyright: ignore[reportUnsupportedDunderAll]  see the .pyi

_MOVED = {
    "Comparison": "analysis.Comparison",
    "Dataset": "dataset.Dataset",
    "Designs": "prediction.Designs",
    "Evaluation": "prediction.Evaluation",
    "Fits": "curves.Fits",
    "LabReport": "lab.LabReport",
    "LabSuite": "lab.LabSuite",
    "Posterior": "curves.Posterior",
    "Prior": "curves.Prior",
    "Probe": "sweep.Probe",
    "Recipe": "lab.Recipe",
    "SeparableModel": "curves.SeparableModel",
    "Settings": "sweep.Settings",
    "Suite": "suites.Suite",
    "TraceReport": "sweep.TraceReport",
    "Training": "prediction.Training",
    "Verdict": "massive.Verdict",
    "check_dataset": "checking.check_dataset",
    "compare_dataset": "compare",
    "curve_quantities": "curves.curve_quantities",
    "evaluate_dataset": "evaluate",
    "forecast_dataset": "forecast",
    "holdout_scores": "curves.holdout_scores",
    "kfold_scores": "curves.kfold_scores",
    "learn_prior": "curves.learn_prior",
    "massive_by_start": "massive.massive_by_start",
    "massive_by_tail": "massive.massive_by_tail",
    "massive_published": "massive.massive_published",
    "quantity_intervals": "curves.quantity_intervals",
    "read_suite": "lab.read_suite",
    "scan_checkpoint": "sweep.scan_checkpoint",
    "search_designs": "design",
    "verify_checkpoints": "sweep.verify_checkpoints",
}
"""Where the names went that version 0.1 had here; they work until 0.3, with a warning."""


def __getattr__(name: str) -> Any:
    try:
        if name not in _MOVED:
            return _load(name)
        room, _, new = f"madyn.{_MOVED[name]}".rpartition(".")
        warnings.warn(f"madyn.{name} is {room}.{new} now", DeprecationWarning, stacklevel=2)
        return getattr(import_module(room), new)
    except ModuleNotFoundError as e:
        from madyn.errors import missing_dependency

        raise missing_dependency(e) from e
