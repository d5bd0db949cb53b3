"""What commands say when they are done: tables for a terminal, the same text without colours for a pipe."""

from madyn.summaries.designs import print_designs
from madyn.summaries.families import print_effects, print_lab, print_suite_costs
from madyn.summaries.prediction import print_evaluation, print_prediction
from madyn.summaries.tables import (
    print_comparison,
    print_contents,
    print_costs,
    print_drawing,
    print_fits,
    print_forecast,
    print_locations,
    print_scan,
    print_trace,
)

__all__ = [
    "print_comparison",
    "print_contents",
    "print_costs",
    "print_designs",
    "print_drawing",
    "print_effects",
    "print_evaluation",
    "print_fits",
    "print_forecast",
    "print_lab",
    "print_locations",
    "print_prediction",
    "print_scan",
    "print_suite_costs",
    "print_trace",
]
