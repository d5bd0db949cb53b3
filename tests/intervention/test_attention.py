"""Shares of attention, against the weights that transformers gives."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, T5Config, T5Model

from families import IDS, build
from madyn.errors import ArchitectureError, UsageError
from madyn.intervention.attention import attention_shares


def shares_by_hand(model, position, causal=True, pick="attentions"):
    """(layer, head) from the weights of an eager copy."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(torch.as_tensor(IDS), output_attentions=True)[pick]
    every = torch.stack([w.double() for w in weights])  # (L, B, H, S, S)
    queries = [q for q in range(IDS.shape[1]) if (q > position if causal else q != position)]
    return every[:, :, :, queries, position].mean(dim=(1, 3)), 1 - every[:, :, :, queries].sum(-1).mean(dim=(1, 3))


@pytest.mark.parametrize("family", ["gpt_neox", "llama", "gpt2", "gemma3", "glm4", "mixtral", "phi3", "opt", "bloom"])
def test_shares_are_those_of_the_weights(family):
    model = build(family)
    before = model.config._attn_implementation
    found = attention_shares(model, IDS, [0, 7])
    assert model.config._attn_implementation == before
    assert [*found] == ["layer", "head", "position", "share", "sink"]
    assert len(found) == 3 * 4 * 2
    assert (found.sink == 0).all()
    if before == "sdpa":
        assert found.attrs["remarks"] == ["the attention was computed in its eager form, since sdpa gives no weights"]
    for position in (0, 7):
        expected, _ = shares_by_hand(build(family), position)
        mine = np.asarray(found.loc[found["position"] == position, "share"]).reshape(3, 4)
        np.testing.assert_allclose(mine, expected, rtol=2e-5)
        assert mine.std() > 1e-4  # heads differ


def test_the_rest_goes_to_a_learned_sink():
    model = build("gpt_oss")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.sinks.copy_(torch.tensor([-30.0, 0, 2, 30]))
    found = attention_shares(model, IDS)
    expected, sinks = shares_by_hand(model, 0)
    np.testing.assert_allclose(found.share.to_numpy().reshape(3, 4), expected, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(found.sink.to_numpy().reshape(3, 4), sinks, atol=1e-6)
    assert found.sink.min() < 1e-6
    assert found.sink.max() > 0.999
    assert "sink that was learned" in found.attrs["remarks"][-1]


def test_a_model_that_looks_both_ways_and_one_with_two_stacks():
    torch.manual_seed(0)
    shape: dict[str, Any] = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    bert = BertModel(BertConfig(**shape, intermediate_size=48)).eval()
    expected, _ = shares_by_hand(bert, 4, causal=False)
    found = attention_shares(bert, IDS, 4)
    np.testing.assert_allclose(found.share.to_numpy().reshape(3, 4), expected, rtol=1e-5)

    t5 = T5Model(T5Config(vocab_size=90, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)).eval()
    found = attention_shares(t5, IDS)
    assert found.layer.max() == 3
    t5.set_attn_implementation("eager")
    with torch.no_grad():
        ids = torch.as_tensor(IDS)
        output = t5(input_ids=ids, decoder_input_ids=ids, output_attentions=True)
    first = output.encoder_attentions[1].double()[:, :, 1:, 0].mean(dim=(0, 2))
    last = output.decoder_attentions[1].double()[:, :, 1:, 0].mean(dim=(0, 2))
    np.testing.assert_allclose(found[found.layer == 1].share, first, rtol=1e-5)
    np.testing.assert_allclose(found[found.layer == 3].share, last, rtol=1e-5)


def test_the_model_is_run_as_it_is():
    """What a hook does to a layer's output is seen by the heads after it."""
    model = build("llama")

    def cleared(module, inputs, output):
        output[:, 0] = 0
        return output

    before = attention_shares(model, IDS).set_index(["layer", "head"]).share
    handle = model.model.layers[0].register_forward_hook(cleared)
    after = attention_shares(model, IDS).set_index(["layer", "head"]).share
    handle.remove()
    assert after[0].equals(before[0])
    # A state of zeros has keys of zeros: a logit of 0 beside those of the others.
    assert (after[1] - before[1]).abs().max() > 1e-3
    assert attention_shares(model, IDS).set_index(["layer", "head"]).share.equals(before)


def test_training_mode_and_hooks_are_as_before():
    model = build("llama").train()
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    attention_shares(model, IDS)
    assert model.training
    assert sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()) == hooks


def test_what_has_no_weights():
    with pytest.raises(ArchitectureError, match="MambaModel gives no attention weights"):
        attention_shares(build("mamba"), IDS)


@pytest.mark.parametrize("position", [-1, 19, 20, 1.5, "first", [], [0, 40]])
def test_a_position_that_is_none(position):
    with pytest.raises(UsageError, match="position"):
        attention_shares(build("gpt_neox"), IDS, position)
