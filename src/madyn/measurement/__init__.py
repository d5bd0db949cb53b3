"""Hidden states to exact order statistics."""

from madyn.measurement.forward import Measurement, measure, measure_with_locations

__all__ = ["Measurement", "measure", "measure_with_locations"]
