"""Beside what replaced values do: which blocks wrote them, and what attends to where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from madyn.errors import ArchitectureError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from madyn.intervention.experiment import Effects


@dataclass(frozen=True)
class Origin:
    """Where the values of an experiment come from, and what attends to them.

    Attributes:
        position: of the place that most of the massive values have.
        feature: of that place.
        sequences: in how many of the sequences they stand there; only those are looked at.
        parts: as `decompose` gives it; None where the blocks cannot be followed.
        attention: by the setting, and "untouched", as `attention_shares` gives it; empty where there are no weights.
        sentences: what both say, and why one is missing.
    """

    position: int
    feature: int
    sequences: int
    parts: pd.DataFrame | None = None
    attention: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


def find_origin(model: nn.Module, sequences: Any, effects: Effects, *, layers: str | None = None) -> Origin:
    """Take the value of an experiment apart, and tell what attends to its position.

    Args:
        model: as `measure_effects` had it.
        sequences: as it had them.
        effects: what it gave; attention is told untouched and for the first of its settings.
        layers: as it had them.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> effects = madyn.intervention.measure_effects(model, ids, settings=["zero"], layer=0, controls=False)
    >>> origin = madyn.intervention.find_origin(model, ids, effects)
    >>> len(origin.sentences) > 0
    True
    """
    import torch

    places: Any = effects.places
    position, feature = places.groupby(["position", "feature"]).size().idxmax()
    rows = sorted(set(places.loc[(places["position"] == position) & (places["feature"] == feature), "sequence"]))
    ids = torch.as_tensor(sequences)[rows]
    sentences: list[str] = []
    parts = _parts(model, ids, int(position), int(feature), layers, sentences)
    settings = [one for one in dict.fromkeys(effects.table["set"]) if one != "untouched"][:1]
    attention = _attention(model, ids, effects.layer, int(position), int(feature), settings, layers, sentences)
    return Origin(int(position), int(feature), len(rows), parts, attention, sentences)


def _parts(model: Any, ids: Any, position: int, feature: int, layers: str | None, said: list[str]) -> Any:
    from madyn.intervention.decomposition import decompose, writers

    try:
        parts = decompose(model, ids, position, feature, layers=layers)
    except (ArchitectureError, UsageError) as e:
        said.append(f"which blocks write it is not told: {e}")
        return None
    said += [f"feature {feature} at position {position}: {one}" for one in writers(parts).attrs["remarks"]]
    return parts


def _attention(
    model: Any,
    ids: Any,
    layer: int,
    position: int,
    feature: int,
    settings: list[str],
    layers: str | None,
    said: list[str],
) -> dict[str, Any]:
    """Attention to a position as it is, and with the feature there replaced; "mean" is over these sequences."""
    from madyn.intervention.attention import attention_shares
    from madyn.intervention.editing import intervene

    found: dict[str, Any] = {}
    try:
        for setting in ("untouched", *settings):
            how = {"layer": layer, "position": position, "feature": feature, "set": setting, "over": ids}
            with nullcontext() if setting == "untouched" else intervene(model, **how, layers=layers):
                found[setting] = attention_shares(model, ids, position, layers=layers)
    except (ArchitectureError, UsageError) as e:
        said.append(f"what attends to position {position} is not told: {e}")
        return {}
    means = {name: table.groupby("layer")["share"].mean() for name, table in found.items()}
    most = int(means["untouched"].loc[layer + 1 :].idxmax()) if layer + 1 in means["untouched"].index else 0
    shares = ", ".join(
        f"{mean[most]:.0%} {name if name == 'untouched' else f'with it set to {name}'}" for name, mean in means.items()
    )
    said.append(f"attention to position {position}, a mean over the heads of layer {most}: {shares}")
    return found
