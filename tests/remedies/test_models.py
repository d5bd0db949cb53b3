"""transformers' classes with remedies: what is added and nothing else, measured rightly, and loaded again."""

import json
from typing import Any

import numpy as np
import pytest
import torch

import madyn
from madyn.checkpoints import find_checkpoint
from madyn.errors import CheckpointError
from madyn.lab.blueprints import Blueprint, build_model
from madyn.measurement.layers import find_stacks
from madyn.remedies.models import checked, classes
from madyn.wirings import LEVELS, REMEDIES, USUAL

SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96, "rotary_pct": 1.0,
    "residual": "sequential", "norm": "rmsnorm", "activation": "swiglu",
}  # fmt: skip
ONE_EACH = [{name: level} for name in (*REMEDIES, "qk_norm") for level in LEVELS[name] if level != USUAL[name]]
MIXED = [
    {"norm_placement": "sandwich", "attention": "sink", "output_gate": "headwise"},
    {"activation": "relu2", "attention": "softpick", "value_norm": "rmsnorm"},
    {"qk_norm": "rmsnorm", "norm_gain": "scalar", "embedding_norm": "rmsnorm", "output_gate": "elementwise"},
]
IDS = torch.randint(1, 300, (3, 20), generator=torch.Generator().manual_seed(0))


def name_of(wiring):
    return "-".join(f"{k}={v}" for k, v in wiring.items())


def built(seed: int = 0, **wiring: Any):
    return build_model(Blueprint(**{**SHAPE, **wiring}), seed, 300, 24, 0)


def shaken(model):
    """Weights that are none of those that remedies start with."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize("wiring", [*ONE_EACH, *MIXED], ids=name_of)
def test_measured_as_its_own_hidden_states_say(wiring):
    model = shaken(built(**wiring))
    stack = find_stacks(model.base_model, {"input_ids": IDS[:1, :8]})[0]
    assert stack.name == "layers"
    last = {}
    hook = model.base_model.layers[-1].register_forward_hook(lambda m, i, o: last.update(state=o))
    with torch.no_grad():
        states = [*model.base_model(IDS, output_hidden_states=True).hidden_states[1:-1], last["state"]]
    hook.remove()
    sizes = torch.stack(states, 1).abs().flatten(2).double()  # sequence, layer, value
    expected = [*(sizes.topk(3, -1).values.unbind(-1)), sizes.median(-1).values]
    found = np.asarray(madyn.measure(model, IDS))
    np.testing.assert_allclose(found[:, :3], np.stack([e.numpy() for e in expected[:3]], 1), rtol=2e-5)
    np.testing.assert_allclose(found[:, 3], expected[3].numpy(), rtol=1e-3)


@pytest.mark.parametrize("wiring", [*ONE_EACH, *MIXED], ids=name_of)
def test_every_parameter_learns_and_what_is_shared_starts_alike(wiring):
    model = built(**wiring)
    model(IDS, labels=IDS).loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in gradients.values())
    shared = {k: v for k, v in wiring.items() if k in ("norm_placement", "activation", "qk_norm")}
    plain = built(**shared).state_dict()
    for name, value in model.state_dict().items():
        if name in plain and value.shape == plain[name].shape:
            assert torch.equal(value, plain[name]), name


@pytest.mark.parametrize("wiring", [*ONE_EACH, *MIXED, {"norm_placement": "sandwich"}], ids=name_of)
def test_as_many_parameters_as_counted_and_matched(wiring):
    plain = built(0, **({"activation": wiring["activation"]} if "activation" in wiring else {})).num_parameters()
    blueprint = Blueprint(**{**SHAPE, **wiring})
    assert built(**wiring).num_parameters() - plain == blueprint._added()
    matched = built(**wiring, match_parameters=True).num_parameters()
    feature = (2 if wiring.get("activation") == "relu2" else 3) * 32 * 3
    assert abs(matched - plain) <= feature / 2


def test_the_usual_wiring_is_transformers_own_class_untouched():
    from transformers import LlamaConfig, LlamaForCausalLM

    model = built()
    assert type(model) is LlamaForCausalLM
    assert type(model.config) is LlamaConfig
    assert model.config.to_dict().get("remedies") is None
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300, max_position_embeddings=24, bos_token_id=0, eos_token_id=0, pad_token_id=None,
            tie_word_embeddings=False, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
            hidden_act="silu", rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        )
    )  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), theirs.parameters(), strict=True))
    assert torch.equal(model(IDS).logits, theirs(IDS).logits)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "arcee", "glm4"])
def test_a_fitted_class_with_no_remedy_is_the_plain_one_bit_for_bit(kind):
    wirings = {"qwen3": {"qk_norm": "rmsnorm"}, "arcee": {"activation": "gelu"}, "glm4": {"norm_placement": "sandwich"}}
    plain = built(0, **wirings.get(kind, {}))
    config, _, head = classes(kind)
    torch.manual_seed(0)
    fitted = head(config(**{k: v for k, v in plain.config.to_dict().items() if k != "model_type"}))
    assert [n for n, _ in fitted.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert torch.equal(plain.train()(IDS).logits, fitted.train()(IDS).logits)


def test_gates_start_where_their_authors_start_them():
    headwise = built(output_gate="headwise").base_model.layers[0].self_attn.gate
    assert torch.allclose(headwise.bias.sigmoid(), torch.tensor(0.25))
    assert headwise.weight.shape == (4, 32)
    elementwise = built(output_gate="elementwise").base_model.layers[0].self_attn.gate
    assert elementwise.bias is None
    assert elementwise.weight.shape == (32, 32)


def test_a_gate_that_is_open_or_shut_lets_all_of_a_head_through_or_nothing():
    model, plain = built(output_gate="headwise").eval(), built().eval()
    attentions = [layer.self_attn for layer in model.base_model.layers]
    with torch.no_grad():
        for attention in attentions:
            attention.gate.bias.fill_(40.0)
        torch.testing.assert_close(model(IDS).logits, plain(IDS).logits)
        for attention in attentions:
            attention.gate.bias.fill_(-40.0)
        for layer in plain.base_model.layers:
            layer.self_attn.o_proj.weight.zero_()
        torch.testing.assert_close(model(IDS).logits, plain(IDS).logits)


def test_norms_do_what_they_say():
    state = {}
    normed = built(embedding_norm="rmsnorm")
    normed.base_model.layers[0].register_forward_pre_hook(lambda m, i: state.update(first=i[0]))
    normed(IDS)
    torch.testing.assert_close(state["first"].square().mean(-1), torch.ones(3, 20), rtol=0.02, atol=0)
    valued = built(value_norm="rmsnorm")
    valued.base_model.layers[0].self_attn.o_proj.register_forward_pre_hook(lambda m, i: state.update(heads=i[0]))
    valued(IDS)
    heads = state["heads"].view(3, 20, 4, 8)
    assert heads.square().mean(-1).max() < 1 + 1e-5  # the least values are below the norm's eps
    single = built(norm_gain="scalar")
    assert {tuple(p.shape) for n, p in single.named_parameters() if "norm" in n} == {(1,)}


@pytest.mark.parametrize("wiring", [*ONE_EACH, *MIXED], ids=name_of)
def test_a_checkpoint_is_loaded_as_the_model_that_was_saved(wiring, tmp_path):
    model = shaken(built(**wiring))
    model.save_pretrained(tmp_path / "step3")
    checkpoint = find_checkpoint(tmp_path / "step3")
    loaded, remarks = checkpoint.load_whole(torch.float32, head=True)
    assert remarks == []
    assert type(loaded) is type(model)
    with torch.no_grad():
        assert torch.equal(loaded(IDS).logits, model(IDS).logits)
    body, _ = checkpoint.load_whole(torch.float32)
    assert np.array_equal(madyn.measure(body, IDS), madyn.measure(model, IDS))


def test_transformers_alone_does_not_take_it_for_the_plain_model(tmp_path):
    built(attention="sink").save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    assert said["model_type"] == "madyn_llama"
    assert said["remedies"] == {"attention": "sink"}
    assert "auto_map" not in said  # no code of the checkpoint's own


@pytest.mark.parametrize(
    "remedies", [{"attention": "sinks"}, {"colour": "red"}, {"output_gate": ["headwise"]}, "sink", [1]]
)
def test_a_config_that_names_no_remedy_is_refused(tmp_path, remedies):
    built(attention="sink").save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**said, "remedies": remedies}))
    with pytest.raises(CheckpointError):
        find_checkpoint(tmp_path).load_whole(torch.float32)


def test_what_is_no_remedy_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"'attention' = 'sinks' is no remedy; .* attention: softmax, softmax1, sink,"):
        checked({"attention": "sinks"})


def test_its_attention_is_not_exchanged_for_another():
    model = built(attention="softpick").eval()
    before = model(IDS).logits
    model.set_attn_implementation("eager")
    assert torch.equal(model(IDS).logits, before)
