"""Benign or fatal? What can be told of a massive activation's use without taking it away.

In about half of the public models that were looked at, setting the massive activations to zero ruins the model; in the
others nothing happens (Owen et al. 2025, arXiv 2503.22329). Size does not tell which. What is gathered here are
quantities of a plain forward that should: a massive activation serves attention heads as a place to look at when they
have nothing to say, and it can only serve so where it makes the direction of its token's state.

*sink share*: how much attention the position gets in the layers behind. *residual share*: the part of the token's
squared norm that the coordinate is: without it, a norm scales the rest of the token up by 1/sqrt(1 - share).
*reliance*: their product, the attention that looks at a state which the coordinate makes. *disturbance* asks one layer
more: it is run once more without the coordinate. docs/function.md says how well they do.
"""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from madyn.errors import ArchitectureError, UsageError, listed
from madyn.intervention.addends import layer_runs
from madyn.intervention.attention import attention_shares
from madyn.intervention.passes import Passes, hooked
from madyn.measurement.forward import Layers, evaluating
from madyn.measurement.layers import first_tensor
from madyn.measurement.order_statistics import order_statistics
from madyn.measurement.resuming import copied

_SINK = 0.3  # of a head's attention: what Gu et al. (2024) call a sink
_VALUES = ("v_proj", "value", "v")
_FUSED = ("query_key_value", "c_attn", "qkv_proj")
_MOST_ORDERS = 200_000


def indicators(model: nn.Module, sequences: Any, site: tuple[int, int, int], *, layers: Layers = None) -> pd.Series:
    """What a plain forward says of one massive activation.

    Args:
        model: with or without its head; a decoder, or an encoder.
        sequences: token ids (B, S); means over them are taken.
        site: layer, position and feature of the activation, in what the layer hands on.
        layers: as in `measure`; one stack.

    Returns:
        `value`, the coordinate (its |mean|); `ratio`, of it to the median |h| of the layer; `residual_share` of the
        token's squared norm; `final_share`, the same before the final norm, and `normed_share`, behind it; of the
        layers behind: `sink_share`, the mean share of attention that heads give to the position, `sink_heads`, the
        part of the heads that give it more than 0.3, and `value_norm`, the norm of the position's value states
        beside the median of the other positions'; `reliance`, sink_share times residual_share; `disturbance`, how far
        what the next layer adds to the tokens behind the position moves where the coordinate is 0, beside the norm of
        their states (the median over the tokens); `sandwich`, whether norms stand behind the layers' MLPs, and `bos`,
        whether the sequences start with the config's BOS token (1 or 0). Not a number where it cannot be told: no layer
        behind, no value states of its own. `attrs["remarks"]` says why.

    Raises:
        ArchitectureError: there are two stacks, or no attention weights.
        UsageError: there is no such layer, position or feature.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import madyn
    >>> shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    >>> ids = torch.arange(16).reshape(2, 8)
    >>> found = madyn.intervention.indicators(model, ids, site=(0, 0, 3))
    >>> bool(0 <= found["sink_share"] <= 1)
    True
    """
    passes = Passes.of(model, sequences, layers)
    if len(passes.stacks) > 1:
        raise ArchitectureError(f"{type(passes.part).__name__} has two stacks of layers; say with `layers` which one")
    given = listed("site", site)
    if len(given) != 3:
        raise UsageError(f"site has {len(given)} entries; it is a layer, a position and a feature")
    layer, position, feature = passes.layer(given[0]), passes.position(given[1], after=1), passes.feature(given[2])
    shares = attention_shares(model, sequences, position, layers=layers)
    reads = [_read(passes, number, layer, position, feature) for number in range(len(passes.sequences))]
    found = {name: float(np.mean([read[name] for read in reads])) for name in reads[0]}
    behind = np.asarray(shares.loc[shares["layer"] > layer, "share"], float)
    found["sink_share"] = float(np.mean(behind)) if len(behind) else np.nan
    found["sink_heads"] = float(np.mean(behind > _SINK)) if len(behind) else np.nan
    found["reliance"] = found["sink_share"] * found["residual_share"]
    found["sandwich"] = float(_has_norm_behind(passes, position, feature))
    moved = [_disturbance(passes, number, layer, position, feature) for number in range(len(passes.sequences))]
    found["disturbance"] = float(np.mean(moved))
    found["bos"] = float(_begin_with_bos(passes))
    series = pd.Series({name: found[name] for name in NAMES})
    series.attrs["remarks"] = [*shares.attrs["remarks"], *_why_not(found)]
    return series


NAMES = (
    "value", "ratio", "residual_share", "final_share", "normed_share", "sink_share", "sink_heads", "value_norm",
    "reliance", "disturbance", "sandwich", "bos",
)  # fmt: skip


def _why_not(found: dict[str, float]) -> list[str]:
    said = []
    if np.isnan(found["sink_share"]):
        said.append("no layer with attention stands behind this one, so that nothing attends to the activation")
    elif np.isnan(found["value_norm"]):
        said.append("the value states of this model cannot be told from its queries and keys")
    return said


def _read(passes: Passes, number: int, layer: int, position: int, feature: int) -> dict[str, float]:
    """What is read off the layers' outputs and value states in one forward of one sequence."""
    stack, length = passes.stacks[0], passes.sequences[number].shape[1]
    states: list[torch.Tensor] = []
    medians: list[float] = []
    norms: list[float] = []

    def see(module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = stack.hidden_state(output, length)
        if hidden is None:
            raise ArchitectureError(f"{type(module).__name__} does not return a hidden state of shape (B, S, d)")
        if len(states) == layer:
            medians.append(float(order_statistics(hidden[0], 1)[0][-1]))
        states.append(hidden[0, position].double())

    def see_values(module: nn.Module, inputs: Any, output: Any) -> None:
        values = value_states(passes.part, paths[module], first_tensor(output))
        if values is not None and len(states) > layer:  # the layer's own output has been seen: this is one behind it
            size = values.double().norm(dim=-1)
            others = torch.cat([size[:position], size[position + 1 :]])
            norms.append(float(size[position] / others.median().clamp(min=1e-30)))

    inner = [(name, m) for one in stack.modules for name, m in one.named_modules()]
    paths = {module: name for name, module in inner if name.rpartition(".")[2] in (*_VALUES, *_FUSED)}
    with hooked(stack.modules, see), hooked(paths, see_values):
        output = passes.run(number)
    normed = first_tensor(getattr(output, "last_hidden_state", output))
    final = None if normed is None or normed.ndim != 3 else normed[0, position].double()
    value = abs(float(states[layer][feature]))
    return {
        "value": value,
        "ratio": value / max(medians[0], 1e-30),
        "residual_share": _share(states[layer], feature),
        "final_share": _share(states[-1], feature),
        "normed_share": np.nan if final is None else _share(final, feature),
        "value_norm": float(np.mean(norms)) if norms else np.nan,
    }


def _share(state: torch.Tensor, feature: int) -> float:
    """The part of a state's squared norm that one feature is."""
    return float(state[feature] ** 2 / (state**2).sum().clamp(min=1e-30))


def value_states(part: Any, path: str, output: torch.Tensor | None) -> torch.Tensor | None:
    """Values (S, heads x size) from what a module of an attention gives; None where they cannot be told."""
    if output is None or output.ndim != 3 or len(output) != 1:
        return None
    name, rows = path.rpartition(".")[2], output[0]
    if name in _VALUES:
        return rows
    config = part.config.get_text_config()
    heads = config.num_attention_heads
    if name == "query_key_value" and config.model_type in ("gpt_neox", "bloom"):  # head by head: query, key, value
        return rows.reshape(len(rows), heads, 3, -1)[:, :, 2].reshape(len(rows), -1)
    if name == "c_attn" and rows.shape[-1] % 3 == 0 and config.model_type == "gpt2":
        return rows[:, -(rows.shape[-1] // 3) :]
    if name == "qkv_proj":
        kept = getattr(config, "num_key_value_heads", heads)
        return rows[:, -(rows.shape[-1] // (heads + 2 * kept)) * kept :]
    return None


@torch.no_grad()
def _disturbance(passes: Passes, number: int, layer: int, position: int, feature: int) -> float:
    """How far the next layer alone moves the other tokens without the coordinate; the model is not run further."""
    stack, length = passes.stacks[0], passes.sequences[number].shape[1]
    if layer + 1 == len(stack.modules):
        return np.nan
    given = passes.given_to(number, layer + 1)
    outputs = []
    for zeroed in (False, True):
        args, kwargs = copied(given[0]), dict(given[1])
        states = stack.hidden_state(args[0] if args else kwargs.get("hidden_states"), length)
        if states is None:
            raise ArchitectureError(f"layer {layer + 1} of {type(passes.part).__name__} is given no hidden state")
        if not args:
            kwargs["hidden_states"] = states = states.clone()
        before = states.double().clone()
        if zeroed:
            states[:, position, feature] = 0  # a view of what the layer is given
        with evaluating(passes.part):
            after = stack.hidden_state(stack.modules[layer + 1](*args, **kwargs), length)
        if after is None:
            raise ArchitectureError(f"layer {layer + 1} of {type(passes.part).__name__} hands on no hidden state")
        outputs.append((before, after.double()))
    (before, plain), (_, changed) = outputs
    moved = (changed - plain)[0, position + 1 :].norm(dim=-1) / before[0, position + 1 :].norm(dim=-1).clamp(min=1e-30)
    return float(moved.median())


def _has_norm_behind(passes: Passes, position: int, feature: int) -> bool:
    """Whether what the layers' MLPs add has passed a norm of its own."""
    addends = [addend for run in layer_runs(passes, 0, position, feature) for addend in run.addends]
    return any(addend.part == "mlp" and addend.source != addend.module for addend in addends)


def _begin_with_bos(passes: Passes) -> bool:
    config: Any = getattr(passes.part, "config", None)
    bos = getattr(config, "bos_token_id", None)
    return bos is not None and all(int(ids[0, 0]) == bos for ids in passes.sequences)


def separation(scores: Any, fatal: Any, models: Any, seed: int = 0) -> pd.Series:
    """How well a score tells fatal settings from benign ones, where settings of one model are no independent cases.

    A model counts once, with the mean of its settings' scores.

    Args:
        scores: shape (n,), one a setting.
        fatal: shape (n,), whether it is fatal; the same in all settings of a model.
        models: shape (n,), whose setting it is.
        seed: of the bootstrap.

    Returns:
        `auc`, the probability that a fatal model scores above a benign one, ties counting half; `low` and `high`, its
        95 % interval over 2000 bootstrap samples of models; `p`, the probability of an AUC so far from a half (on
        either side) among all ways to call as many of the models fatal; `left_out`, the part of the models, the mean of
        fatal and benign ones, that is judged rightly by the threshold and direction which are best for the others;
        `models`, how many there are, and `fatal`, how many of them are.

    Raises:
        UsageError: the shapes differ, a score is not finite, a model is called both, or fewer than two models are fatal
            or benign.
    """
    table = _by_model(scores, fatal, models)
    values, labels = table["score"].to_numpy(float), table["fatal"].to_numpy(bool)
    rng = np.random.default_rng(seed)
    drawn = []
    while len(drawn) < 2000:
        rows = rng.integers(0, len(values), len(values))
        if 0 < labels[rows].sum() < len(rows):
            drawn.append(_auc(values[rows], labels[rows]))
    found = _auc(values, labels)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return pd.Series(
        {
            "auc": found, "low": float(low), "high": float(high), "p": _chance(values, labels, found, rng),
            "left_out": _left_out(values, labels), "models": float(len(values)), "fatal": float(labels.sum()),
        }
    )  # fmt: skip


def _by_model(scores: Any, fatal: Any, models: Any) -> pd.DataFrame:
    try:
        columns = {"score": np.asarray(scores, float), "fatal": np.asarray(fatal, bool), "model": np.asarray(models)}
        shapes = {values.shape for values in columns.values()}
    except (TypeError, ValueError) as e:
        raise UsageError(f"scores are numbers and `fatal` is true or false for each: {e}") from e
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise UsageError(f"scores, fatal and models of shapes {', '.join(map(str, shapes))}; one (n,) is needed")
    if not np.isfinite(columns["score"]).all():
        raise UsageError("a score is missing or not finite")
    table = pd.DataFrame(columns).groupby("model").agg({"score": "mean", "fatal": ["min", "max"]})
    low, high = table[("fatal", "min")].to_numpy(bool), table[("fatal", "max")].to_numpy(bool)
    if (low != high).any():
        raise UsageError(f"{table.index[low != high][0]} is called both fatal and benign")
    if min(high.sum(), (~high).sum()) < 2:
        raise UsageError(f"{int(high.sum())} of {len(high)} models are fatal; at least two of each are needed")
    return pd.DataFrame({"score": table[("score", "mean")].to_numpy(float), "fatal": high})


def _auc(values: np.ndarray, labels: np.ndarray) -> float:
    over = values[labels][:, None] - values[~labels]
    return float(((over > 0) + 0.5 * (over == 0)).mean())


def _chance(values: np.ndarray, labels: np.ndarray, found: float, rng: np.random.Generator) -> float:
    """Over all ways to call as many fatal, or 200,000 of them drawn at random where there are more."""
    count, fatal = len(values), int(labels.sum())
    ranks = pd.Series(values).rank().to_numpy()
    if comb(count, fatal) <= _MOST_ORDERS:
        sums = ranks[np.array(list(combinations(range(count), fatal)))].sum(axis=1)
    else:
        sums = np.array([rng.permutation(ranks)[:fatal].sum() for _ in range(_MOST_ORDERS // 10)])
    aucs = (sums - fatal * (fatal + 1) / 2) / (fatal * (count - fatal))
    return float((np.abs(aucs - 0.5) >= abs(found - 0.5) - 1e-9).mean())


def _left_out(values: np.ndarray, labels: np.ndarray) -> float:
    """The mean of the parts of fatal and of benign models that are judged rightly by a rule fitted to the others."""
    right = np.zeros(len(values), bool)
    for one in range(len(values)):
        others = np.arange(len(values)) != one
        threshold, above = _rule(values[others], labels[others])
        right[one] = ((values[one] > threshold) == above) == labels[one]
    return float((right[labels].mean() + right[~labels].mean()) / 2)


def _rule(values: np.ndarray, labels: np.ndarray) -> tuple[float, bool]:
    """The threshold and direction with the largest mean of both parts; the first of several as good."""
    known = np.unique(values)
    best, rule = -1.0, (float(known[0]), True)
    for threshold in (known[:-1] + known[1:]) / 2:
        over = values > threshold
        balance = (over[labels].mean() + (~over)[~labels].mean()) / 2
        for above, score in ((True, balance), (False, 1 - balance)):
            if score > best + 1e-12:
                best, rule = score, (float(threshold), above)
    return rule
