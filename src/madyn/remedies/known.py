"""Which model types are this package's own; light, so that asking imports neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFIX = "madyn_"

FITTED: Mapping[str, tuple[str, str, str]] = {
    "llama": ("LlamaConfig", "LlamaModel", "LlamaForCausalLM"),
    "arcee": ("ArceeConfig", "ArceeModel", "ArceeForCausalLM"),
    "qwen3": ("Qwen3Config", "Qwen3Model", "Qwen3ForCausalLM"),
    "glm4": ("Glm4Config", "Glm4Model", "Glm4ForCausalLM"),
}
"""The classes of transformers that take remedies, by their model type: config, model, and model with its head."""


def plain_type(model_type: Any) -> str | None:
    """The type of `FITTED` that a config's model type is, with remedies; None where it is none of these."""
    if not isinstance(model_type, str) or not model_type.startswith(PREFIX):
        return None
    plain = model_type.removeprefix(PREFIX)
    return plain if plain in FITTED else None
