"""Hidden states to exact order statistics."""

from madyn.measurement.forward import measure, measure_with_locations
from madyn.measurement.reducing import Measurement

__all__ = ["Measurement", "measure", "measure_with_locations"]
