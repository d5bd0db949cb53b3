"""What is estimated from the statistics alone, against hidden states that are rounded."""

import numpy as np
import pytest
import torch
import xarray as xr

import madyn
from madyn.errors import UsageError
from madyn.quantization import effective_bits, estimate_dataset, headroom, worst_layers, zeroed_share
from madyn.quantization.simulation import MEASURES, measure_rounding
from tiny import write_dataset


def simulated(rows: torch.Tensor) -> tuple[float, float, float, float]:
    """top1, median, effective bits and the share of zeros of int8 per tensor."""
    found = dict(zip(MEASURES, measure_rounding(rows, "int8 per tensor"), strict=True))
    size = rows.abs()
    return float(size.max()), float(size.median()), found["effective_bits"], found["zeroed"]


@pytest.mark.parametrize("scales", ["normal", "features", "tokens", "laplace"])
@pytest.mark.parametrize("massive", [0.0, 20.0, 60.0, 200.0, 700.0, 5000.0])
def test_the_estimate_is_within_half_a_bit_of_what_rounding_does(scales, massive):
    torch.manual_seed(1)
    rows = torch.randn(128, 256)
    if scales == "laplace":
        rows = torch.distributions.Laplace(0.0, 1.0).sample((128, 256))
    elif scales != "normal":
        spread = torch.exp(0.5 * torch.randn(256 if scales == "features" else 128))
        rows = rows * (spread if scales == "features" else spread[:, None])
    if massive:
        rows[0, 3] = massive
    top1, median, bits, zeroed = simulated(rows)
    assert float(effective_bits(top1, median)) == pytest.approx(bits, abs=0.5)
    assert float(zeroed_share(top1, median)) == pytest.approx(zeroed, abs=0.08)


@pytest.mark.parametrize("family", ["GPTNeoX", "Llama", "Gemma2"])
def test_the_estimate_holds_for_models_at_initialisation(family):
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=90, hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=96,
        max_position_embeddings=64, **({"num_key_value_heads": 1, "head_dim": 32} if family == "Gemma2" else {}),
    )  # fmt: skip
    model = getattr(transformers, f"{family}Model")(config).eval()
    ids = torch.randint(5, 90, (1, 48))
    states = model(input_ids=ids, output_hidden_states=True).hidden_states[1:-1]
    for rows in states:
        top1, median, bits, _ = simulated(rows[0].detach())
        assert float(effective_bits(top1, median)) == pytest.approx(bits, abs=0.5)


def test_a_larger_ratio_leaves_fewer_bits_and_more_zeros():
    ratios = np.logspace(0.3, 5, 200)
    assert (np.diff(effective_bits(ratios, 1.0)) <= 1e-9).all()
    assert (np.diff(zeroed_share(ratios, 1.0)) >= 0).all()
    assert float(effective_bits(1e6, 1.0)) == pytest.approx(-1.76 / 6.02)
    assert float(zeroed_share(1e6, 1.0)) == pytest.approx(1.0)
    # A fine step loses step^2 / 12: half the ratio is one bit more.
    assert float(effective_bits(20.0, 1.0) - effective_bits(40.0, 1.0)) == pytest.approx(1, abs=0.03)


def test_arrays_of_any_kind_and_shape_are_read():
    top1 = np.ma.masked_greater(np.array([[10.0, 20.0, 99.0], [40.0, np.nan, 80.0]]), 90)
    found = effective_bits(top1, xr.DataArray([1.0, 2.0, 0.0], dims="layer"))
    assert found.shape == (2, 3)
    assert np.isnan(found).tolist() == [[False, False, True], [False, True, True]]
    assert found[0, 0] == found[0, 1] == float(effective_bits(10, 1))
    assert headroom([16376.0, 65504.0, 131008.0]).tolist() == [2, 0, -1]


@pytest.mark.parametrize(
    ("top1", "median", "said"),
    [
        ([-1.0], [1.0], "largest values is -1; sizes"),
        ([1.0], ["a"], "text"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "do not go"),
    ],
)
def test_what_is_no_statistics_is_refused(top1, median, said):
    for function in (effective_bits, zeroed_share):
        with pytest.raises(UsageError, match=said):
            function(top1, median)


def test_a_dataset_is_estimated_layer_by_layer(tmp_path):
    data = madyn.open_dataset(write_dataset(tmp_path))
    found = estimate_dataset(data, at=4000)
    statistics = data.statistics("pythia_14m").sel(step=4000)
    top1, median = (statistics.sel(quantity=name).values for name in ("top1", "median"))
    mine = found[found["model"] == "pythia_14m"]
    assert mine["step"].tolist() == [4000] * 3
    np.testing.assert_allclose(mine["ratio"], (top1 / median).mean(axis=0))
    np.testing.assert_allclose(mine["effective_bits"], effective_bits(top1, median).mean(axis=0))
    np.testing.assert_allclose(mine["headroom"], np.log2(65504 / top1.max(axis=0)))
    worst = worst_layers(found).set_index("model")
    assert worst.loc["pythia_14m", "layer"] == np.argmin(mine["effective_bits"])
    assert worst.loc["pythia_14m", "headroom"] == mine["headroom"].min()
    assert set(estimate_dataset(tmp_path)["step"]) == {20000}
    with pytest.raises(UsageError, match="nothing was measured at step 5; there are 0, 1, 2"):
        estimate_dataset(data, at=5)
