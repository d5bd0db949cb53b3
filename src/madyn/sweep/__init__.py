"""Sweeps: checkpoints x probe -> dataset."""

from madyn.sweep.scanning import scan_checkpoint
from madyn.sweep.settings import Probe, Settings
from madyn.sweep.tracing import TraceReport, trace

__all__ = ["Probe", "Settings", "TraceReport", "scan_checkpoint", "trace"]
