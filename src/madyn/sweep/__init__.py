"""Sweeps: checkpoints x probe -> dataset."""

from madyn.settings import Probe, Settings
from madyn.sweep.costs import ModelCost, SweepCost, plan_costs
from madyn.sweep.scanning import scan_checkpoint, scan_with_and_without_bos
from madyn.sweep.tracing import TraceReport, trace
from madyn.sweep.verifying import verify_checkpoints

__all__ = [
    "ModelCost",
    "Probe",
    "Settings",
    "SweepCost",
    "TraceReport",
    "plan_costs",
    "scan_checkpoint",
    "scan_with_and_without_bos",
    "trace",
    "verify_checkpoints",
]
