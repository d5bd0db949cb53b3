"""What a family shows: how its massive activations go with the architecture, and how much is chance."""

from madyn.effects.departures import departure_effects, effects_of_pairs, find_departures
from madyn.effects.responses import (
    FACTORS,
    RESPONSES,
    at_equal_loss,
    built_as,
    course_of,
    model_responses,
    whole_family,
)
from madyn.effects.sizes import effect_sizes, variance_shares
from madyn.effects.study import Study, study_effects

__all__ = [
    "FACTORS",
    "RESPONSES",
    "Study",
    "at_equal_loss",
    "built_as",
    "course_of",
    "departure_effects",
    "effect_sizes",
    "effects_of_pairs",
    "find_departures",
    "model_responses",
    "study_effects",
    "variance_shares",
    "whole_family",
]
