"""Watching a training run: measured as it goes, warned of what is coming."""

from madyn.monitor.watched import Monitor

__all__ = ["Monitor"]
