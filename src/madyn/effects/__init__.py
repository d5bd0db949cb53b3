"""What a family shows: how its massive activations go with the architecture, and how much is chance."""

from madyn.effects.departures import departure_effects
from madyn.effects.responses import FACTORS, RESPONSES, model_responses
from madyn.effects.sizes import effect_sizes, variance_shares
from madyn.effects.study import Study, study_effects

__all__ = [
    "FACTORS",
    "RESPONSES",
    "Study",
    "departure_effects",
    "effect_sizes",
    "model_responses",
    "study_effects",
    "variance_shares",
]
