"""Where a massive activation comes from: one coordinate of the residual stream as the sum of what was added to it.

After layer l the coordinate is what the embedding put there and what the attention and the MLP of every layer up to l
have added. The sum is exact, so that one sees which block writes a massive activation, which layers hand it on, and
which block takes it away.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from madyn.errors import ArchitectureError, UsageError
from madyn.intervention.addends import LayerRun, layer_runs
from madyn.intervention.passes import Passes
from madyn.measurement.forward import Layers

ROLES = ("layer", "part", "role", "value", "share", "sum")
COLUMNS = ("sequence", "layer", "part", "value", "sum")
_EXACT = 1e-5


def decompose(model: nn.Module, sequences: Any, position: int, feature: int, *, layers: Layers = None) -> pd.DataFrame:
    """What each block adds to one coordinate of the residual stream.

    Args:
        model: with or without its head; run as it is. What an intervention changes between layers is a part of its own.
        sequences: token ids (B, S).
        position: of the coordinate, counted from 0.
        feature: of the coordinate, counted from 0.
        layers: as in `measure`; one stack.

    Returns:
        a row a sequence and part, in the order in which they are added: `sequence`; `layer`, -1 for the embedding;
        `part`: "embedding" (with all that is done to it before the first layer), "attention", "mlp", the module's name
        where it is neither, "layer" for the whole change of a layer whose addends were not found (a norm behind the
        sum, as in BERT), "between" for what changes between two layers; `value`, what is added; `sum`, what the
        coordinate is then. `attrs["remarks"]` holds a sentence for each thing worth knowing.

    Raises:
        ArchitectureError: the layers take no hidden state that can be followed, or there are two stacks.
        UsageError: there is no such position or feature.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> parts = madyn.intervention.decompose(model, ids, position=0, feature=3)
    >>> list(parts.columns[:3])
    ['sequence', 'layer', 'part']
    """
    passes = Passes.of(model, sequences, layers)
    name = type(passes.part).__name__
    if len(passes.stacks) > 1:
        paths = " or ".join(stack.name for stack in passes.stacks)
        raise ArchitectureError(f"{name} has two stacks of layers; say with `layers` which one is meant: {paths}")
    position = passes.position(position)
    feature = passes.feature(feature)
    rows: list[tuple[int, int, str, float, float]] = []
    whole: set[int] = set()
    apart = 0.0
    for number in range(len(passes.sequences)):
        runs = layer_runs(passes, number, position, feature)
        if not all(np.isfinite([run.before, run.after]).all() for run in runs):
            raise ArchitectureError(f"the hidden states that pass the layers of {name} cannot be followed")
        whole |= {layer for layer, run in enumerate(runs) if not run.found}
        found = _rows(number, runs)
        largest = max(abs(row[-1]) for row in found)
        apart = max(apart, abs(found[-1][-1] - runs[-1].after) / max(largest, 1e-30))
        rows += found
    table = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    table.attrs["remarks"] = _remarks(whole, apart)
    return table


def _rows(number: int, runs: list[LayerRun]) -> list[tuple[int, int, str, float, float]]:
    total = runs[0].before
    rows = [(number, -1, "embedding", total, total)]
    former = total
    for layer, run in enumerate(runs):
        added = [(addend.part, addend.value) for addend in run.addends]
        if run.before != former:
            added.insert(0, ("between", run.before - former))
        for part, value in added:
            total += value
            rows.append((number, layer, part, value, total))
        former = run.after
    return rows


def _remarks(whole: set[int], apart: float) -> list[str]:
    said = []
    if whole:
        listed = ", ".join(map(str, sorted(whole)))
        said.append(f"no modules were found whose outputs sum to the change of layers {listed}; it is given as a whole")
    if apart > _EXACT:
        said.append(
            f"the parts sum to the coordinate within {apart:.1g} of its largest value: the model rounds its own sums"
        )
    return said


def writers(table: pd.DataFrame, share: float = 0.1) -> pd.DataFrame:
    """Who writes a coordinate and who removes it again.

    Args:
        table: of `decompose`; means over the sequences are taken.
        share: of the largest |sum|: a part that adds less is left out.

    Returns:
        a row a part, in their order: `layer`, `part`, `role` ("writes", "removes"), `value`, `share` (of the largest
        sum, negative where it is taken away), `sum`. `attrs["remarks"]` says the same in a sentence, with the layers
        after which the coordinate is kept: within `share` of its largest value.

    Raises:
        UsageError: share is not between 0 and 1.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> parts = madyn.intervention.decompose(model, ids, position=0, feature=3)
    >>> len(madyn.intervention.writers(parts)) > 0
    True
    """
    if not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise UsageError(f"share is {share!r}; it is a number above 0 and at most 1")
    parts = table.assign(place=table.groupby("sequence").cumcount())
    means = parts.groupby("place", as_index=False).agg(
        {"layer": "first", "part": "first", "value": "mean", "sum": "mean"}
    )
    peak = float(means["sum"].iloc[int(np.argmax(np.abs(means["sum"])))])
    means["share"] = means["value"] / peak if peak else 0.0
    found = means[means["share"].abs() >= share].copy()
    found["role"] = np.where(found["share"] > 0, "writes", "removes")
    after = means.groupby("layer")["sum"].last()
    kept = [int(layer) for layer in after.index[np.abs(after / peak) >= 1 - share]] if peak else []
    found = pd.DataFrame(found, columns=pd.Index(ROLES)).reset_index(drop=True)
    found.attrs["remarks"] = [_said(found, peak, kept)]
    return found


def _said(found: pd.DataFrame, peak: float, kept: list[int]) -> str:
    clauses = []
    for role, verb in (("writes", "written by"), ("removes", "removed by")):
        rows = found[found["role"] == role]
        named = [f"{_named(row)} ({row['value']:+,.4g})" for _, row in rows.iterrows()]
        clauses += [f"{verb} {', '.join(named)}"] if named else []
    if kept:
        clauses.insert(1, f"at its height after layers {kept[0]} to {kept[-1]}" if len(kept) > 1 else
                       f"at its height after layer {kept[0]}")  # fmt: skip
    return f"the coordinate reaches {peak:,.6g}: " + "; ".join(clauses)


def _named(row: Any) -> str:
    return "the embedding" if row["layer"] < 0 else f"the {row['part']} of layer {int(row['layer'])}"
