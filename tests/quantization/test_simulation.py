"""What rounding does to hidden states, against arithmetic written out here, and what it does to predictions."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard
from transformers import BertConfig, BertForMaskedLM, BertModel, LlamaConfig, LlamaForCausalLM

from madyn.errors import NonFiniteError, UsageError
from madyn.measurement.forward import stacks_of
from madyn.measurement.predicting import Predictions
from madyn.quantization import costs_of_model
from madyn.quantization.judging import judge
from madyn.quantization.schemes import FORMS, SCHEMES, Scheme, apply, rotated, rotation_block, scheme_called
from madyn.quantization.simulation import MEASURES, measure_rounding, simulate

SHAPE: dict[str, Any] = {
    "vocab_size": 90, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 64,
}  # fmt: skip
IDS = np.random.default_rng(0).integers(5, 90, (2, 20))


def states(massive: float = 0.0) -> torch.Tensor:
    torch.manual_seed(0)
    rows = torch.randn(30, 40)
    rows[0, 7] += massive
    return rows


def llama() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()


def integers(values: np.ndarray, largest: int) -> np.ndarray:
    """Absmax rounding of values that share a scale."""
    step = np.abs(values).max() / largest
    return np.round(values / step) * step if step else values


def by_hand(rows: np.ndarray, scheme: Scheme) -> np.ndarray:
    if scheme.share == "tensor":
        return integers(rows, 127)
    if scheme.share == "token":
        return np.array([integers(row, 127) for row in rows])
    if scheme.share == "channel":
        return np.array([integers(column, 127) for column in rows.T]).T
    assert isinstance(scheme.share, int)
    starts = range(0, rows.shape[1], scheme.share)
    return np.array([np.concatenate([integers(row[s : s + scheme.share], 7) for s in starts]) for row in rows])


@pytest.mark.parametrize("name", [name for name in SCHEMES if name.startswith("int")])
@pytest.mark.parametrize("massive", [0.0, 500.0])
def test_whole_numbers_are_those_of_absmax_rounding(name, massive):
    rows = states(massive)
    expected = by_hand(rows.double().numpy(), SCHEMES[name])
    found = SCHEMES[name].round(rows).double().numpy()
    step = np.abs(rows.numpy()).max() / (127 if name.startswith("int8") else 7)
    # Single and double precision may take a value that lies between two multiples to either of them.
    differs = ~np.isclose(found, expected, rtol=1e-5, atol=1e-6)
    assert differs.sum() <= 2
    assert np.abs(found - expected).max() <= step * 1.001


@pytest.mark.parametrize(("name", "bits", "least"), [("e4m3", 3, 2.0**-9), ("e5m2", 2, 2.0**-16)])
def test_eight_bit_floats_keep_so_many_bits_and_underflow_below_half_their_least(name, bits, least):
    scheme = SCHEMES[f"{name} per tensor"]
    rows = states(500.0)
    scale = float(rows.abs().max()) / {"e4m3": 448.0, "e5m2": 57344.0}[name]
    found = scheme.round(rows)
    size = rows.abs() / scale
    error = ((found - rows).abs() / rows.abs())[size > 2.0**-6 if name == "e4m3" else size > 2.0**-14]
    assert 0.8 * 2.0 ** -(bits + 1) < float(error.max()) <= 2.0 ** -(bits + 1) * 1.0001
    assert torch.equal(found == 0, size <= least / 2)


def test_zeros_stay_zeros():
    for scheme in SCHEMES.values():
        assert torch.equal(scheme.round(torch.zeros(4, 40)), torch.zeros(4, 40))


def test_kept_apart_the_largest_come_back_as_they_are_and_set_no_scale():
    rows = states(500.0)
    found = apply(SCHEMES["int8 per tensor"], rows, "kept apart", keep=1)
    rest = rows.clone()
    rest[0, 7] = 0
    expected = integers(rest.double().numpy(), 127)
    expected[0, 7] = float(rows[0, 7])
    np.testing.assert_allclose(found.values.numpy(), expected, atol=1e-5)
    assert found.zeroed == pytest.approx(np.mean(np.delete(expected.ravel(), 7) == 0))


def test_a_rotation_is_one_and_its_own_inverse():
    rows = states(500.0)
    block = rotation_block(40)
    assert block == 8
    whole = np.kron(np.eye(5), hadamard(8) / 8**0.5)
    np.testing.assert_allclose(rotated(rows).numpy(), rows.numpy() @ whole, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(rotated(rotated(rows)).numpy(), rows.numpy(), rtol=1e-4, atol=1e-4)
    plain, turned = (measure_rounding(rows, "int8 per tensor", form)[0] for form in ("plain", "rotated"))
    spread = np.abs(rows.numpy() @ whole).max() / np.abs(rows.numpy()).max()
    assert spread == pytest.approx(8**-0.5, rel=0.02)
    assert turned - plain > 3


def test_the_ratios_of_signal_to_noise_are_those_of_their_values():
    rows = states(500.0)
    x = rows.double().numpy()
    error = by_hand(x, SCHEMES["int8 per tensor"]) - x
    size = np.abs(x)
    order = np.argsort(size.ravel())
    bulk = size <= 10 * np.sort(size.ravel())[(size.size - 1) // 2]
    parts = [np.ones(x.size, bool), np.isin(np.arange(x.size), order[:-3]), bulk.ravel()]
    expected = [10 * np.log10((x.ravel()[p] ** 2).sum() / (error.ravel()[p] ** 2).sum()) for p in parts]
    found = dict(zip(MEASURES, measure_rounding(rows, "int8 per tensor", keep=3), strict=True))
    assert [found[name] for name in MEASURES[:3]] == pytest.approx(expected, abs=0.01)
    assert found["effective_bits"] == pytest.approx((expected[2] - 1.76) / 6.02, abs=0.01)
    assert found["zeroed"] == pytest.approx(np.mean(x + error == 0))
    assert found["snr"] > 20 > 1 > found["snr_bulk"]  # the massive value comes back, and nearly all else is lost


def test_a_model_is_simulated_on_what_its_layers_hand_on():
    model = llama()
    found = simulate(model, IDS, stacks_of(model, IDS))
    states = model(input_ids=torch.as_tensor(IDS), output_hidden_states=True).hidden_states[1:3]
    for layer, rows in enumerate(states):  # the last one that is reported has passed the final norm
        for row in range(2):
            for (scheme, form), values in found.measures.items():
                expected = measure_rounding(rows[row].detach(), scheme, form)
                np.testing.assert_allclose(values[row, layer], expected, rtol=0.02, atol=0.01)
            size = rows[row].detach().abs().numpy()
            tokens, features = (np.sort(size.max(axis=axis)) for axis in (1, 0))
            spreads = [m[-1] / m[(len(m) - 1) // 2] for m in (tokens, features)]
            np.testing.assert_allclose(found.spreads[row, layer, 3:], spreads, rtol=1e-3)
    assert set(found.measures) == {(scheme, form) for scheme in SCHEMES for form in FORMS}


def test_rounding_a_layer_changes_what_is_predicted_as_a_forward_written_out_does():
    model = llama()
    scheme = SCHEMES["int4 per group of 32"]
    stacks = stacks_of(model, IDS)
    predictions = Predictions(model, IDS)
    found = judge(predictions, stacks, [(scheme, "plain")], (scheme, "plain"), 3)

    def loss(layers: set[int]) -> float:
        handles = [
            module.register_forward_hook(lambda m, i, o: torch.stack([scheme.round(rows) for rows in o]))
            for number, module in enumerate(model.model.layers)
            if number in layers
        ]
        losses = [model(input_ids=row[None], labels=row[None]).loss.item() for row in torch.as_tensor(IDS)]
        for handle in handles:
            handle.remove()
        return float(np.mean(losses))

    assert found.whole == pytest.approx(loss(set()), rel=1e-5)
    assert found.layers[:, 0] == pytest.approx([loss({layer}) for layer in range(3)], rel=1e-5)
    assert found.together[scheme, "plain"][0] == pytest.approx(loss({0, 1, 2}), rel=1e-5)
    assert (found.layers[:, 1] > 0).all()
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("kind", ["masked", "embedding"])
def test_other_kinds_of_models_are_judged_in_their_way(kind):
    torch.manual_seed(0)
    model = (BertForMaskedLM if kind == "masked" else BertModel)(BertConfig(**SHAPE)).eval()
    found = costs_of_model(model, IDS, mask_token_id=4)
    assert found.kind == kind
    assert np.isnan(found.layers["loss"].to_numpy()).tolist() == [kind == "embedding"] * 3
    assert (found.layers["moved"].to_numpy() > 0).all()
    moved = {(row["scheme"], row["form"]): row["moved"] for row in found.together.to_dict("records")}
    assert 0 < moved["int8 per token", "plain"] < moved["int4 per group of 128", "plain"]


def test_what_cannot_be_rounded_is_said():
    model = llama()
    with pytest.raises(UsageError, match="scheme"):
        scheme_called("int3 per tensor")
    with pytest.raises(UsageError, match="keep"):
        costs_of_model(model, IDS, keep=0)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="after layer 1 is not finite on sequence 0"):
        costs_of_model(model, IDS)
