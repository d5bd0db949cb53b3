"""Single weights behind a massive activation: against the product of weight and activation, by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2Model

from families import DOWN, IDS, build, plant
from madyn.errors import ArchitectureError, UsageError
from madyn.intervention.decomposition import decompose
from madyn.intervention.super_weights import compare_zeroing, super_weights, zeroed_weights


@pytest.mark.parametrize("family", DOWN)
def test_the_planted_weight_is_found(family):
    model = build(family)
    name, index = DOWN[family]
    plant(model, name, index, 3000.0)
    found = super_weights(model, IDS[:1], 1, 3, 5)
    module, _, parameter = name.rpartition(".")
    first = found.iloc[0]
    assert (first.module, first.parameter, (first.row, first.column)) == (module, parameter, index)
    assert first.weight == 3000
    assert first.share == pytest.approx(1, abs=0.1)
    assert len(found) == 5
    table = decompose(model, IDS[:1], 3, 5)
    added = float(np.mean(table.loc[(table["layer"] == 1) & (table["part"] == "mlp"), "value"]))
    assert found.attrs["mlp"] == pytest.approx(added)
    np.testing.assert_allclose(found.contribution, found.weight * found.activation)
    assert (np.diff(found.contribution.abs()) <= 0).all()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_contributions_are_weights_times_what_the_module_is_given(family):
    model = build(family)
    name, _ = DOWN[family]
    inputs: list[torch.Tensor] = []
    module = model.get_submodule(name.rpartition(".")[0])
    handle = module.register_forward_pre_hook(lambda m, args: inputs.append(args[0][:, 3].double()))
    with torch.no_grad():
        model(torch.as_tensor(IDS))
    handle.remove()
    weight = module.weight.detach().double()
    row = weight[:, 5] if family == "gpt2" else weight[5]
    expected = (inputs[0] * row).numpy()  # (B, neurons)
    found = super_weights(model, IDS, 1, 3, 5, top=1000)
    neuron = found.row if family == "gpt2" else found.column
    mine = found.set_index(neuron.astype(int)).sort_index()
    assert len(mine) == expected.shape[1]
    if family == "gemma3":  # the norm behind the MLP has a factor of its own in each sequence
        bare = decompose(model, IDS, 3, 5)
        added = np.asarray(bare.loc[(bare["layer"] == 1) & (bare["part"] == "mlp"), "value"])
        expected = expected * (added / expected.sum(1))[:, None]
    np.testing.assert_allclose(mine.contribution, expected.mean(0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("family", "index"), [("mixtral", (5, 7)), ("gpt_oss", (7, 5))])
def test_experts_in_one_tensor(family, index):
    model = build(family)
    name = "model.layers.1.mlp.experts.down_proj"
    for expert in range(3):
        plant(model, name, (expert, *index), 1000.0 * (expert + 1))
    found = super_weights(model, IDS, 1, 3, 5)
    assert set(found.parameter) == {"down_proj"}
    largest = found[found.weight >= 1000]
    assert 1 <= len(largest) <= 3
    assert (largest.weight == 1000 * (largest.expert + 1)).all()
    assert set(zip(largest["row"], largest["column"], strict=True)) == {index}
    table = decompose(model, IDS, 3, 5)
    added = float(np.mean(table.loc[(table["layer"] == 1) & (table["part"] == "mlp"), "value"]))
    every = super_weights(model, IDS, 1, 3, 5, top=1000)
    biases = 0 if family == "mixtral" else abs(added) * 0.01
    assert every.contribution.sum() == pytest.approx(added, rel=1e-4, abs=biases)


def test_zeroing_the_weight_is_zeroing_the_activation():
    model = build("llama")
    plant(model, *DOWN["llama"], 3e5)
    weights = {name: values.clone() for name, values in model.state_dict().items()}
    entries = super_weights(model, IDS, 1, 3, 5, top=1)
    found = compare_zeroing(model, IDS, entries, 1, 3, 5)
    assert found.index.tolist() == ["untouched", "weights zeroed", "activation zeroed"]
    assert abs(found.value["untouched"]) > 100
    assert abs(found.value["weights zeroed"]) < 10 < abs(found.value["untouched"]) / 10
    assert found.value["activation zeroed"] == 0
    ids = torch.as_tensor(IDS)
    with torch.no_grad():
        assert found.loss["untouched"] == pytest.approx(float(model(ids, labels=ids).loss), rel=1e-5)
        model.model.layers[1].mlp.down_proj.weight[5, 7] = 0
        assert found.loss["weights zeroed"] == pytest.approx(float(model(ids, labels=ids).loss), rel=1e-5)
    plant(model, *DOWN["llama"], 3e5)
    assert all(torch.equal(values, weights[name]) for name, values in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_weights_come_back_bit_for_bit_after_an_exception():
    model = build("gpt2")
    entries = super_weights(model, IDS, 1, 3, 5)
    before = model.transformer.h[1].mlp.c_proj.weight.detach().clone()

    def fail() -> None:
        with zeroed_weights(model, entries):
            assert int((model.transformer.h[1].mlp.c_proj.weight == 0).sum()) == 5
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert torch.equal(model.transformer.h[1].mlp.c_proj.weight, before)


def test_what_takes_gradients_stays_so():
    model = build("llama")
    model.model.layers[1].mlp.up_proj.weight.requires_grad_(False)
    before = {name: values.requires_grad for name, values in model.named_parameters()}
    super_weights(model.train(), IDS, 1, 3, 5)
    assert {name: values.requires_grad for name, values in model.named_parameters()} == before
    assert all(values.grad is None for values in model.parameters())
    assert model.model.layers[1].training


def test_quantized_weights_are_refused():
    model = build("llama")
    model.model.layers[1].mlp.down_proj.weight = nn.Parameter(
        model.model.layers[1].mlp.down_proj.weight.detach().to(torch.int8), requires_grad=False
    )
    # The model cannot run so; a forward that it has of its own stands for the kernel of a library.
    layer = model.model.layers[1].mlp.down_proj
    layer.forward = lambda x: nn.functional.linear(x, layer.weight.float())
    with pytest.raises(UsageError, match=r"model\.layers\.1\.mlp\.down_proj are quantized"):
        super_weights(model, IDS, 1, 3, 5)


def test_bad_input():
    model = build("gpt_neox")
    bad: Any = ({"layer": 3}, {"layer": "a"}, {"position": 20}, {"feature": 32}, {"top": 0})
    for change in bad:
        with pytest.raises(UsageError, match=f"{next(iter(change))} is"):
            super_weights(model, IDS, **{"layer": 1, "position": 3, "feature": 5, **change})
    entries = super_weights(model, IDS, 1, 3, 5)
    with pytest.raises(UsageError, match="another model's"), zeroed_weights(build("llama"), entries):
        pass
    with pytest.raises(UsageError, match="has no head"):
        compare_zeroing(model.base_model, IDS, entries, 1, 3, 5)
    with pytest.raises(ArchitectureError, match="no MLP is found"):
        super_weights(build("mamba"), IDS, 1, 3, 5)
    # One without head has paths of its own.
    bare = GPT2Model(GPT2Config(vocab_size=90, n_embd=32, n_layer=3, n_head=4, n_positions=64)).eval()
    assert set(super_weights(bare, IDS, 1, 3, 5).module) == {"h.1.mlp.c_proj"}
