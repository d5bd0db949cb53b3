"""What a family shows: how its massive activations go with the architecture, and how much is chance."""

from madyn.effects.responses import FACTORS, RESPONSES, model_responses
from madyn.effects.sizes import effect_sizes, variance_shares

__all__ = ["FACTORS", "RESPONSES", "effect_sizes", "model_responses", "variance_shares"]
