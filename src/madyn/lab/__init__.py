"""The lab: families of small models, trained to be measured."""

from madyn.lab.recipe import Recipe, checkpoint_steps
from madyn.lab.running import LabReport, run_suite
from madyn.lab.suites import Design, LabSuite, Measuring, ModelEntry, TrainingText, read_suite

__all__ = [
    "Design",
    "LabReport",
    "LabSuite",
    "Measuring",
    "ModelEntry",
    "Recipe",
    "TrainingText",
    "checkpoint_steps",
    "read_suite",
    "run_suite",
]
