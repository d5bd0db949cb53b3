"""What is told of an activation's use, by hand; and how well scores separate, against scikit-learn and counting."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from families import DOWN, IDS, build, first, plant, states
from madyn.errors import ArchitectureError, UsageError
from madyn.intervention.attention import attention_shares
from madyn.intervention.indicator import NAMES, indicators, separation, value_states
from madyn.intervention.passes import Passes


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2", "gemma3", "phi3", "opt"])
def test_indicators_are_those_by_hand(family):
    model = build(family)
    plant(model, *DOWN[family], 3000.0)
    found = indicators(model, IDS, (1, 3, 5))
    assert tuple(found.index) == NAMES
    after, modules = states(model, 3, 5)
    assert found.value == pytest.approx(np.abs(after[:, 1]).mean(), rel=1e-5)
    hidden: list[torch.Tensor] = []
    handle = modules[1].register_forward_hook(lambda m, i, o: hidden.append(first(o)))
    with torch.no_grad():
        normed = model.base_model(torch.as_tensor(IDS)).last_hidden_state
    handle.remove()
    shares = [state[:, 3, 5] ** 2 / (state[:, 3] ** 2).sum(-1) for state in (hidden[0], normed)]
    assert found.residual_share == pytest.approx(float(shares[0].mean()), rel=1e-4)
    assert found.normed_share == pytest.approx(float(shares[1].mean()), rel=1e-4)
    ratios = [float(row[3, 5].abs() / row.abs().median()) for row in hidden[0]]
    assert found.ratio == pytest.approx(np.mean(ratios), rel=1e-4)
    table = attention_shares(model, IDS, 3)
    assert found.sink_share == pytest.approx(table[table.layer == 2].share.mean())
    assert found.reliance == pytest.approx(found.sink_share * found.residual_share)
    assert found.sandwich == (family == "gemma3")
    assert found.bos == 0


PROJECTIONS = {
    "llama": ("self_attn.v_proj", "self_attn.o_proj"),
    "gpt_neox": ("attention.query_key_value", "attention.dense"),
    "gpt2": ("attn.c_attn", "attn.c_proj"),
    "phi3": ("self_attn.qkv_proj", "self_attn.o_proj"),
    "opt": ("self_attn.v_proj", "self_attn.out_proj"),
    "bloom": ("self_attention.query_key_value", "self_attention.dense"),
}
"""What the value states come from, and what their mixture goes into."""


@pytest.mark.parametrize("family", PROJECTIONS)
def test_value_states_are_those_that_the_weights_mix(family):
    """The mean over the queries of weights @ values is the attention's output before its last projection."""
    model = build(family, **({} if family != "llama" else {"num_key_value_heads": 4}))
    model.set_attn_implementation("eager")
    names, outs = PROJECTIONS[family]
    passes = Passes.of(model, IDS[:1])
    layer = passes.stacks[0].modules[2]
    kept: dict[str, Any] = {}
    layer.get_submodule(names).register_forward_hook(lambda m, i, o: kept.update(values=o))
    layer.get_submodule(outs).register_forward_pre_hook(lambda m, i: kept.update(mixed=i[0]))
    with torch.no_grad():
        weights = model(torch.as_tensor(IDS[:1]), output_attentions=True).attentions[2][0]  # (H, S, S)
    values = value_states(passes.part, names, kept["values"])
    assert values is not None
    heads = values.reshape(20, -1, 8).transpose(0, 1).repeat_interleave(4 * 8 // values.shape[-1], dim=0)
    torch.testing.assert_close(
        (weights @ heads).transpose(0, 1).reshape(20, 32), kept["mixed"][0], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2", "gemma3", "mixtral"])
def test_the_disturbance_is_that_of_the_next_layer_of_a_model_that_is_changed(family):
    model = build(family)
    before, _ = vectors(model, None)
    given, after = vectors(model, lambda m, i, o: first(o)[:, 3].index_fill_(1, torch.tensor([5]), 0))
    plain = vectors(model, None)[1]
    moved = (after - plain)[:, 4:].norm(dim=-1) / before[:, 4:].norm(dim=-1)
    assert (given - before).abs().sum() == pytest.approx(float(before[:, 3, 5].abs().sum()))
    found = indicators(model, IDS, (1, 3, 5))
    assert found.disturbance > 0
    assert found.disturbance == pytest.approx(float(moved.median(dim=1).values.mean()), rel=1e-3)


def vectors(model: Any, change: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What layers 1 and 2 hand on, layer 1 under a hook that works in place."""
    _, modules = states(model, 3, 5)
    seen: list[torch.Tensor] = []
    hooks = [modules[1].register_forward_hook(lambda m, i, o: (change(m, i, o), None)[1])] if change else []
    hooks += [module.register_forward_hook(lambda m, i, o: seen.append(first(o).clone())) for module in modules[1:]]
    with torch.no_grad():
        model(torch.as_tensor(IDS))
    for hook in hooks:
        hook.remove()
    return seen[0].double(), seen[1].double()


def test_nothing_behind_the_last_layer():
    found = indicators(build("llama"), IDS, (2, 3, 5))
    assert np.isnan([found.sink_share, found.sink_heads, found.reliance, found.value_norm, found.disturbance]).all()
    assert found.attrs["remarks"][-1].startswith("no layer with attention stands behind")


def test_a_bos_token_is_seen():
    ids = np.concatenate([np.ones((2, 1), int), IDS], axis=1)
    assert build("llama").config.bos_token_id == 1
    assert indicators(build("llama"), ids, (1, 3, 5)).bos == 1


def test_bad_sites():
    model = build("llama")
    bad: Any = ((3, 3, 5), (1, 19, 5), (1, 3, 32), (1, 3), 7, "abc")
    for site in bad:
        with pytest.raises(UsageError):
            indicators(model, IDS, site)
    with pytest.raises(ArchitectureError, match="no attention weights"):
        indicators(build("mamba"), IDS, (1, 3, 5))


def test_separation_by_counting():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=7).round(1)
    fatal = np.array([1, 1, 1, 0, 0, 0, 0], bool)
    found = separation(scores, fatal, list("abcdefg"))
    assert found.auc == pytest.approx(roc_auc_score(fatal, scores))
    every = [roc_auc_score(order, scores) for order in set(permutations(fatal))]
    assert found.p == pytest.approx(np.mean(np.abs(np.array(every) - 0.5) >= abs(found.auc - 0.5) - 1e-9))
    assert found.low <= found.auc <= found.high
    assert (found.models, found.fatal) == (7, 3)


def test_a_clean_score_and_settings_of_one_model():
    """Two settings a model count once, and a score that parts them is right for a model that was left out."""
    models = np.repeat(list("abcdefgh"), 2)
    fatal = np.repeat([1, 1, 1, 1, 0, 0, 0, 0], 2)
    scores = np.repeat([9.0, 8, 7, 6, 4, 3, 2, 1], 2) + np.tile([0.1, -0.1], 8)
    found = separation(-scores, fatal, models)
    assert found.auc == 0
    assert found.left_out == 1
    assert found.p == pytest.approx(2 / 70)
    assert found.models == 8


def test_a_score_of_nothing_is_not_better_than_chance_on_a_model_left_out():
    rng = np.random.default_rng(0)
    fatal = np.arange(16) < 8
    found = [separation(rng.normal(size=16), fatal, np.arange(16)).left_out for _ in range(20)]
    assert np.mean(found) < 0.6


@pytest.mark.parametrize(
    ("scores", "fatal", "models", "said"),
    [
        ([1, 2, 3], [1, 0], ["a", "b", "c"], "one"),
        ([1, 2, np.nan, 3], [1, 1, 0, 0], list("abcd"), "not finite"),
        ([1, 2, 3, 4], [1, 0, 0, 0], list("aabc"), "a is called both"),
        ([1, 2, 3, 4], [1, 0, 0, 0], list("abcd"), "at least two of each"),
        ([1, "x", 3, 4], [1, 1, 0, 0], list("abcd"), "numbers"),
    ],
)
def test_scores_that_cannot_be_judged(scores, fatal, models, said):
    with pytest.raises(UsageError, match=said):
        separation(scores, fatal, models)
