"""How a model's layers are wired, as against its shape: the one table of what the lab can switch.

A wiring is a word for each field below, so that every room may take it for a factor of a few levels: the lab builds
it, effects compare its levels, and the predictor is told of each level but the usual one. What a word means, and whose
idea it is, is told where it is built: `madyn.remedies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """A wiring; by default that of GPT-NeoX.

    Attributes:
        residual: attention and MLP read the same hidden state (parallel), or the MLP reads what attention has added to
            it (sequential).
        norm_placement: before attention and MLP (pre), or also on what they give (sandwich).
        attention: what makes weights of the scores; all but softmax let a head attend to nothing, or to a place that
            holds nothing.
        output_gate: a sigmoid of the layer's input on what each head gives, one for a head or one for each feature.
        qk_norm, value_norm: an RMSNorm of each head's queries and keys, or of the sum of values that it gives.
        norm_gain: of an RMSNorm, one for each feature or a single one.
        embedding_norm: of the token embeddings, before the first layer.
    """

    residual: Literal["parallel", "sequential"] = "parallel"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_placement: Literal["pre", "sandwich"] = "pre"
    activation: Literal["gelu", "swiglu", "relu2"] = "gelu"
    attention: Literal["softmax", "softmax1", "sink", "key_bias", "clipped_softmax", "softpick", "sigmoid"] = "softmax"
    output_gate: Literal["none", "headwise", "elementwise"] = "none"
    qk_norm: Literal["none", "rmsnorm"] = "none"
    value_norm: Literal["none", "rmsnorm"] = "none"
    norm_gain: Literal["vector", "scalar"] = "vector"
    embedding_norm: Literal["none", "rmsnorm"] = "none"


USUAL: Mapping[str, str] = {f.name: str(f.default) for f in fields(Wiring)}
"""The level of each field that models have which say nothing of it."""

LEVELS: Mapping[str, tuple[str, ...]] = {name: get_args(kind) for name, kind in get_type_hints(Wiring).items()}
"""All levels of each field, the usual one among them."""

REMEDIES = ("attention", "output_gate", "value_norm", "norm_gain", "embedding_norm")
"""The fields that no class of transformers knows: `madyn.remedies` adds them to classes that have the rest."""


def in_words(levels: Mapping[str, Any]) -> str:
    """What of a wiring, or of a recipe, is not usual, as every page writes it; "" for nothing.

    >>> in_words({"attention": "softmax1", "bos": False})
    'attention softmax1, bos false'
    """
    return ", ".join(
        f"{name} {str(level).lower() if isinstance(level, bool) else level}" for name, level in levels.items()
    )


def departing(wiring: Wiring, usual: Wiring) -> dict[str, str]:
    """The fields in which a wiring departs from another one, with its own levels."""
    found = {name: str(getattr(wiring, name)) for name in USUAL}
    return {name: level for name, level in found.items() if level != getattr(usual, name)}


def remedies_of(wiring: Any) -> dict[str, str]:
    """The fields of `REMEDIES` in which a wiring departs from what is usual."""
    found = {name: getattr(wiring, name) for name in REMEDIES}
    return {name: level for name, level in found.items() if level != USUAL[name]}
