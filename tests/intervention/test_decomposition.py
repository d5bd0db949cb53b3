"""What is added to a coordinate: against sums by hand, in every wiring of a layer."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, T5Config, T5Model

from families import DOWN, IDS, build, first, plant, states
from madyn.errors import ArchitectureError, UsageError
from madyn.intervention.decomposition import decompose, writers


@pytest.mark.parametrize("family", [*DOWN, "mixtral", "gpt_oss"])
def test_the_parts_sum_to_the_coordinate(family):
    model = build(family)
    if family in DOWN:
        plant(model, *DOWN[family], 3000.0)
    after, _ = states(model, 3, 5)
    found = decompose(model, IDS, 3, 5)
    assert found.attrs["remarks"] == []
    for sequence in (0, 1):
        rows = found.loc[found.sequence == sequence]
        assert rows["part"].tolist() == ["embedding", *["attention", "mlp"] * 3]
        assert rows.layer.tolist() == [-1, 0, 0, 1, 1, 2, 2]
        np.testing.assert_allclose(rows["sum"], rows["value"].cumsum())
        np.testing.assert_allclose(np.asarray(rows["sum"])[2::2], after[sequence], rtol=1e-5, atol=1e-4)
    if family in DOWN:
        largest = found.loc[found["value"].abs().idxmax()]
        assert (largest.layer, largest.part) == (1, "mlp")


def test_each_part_is_what_its_module_adds():
    """Llama by its plain sums, Gemma 3 by what comes after its norms, GPT-NeoX with both from one input."""
    for family, attention, mlp in (
        ("llama", "self_attn", "mlp"),
        ("gemma3", "post_attention_layernorm", "post_feedforward_layernorm"),
        ("gpt_neox", "attention", "mlp"),
    ):
        model = build(family)
        _, modules = states(model, 3, 5)
        seen: dict[Any, Any] = {}
        hooks = [
            module.get_submodule(name).register_forward_hook(
                lambda m, i, o, key=(layer, part), seen=seen: seen.update({key: first(o)[0, 3, 5]})
            )
            for layer, module in enumerate(modules)
            for part, name in (("attention", attention), ("mlp", mlp))
        ]
        with torch.no_grad():
            model(torch.as_tensor(IDS[:1]))
        for hook in hooks:
            hook.remove()
        found = decompose(model, IDS[:1], 3, 5)[1:].set_index(["layer", "part"])["value"]
        assert found.to_dict() == {key: float(value) for key, value in seen.items()}


def test_a_constant_before_the_sum_is_in_the_part():
    model = build("granite", residual_multiplier=0.25)
    model_without = build("granite", residual_multiplier=1.0)
    first_part, without = (decompose(one, IDS[:1], 3, 5) for one in (model, model_without))
    assert float(first_part["value"].iloc[1]) == pytest.approx(0.25 * float(without["value"].iloc[1]), rel=1e-4)


def test_a_state_space_model_has_a_mixer():
    found = decompose(build("mamba"), IDS[:1], 3, 5)
    assert [*found["part"]] == ["embedding", "mixer", "mixer", "mixer"]


def test_a_norm_behind_the_sum_is_given_as_a_whole():
    torch.manual_seed(0)
    shape: dict[str, Any] = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    model = BertModel(BertConfig(**shape, intermediate_size=48)).eval()
    after, _ = states(model, 3, 5)
    found = decompose(model, IDS, 3, 5)
    assert [*found["part"]] == ["embedding", "layer", "layer", "layer"] * 2
    assert "change of layers 0, 1, 2" in found.attrs["remarks"][0]
    np.testing.assert_allclose(np.asarray(found["sum"]).reshape(2, 4)[:, 1:], after, rtol=1e-5, atol=1e-6)


def test_what_changes_between_layers_is_a_part():
    model = build("llama")

    def cleared(module, inputs, output):
        output = output.clone()
        output[:, 3, 5] = 0
        return output

    before = decompose(model, IDS[:1], 3, 5)
    handle = model.model.layers[0].register_forward_hook(cleared)
    found = decompose(model, IDS[:1], 3, 5)
    handle.remove()
    assert list(found["part"])[:5] == ["embedding", "attention", "mlp", "between", "attention"]
    assert float(found["value"].iloc[3]) == pytest.approx(-float(before["sum"].iloc[2]), rel=1e-5)


def test_half_precision_says_how_far_its_sums_are_off():
    model = build("llama")
    plant(model, *DOWN["llama"], 3000.0)
    found = decompose(model.bfloat16(), IDS, 3, 5)
    assert [*found["part"]] == ["embedding", *["attention", "mlp"] * 3] * 2
    assert "the model rounds its own sums" in found.attrs["remarks"][0]


def test_the_writers_are_named():
    """Layer 1 writes; the last layer's MLP is made to take it away."""
    model = build("llama")
    plant(model, *DOWN["llama"], 3000.0)
    table = decompose(model, IDS, 3, 5)
    table.loc[(table.layer == 2) & (table.part == "mlp"), "value"] = (
        -table["sum"].groupby(table.sequence).transform(lambda sums: sums.iloc[4])
    )
    table["sum"] = table.groupby("sequence")["value"].cumsum()
    found = writers(table)
    assert found[["layer", "part", "role"]].to_numpy().tolist() == [[1, "mlp", "writes"], [2, "mlp", "removes"]]
    assert found.share.tolist() == pytest.approx([1, -1], abs=0.05)
    (said,) = found.attrs["remarks"]
    assert "written by the mlp of layer 1" in said
    assert "at its height after layer 1;" in said
    assert "removed by the mlp of layer 2" in said


def test_bad_input():
    model = build("gpt_neox")
    bad: Any = ((20, 5), (-1, 5), (3, 32), (3, "a"), (1.5, 5))
    for position, feature in bad:
        with pytest.raises(UsageError, match=r"position is|feature is"):
            decompose(model, IDS, position, feature)
    with pytest.raises(UsageError, match="share is 0"):
        writers(decompose(model, IDS, 3, 5), share=0)
    t5 = T5Model(T5Config(vocab_size=90, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)).eval()
    with pytest.raises(ArchitectureError, match=r"encoder\.block or decoder\.block"):
        decompose(t5, IDS, 3, 5)
