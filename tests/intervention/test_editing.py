"""`intervene`: what is replaced is just what was asked for, and the model is as before, whatever happened."""

import numpy as np
import pytest
import torch

from madyn.errors import UsageError
from madyn.intervention.editing import Setting, intervene
from planted import FAMILIES, FEATURE, LAYER, WIDTH, build, planted, sequences

IDS = torch.as_tensor(sequences())


def states(model):
    """What every layer but the last hands on, shape (L - 1, B, S, d)."""
    with torch.no_grad():
        return torch.stack(model(IDS, output_hidden_states=True).hidden_states[1:-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_one_value_is_replaced_in_every_sequence_and_all_before_it_stays(family):
    model = build(family)
    before = states(model)
    with intervene(model, layer=1, position=2, feature=FEATURE, set=7.5):
        after = states(model)
    expected = before[1].clone()
    expected[:, 2, FEATURE] = 7.5
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1], expected)
    assert not torch.equal(after[2], before[2])
    assert torch.equal(states(model), before)


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ("zero", lambda v: torch.zeros_like(v)),
        ("scale:0.5", lambda v: v * 0.5),
        ("clip:0.01", lambda v: v.clamp(-0.01, 0.01)),
        ("-3", lambda v: torch.full_like(v, -3)),
        (2, lambda v: torch.full_like(v, 2)),
        ("mean", lambda v: v.double().mean(dim=0, keepdim=True).float().expand_as(v)),
    ],
)
def test_settings_are_what_they_say(given, becomes):
    model = build()
    before = states(model)[0]
    with intervene(model, layer=0, position=[1, 3], set=given, over=IDS):
        after = states(model)[0]
    expected = before.clone()
    for position in (1, 3):
        expected[:, position] = becomes(before[:, position])
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-7)


def test_blocks_act_together_and_end_one_by_one():
    model = build()
    before = states(model)
    with intervene(model, layer=0, position=0, feature=1), intervene(model, layer=2, position=None, feature=2, set=1.0):
        both = states(model)
    with intervene(model, layer=0, position=0, feature=1):
        one = states(model)
    assert (both[0, :, 0, 1] == 0).all()
    assert (both[2, :, :, 2] == 1).all()
    assert torch.equal(both[1], one[1])
    assert (one[2, :, :, 2] != 1).all()
    assert torch.equal(states(model), before)


def test_the_model_is_as_it_was_after_an_exception():
    model = build().train()
    hooks = {module: len(module._forward_hooks) for module in model.modules()}
    with pytest.raises(KeyError), intervene(model, layer=0, position=0):
        raise KeyError
    assert {module: len(module._forward_hooks) for module in model.modules()} == hooks
    assert model.training


def test_positions_are_those_of_the_whole_sequence_when_a_cache_is_used():
    model = planted()
    prompt = IDS[:1, :4]

    def generate(**options):
        with torch.no_grad():
            return model.generate(prompt, max_new_tokens=6, do_sample=False, output_logits=True,
                                  return_dict_in_generate=True, pad_token_id=0, **options)  # fmt: skip

    with intervene(model, layer=LAYER, position=[0, 6], set=0.25):
        cached, whole = generate(use_cache=True), generate(use_cache=False)
    assert torch.equal(cached.sequences, whole.sequences)
    for one, other in zip(cached.logits, whole.logits, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    plain = generate(use_cache=True)
    assert not torch.allclose(plain.logits[-1], cached.logits[-1], rtol=1e-3, atol=1e-4)


def test_gradients_pass_through():
    model = build()
    with intervene(model, layer=1, position=0, feature=FEATURE):
        model(IDS, labels=IDS).loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer": 4}, "layer is 4; the model has 4, 0 to 3"),
        ({"layer": -1}, "layer is -1"),
        ({"feature": WIDTH}, f"feature is {WIDTH}; there are {WIDTH}, 0 to {WIDTH - 1}"),
        ({"position": 24}, "position is 24; there are 24, 0 to 23"),
        ({"position": "first"}, "position is 'first'"),
        ({"position": []}, r"position is \[\]"),
        ({"set": "half"}, "set is 'half'; it is zero, mean"),
        ({"set": "scale:much"}, "set is 'scale:much'"),
        ({"set": "clip:-1"}, "set is 'clip:-1'"),
        ({"set": "mean"}, "over which sequences"),
    ],
)
def test_what_there_is_not_is_said(change, said):
    model = build()
    with pytest.raises(UsageError, match=said), intervene(model, **{"layer": 1, "position": 0, "feature": 1, **change}):
        model(IDS)
    assert not any(module._forward_hooks for module in model.modules())


def test_settings_say_themselves():
    for text in ("zero", "mean", "scale:0.5", "clip:100", "3.5"):
        assert str(Setting.read(text)) == text
    assert Setting.read(np.float32(2)) == Setting("value", 2.0)
