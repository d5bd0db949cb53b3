"""`measure` against a brute-force reference: every hidden state kept, sorted in full."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    T5Config,
)

from madyn import measure
from madyn.errors import ArchitectureError, NonFiniteError, UsageError
from madyn.measurement import measure_with_locations
from madyn.measurement import order_statistics as paths
from madyn.measurement.order_statistics import order_statistics

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
COMMON: dict[str, Any] = {"vocab_size": 97, **SIZES}
CONFIGS = {
    "gpt_neox": GPTNeoXConfig(**COMMON),
    "llama": LlamaConfig(**COMMON),
    "gpt2": GPT2Config(vocab_size=97, n_embd=24, n_layer=3, n_head=4),
    "mixtral": MixtralConfig(**COMMON, num_key_value_heads=2, num_local_experts=3),
    "bert": BertConfig(**COMMON),
}
IDS = np.random.default_rng(0).integers(0, 97, size=(3, 11))


def build(name, head=True, seed=0):
    torch.manual_seed(seed)
    loader = AutoModelForCausalLM if head and name != "bert" else AutoModel
    return loader.from_config(CONFIGS[name]).eval()


def brute_force(model, ids, k):
    """(B, k + 1, L), from the outputs of modules found by name, each sorted in full."""
    base = model.base_model
    layers = base.encoder.layer if hasattr(base, "encoder") else base.h if hasattr(base, "h") else base.layers
    return np.stack([by_sequence(model, layers, sequence, k) for sequence in ids])


def by_sequence(model, layers, sequence, k):
    kept = []
    hook = lambda module, inputs, out: kept.append(out[0] if isinstance(out, tuple) else out)  # noqa: E731
    handles = [layer.register_forward_hook(hook) for layer in layers]
    with torch.no_grad():
        model(torch.as_tensor(sequence)[None])
    for handle in handles:
        handle.remove()
    columns = []
    for hidden in kept:
        values = np.sort(np.abs(hidden.float().numpy().ravel()))
        columns.append([*values[::-1][:k], values[(len(values) - 1) // 2]])
    return np.array(columns).T


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("length", [11, 8])  # 11 * 24 and 8 * 24 values are even; an odd count is tested below
def test_equals_brute_force(name, length):
    model, ids = build(name), IDS[:, :length]
    found = measure(model, ids)
    assert found.shape == (3, 4, 3)
    assert found.dtype == np.float32
    assert np.array_equal(found, brute_force(model, ids, 3))


def test_an_odd_count():
    torch.manual_seed(0)
    config = GPTNeoXConfig(**{**COMMON, "hidden_size": 9, "num_attention_heads": 3, "rope_parameters": {
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.67}})  # fmt: skip
    model = AutoModel.from_config(config).eval()
    assert np.array_equal(measure(model, IDS), brute_force(model, IDS, 3))


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "llama"])
def test_the_inner_layers_are_the_hidden_states_of_transformers(name):
    model = build(name)
    with torch.no_grad():
        hidden = model.base_model(torch.as_tensor(IDS[:1]), output_hidden_states=True).hidden_states
    found = measure(model, IDS[:1])
    for layer in range(2):
        assert found[0, 0, layer] == hidden[layer + 1].abs().max().item()
    # The last entry has passed the final norm, and is not what the last layer hands on.
    assert found[0, 0, 2] != hidden[3].abs().max().item()


def test_with_and_without_a_batch_or_a_head():
    model = build("gpt_neox")
    alone = measure(model, IDS)
    assert np.array_equal(measure(model.base_model, IDS), alone)
    assert np.allclose(measure(model, IDS, batch_size=3), alone, rtol=1e-5)
    assert np.array_equal(measure(model, IDS[1]), alone[1:2])
    assert np.array_equal(measure(model, torch.as_tensor(IDS)), alone)
    assert np.array_equal(measure(model, IDS.tolist(), top_k=5)[:, [0, 1, 2, 5]], alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_keeps_the_dtype_it_is_given(dtype):
    model = build("gpt_neox").to(dtype)
    found = measure(model, IDS)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert found.dtype == (np.float64 if dtype is torch.float64 else np.float32)
    if dtype is not torch.float64:
        assert np.array_equal(found, brute_force(model, IDS, 3))


def test_leaves_the_model_as_it_was():
    model = build("gpt2").train()
    model.transformer.h[1].eval()
    modes = [m.training for m in model.modules()]
    first, second = measure(model, IDS), measure(model, IDS)
    assert np.array_equal(first, second)  # no dropout
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_locations():
    model = build("gpt_neox")
    found = measure_with_locations(model, IDS)
    kept = []
    handle = model.gpt_neox.layers[1].register_forward_hook(lambda m, i, out: kept.append(out))
    with torch.no_grad():
        model(torch.as_tensor(IDS[2:3]))
    handle.remove()
    hidden = kept[0][0].abs().numpy()
    for k in range(3):
        place = found.positions[2, k, 1], found.features[2, k, 1]
        assert hidden[place] == found.statistics[2, k, 1]


# Ties, zeros, negative zeros and denormals, on purpose.
TRICKY = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.0, 2.0, 5e-324, 1e-40, -1e-40, 65504.0, 3.14])


@given(
    st.lists(TRICKY, min_size=1, max_size=40),
    st.integers(1, 5),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
)
def test_order_statistics_are_those_of_a_full_sort(values, k, dtype):
    hidden = torch.tensor(values, dtype=dtype)
    k = min(k, len(values))
    found, indices = order_statistics(hidden.reshape(1, -1), k)
    ordered = hidden.abs().sort(descending=True, stable=True)
    assert torch.equal(found[:k], ordered.values[:k])
    assert found[k] == hidden.abs().sort().values[(len(values) - 1) // 2]
    assert torch.equal(indices, ordered.indices[:k])
    assert not torch.signbit(found).any()


def test_memory_that_calls_share_is_seen_in_none_of_their_results():
    torch.manual_seed(0)
    states = [
        torch.randn(shape).to(dtype) * size
        for dtype in (torch.float32, torch.bfloat16, torch.float64)
        for shape, size in (((5, 7), 1.0), ((40, 9), 1e3), ((3, 2), 1e-3), ((2, 6, 4), 1.0))
    ] + [torch.randn(6, 30).T]  # not in the order of memory
    scratch = paths.Scratch()
    shared = [order_statistics(hidden, 3, scratch) for hidden in states]
    for hidden, (values, indices) in zip(states, shared, strict=True):
        ordered = hidden.abs().flatten().sort(descending=True, stable=True)
        assert torch.equal(values, torch.cat([ordered.values[:3], hidden.abs().median().reshape(1)]))
        assert torch.equal(indices, ordered.indices[:3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", ["normal", "ties", "zeros", "denormal", "one value", "huge"])
def test_both_paths_give_what_a_full_sort_gives(dtype, kind):
    """The steps of the GPU run on any device; every bit is compared, and every index."""
    torch.manual_seed(0)
    hidden = {
        "normal": torch.randn(33, 48),
        "ties": torch.randint(-3, 4, (33, 48)).float(),
        "zeros": torch.where(torch.rand(33, 48) < 0.9, torch.tensor(-0.0), torch.randn(33, 48)),
        "denormal": torch.randn(33, 48) * torch.finfo(torch.float32).tiny,
        "one value": torch.full((33, 48), -1.5),
        "huge": torch.randn(33, 48) * 1e4 + torch.where(torch.rand(33, 48) < 0.01, 5e4, 0.0),
    }[kind].to(dtype)
    keys = paths._magnitude_keys(hidden, paths.Scratch())
    rank = (hidden.numel() - 1) // 2
    ordered = keys.flatten().sort(descending=True, stable=True)
    middle = ordered.values.flip(0)[rank]
    for k in (1, 3, 40):
        sorted_top, sorted_indices, sorted_middle = paths._by_sorting(keys.flatten(), k, rank)
        for top, indices in (paths._largest_on_cpu(keys, k), (sorted_top, sorted_indices)):
            assert torch.equal(top, ordered.values[:k])
            assert torch.equal(indices, ordered.indices[:k])
        assert paths._select_on_cpu(keys.flatten(), rank, paths.Scratch()) == sorted_middle == middle
    values, _ = order_statistics(hidden, 3)
    assert torch.equal(values.view(keys.dtype), torch.cat([ordered.values[:3], middle.reshape(1)]))


@pytest.mark.parametrize(
    "model_type",
    ["albert", "bert", "bloom", "deepseek_v4", "falcon_h1", "gemma2", "gpt2", "gpt_oss", "jamba", "led", "llama",
     "longformer", "mamba", "mixtral", "modernbert", "olmo2", "opt", "qwen2_audio", "qwen3_next", "rwkv", "t5",
     "xlm", "xlnet"],
)  # fmt: skip
def test_a_sample_of_all_text_models_is_measured_as_they_report(model_type):
    from architectures import try_type

    result = try_type(model_type)
    assert result.outcome == "correct", result


def test_a_model_whose_layers_do_not_hand_on_what_it_reports_is_refused():
    from architectures import try_type

    result = try_type("squeezebert")  # it calls its layers past their hooks
    assert (result.outcome, "hands on the 2 inner hidden states" in result.detail) == ("refused", True)


@pytest.mark.slow
def test_every_text_model_is_measured_correctly_or_refused():
    from architectures import text_types, try_type

    results = [try_type(model_type) for model_type in text_types()]
    assert [r for r in results if r.outcome == "wrong"] == []
    assert sum(r.outcome == "correct" for r in results) > 150


def test_a_hidden_state_that_is_not_finite_is_named():
    model = build("gpt_neox")
    with torch.no_grad():
        model.gpt_neox.layers[1].mlp.dense_4h_to_h.bias[3] = float("nan")
    with pytest.raises(NonFiniteError, match="after layer 1 is not finite on sequence 0"):
        measure(model, IDS)
    model = build("gpt_neox").half()
    with torch.no_grad():
        model.gpt_neox.layers[2].mlp.dense_4h_to_h.bias[3] = float("inf")
    with pytest.raises(NonFiniteError, match="float16 overflows"):
        measure(model, IDS)
    assert not any(m._forward_hooks for m in model.modules())


def test_models_without_recognisable_layers():
    with pytest.raises(ArchitectureError, match="no list of decoder layers found in Sequential"):
        measure(nn.Sequential(nn.Embedding(97, 4), nn.Linear(4, 4)), IDS)


def test_an_encoder_decoder_has_two_stacks():
    t5 = AutoModel.from_config(T5Config(vocab_size=97, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=2)).eval()
    found = measure_with_locations(t5, IDS[:1])
    assert found.stacks == {"encoder.block": 2, "decoder.block": 2}
    ids = torch.as_tensor(IDS[:1])
    with torch.no_grad():
        states = t5(input_ids=ids, decoder_input_ids=ids, output_hidden_states=True)
    assert found.statistics[0, 0, 0] == states.encoder_hidden_states[1].abs().max().item()
    assert found.statistics[0, 0, 2] == states.decoder_hidden_states[1].abs().max().item()


class Blocks(nn.Module):
    """Not from transformers: a list of blocks, and inside each a list of the same length that is none."""

    def __init__(self, returns=lambda h: h):
        super().__init__()
        self.embed = nn.Embedding(97, 6)
        self.blocks = nn.ModuleList(self.Block(returns) for _ in range(3))

    class Block(nn.Module):
        def __init__(self, returns):
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
            self.returns = returns

        def forward(self, h):
            return self.returns(h + sum(e(h) for e in self.experts))

    def forward(self, ids):
        h = self.embed(ids)
        for block in self.blocks:
            h = block(h)
        return h


def test_a_module_that_is_not_from_transformers():
    torch.manual_seed(0)
    model = Blocks()
    found = measure(model, IDS)
    assert found.shape == (3, 4, 3)
    with torch.no_grad():
        assert found[1, 0, 2] == model(torch.as_tensor(IDS[1:2])).abs().max().item()
    with pytest.raises(ArchitectureError, match="does not return a hidden state"):
        measure(Blocks(returns=lambda h: h.mean(-1)), IDS)


@pytest.mark.parametrize("ids", [[], [[]], [[1.5, 2.0]], [[[1]]], "text", [[True, False]], [[1, 2], [3]], None])
def test_ids_that_are_no_ids(ids):
    with pytest.raises(UsageError):
        measure(build("gpt_neox"), ids)


@pytest.mark.parametrize("options", [{"top_k": 0}, {"batch_size": 0}, {"top_k": 11 * 24 + 1}])
def test_numbers_out_of_range(options):
    with pytest.raises(UsageError):
        measure(build("gpt_neox"), IDS, **options)


T5 = T5Config(vocab_size=97, d_model=24, d_kv=8, d_ff=48, num_layers=3, num_heads=4)


@pytest.mark.parametrize("config", [*CONFIGS.values(), T5], ids=[*CONFIGS, "t5"])
@pytest.mark.parametrize(("place", "token"), [((0, 3), 97), ((2, 10), -1)])
def test_a_token_that_the_model_does_not_have_is_named(config, place, token):
    model = AutoModel.from_config(config).eval()
    ran = []
    model.get_input_embeddings().register_forward_hook(lambda *_: ran.append(1))
    ids = IDS.copy()
    ids[place] = token
    said = rf"token id {token} at position {place[1]} of sequence {place[0]}: .* 97 rows, for ids from 0 to 96"
    with pytest.raises(UsageError, match=said):
        measure(model, ids)
    assert not ran
