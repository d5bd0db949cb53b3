"""Massive dimensions: those that were planted, from a model and from its traced dataset."""

import numpy as np
import pytest
import torch

import madyn
from madyn.errors import DatasetError, UsageError
from madyn.intervention.finding import features_of, massive_dimensions
from planted import FEATURE, FIRST, LAYER, LAYERS, build, planted, sequences
from tiny import write_dataset


def test_the_planted_value_is_found_where_it_was_planted():
    model, ids = planted(), sequences()
    table = massive_dimensions(model, ids)
    assert table[["layer", "position", "feature"]].values.tolist() == [
        [one, 0, FEATURE] for one in range(LAYER, LAYERS)
    ]
    with torch.no_grad():
        hidden = model(torch.as_tensor(ids), output_hidden_states=True).hidden_states[LAYER + 1]
    size = hidden.abs().flatten(1)
    median = size.median(dim=1).values
    first = table.iloc[0]
    assert first["value"] == pytest.approx(float(hidden[:, 0, FEATURE].mean()), rel=1e-6)
    assert first["median"] == pytest.approx(float(median.mean()), rel=1e-6)
    assert first["ratio"] == pytest.approx(float((hidden[:, 0, FEATURE] / median).mean()), rel=1e-6)
    assert (first["share"], first["sign"], first["token"]) == (1.0, 1, f"id {FIRST}")
    assert table.attrs["sequences"] == 3


def test_a_value_in_some_sequences_has_its_share_spread_and_sign():
    model, ids = planted(), sequences(4)
    ids[1, 0] = FIRST + 1  # without the token that carries it
    ids[2, 9] = FIRST
    table = massive_dimensions(model, ids)
    at = table[table["layer"] == LAYER].set_index("position")
    assert at.loc[0, "share"] == 0.75
    assert at.loc[9, "share"] == 0.25
    assert at.loc[9, "spread"] == 0
    with torch.no_grad():
        model.model.layers[LAYER].mlp.down_proj.weight[FEATURE] *= -1
    assert set(massive_dimensions(model, ids)["sign"]) == {-1}


def test_rules_differ_in_what_they_call_massive():
    model, ids = build(), sequences()
    assert massive_dimensions(model, ids).empty
    assert massive_dimensions(model, ids, "robust").empty
    with torch.no_grad():
        hidden = model(torch.as_tensor(ids), output_hidden_states=True).hidden_states[1]
    size = hidden.abs()
    expected = (size > 4 * size.flatten(1).median(dim=1).values[:, None, None]).sum()
    table = massive_dimensions(model, ids, "ratio>4")
    rows = table[table["layer"] == 0]
    assert sum(round(share * 3) for share in rows["share"]) == int(expected) > 0
    assert not massive_dimensions(planted(), ids, "robust").empty


def test_features_say_from_where_to_where_they_are_massive():
    table = features_of(massive_dimensions(planted(), sequences()))
    assert table[["feature", "first", "last", "layers", "position", "positions"]].values.tolist() == [
        [FEATURE, LAYER, LAYERS - 1, LAYERS - LAYER, 0, 1]
    ]


def test_a_traced_dataset_tells_the_same(tmp_path):
    model, ids = planted(), sequences()
    madyn.trace("m", tmp_path, inputs=ids, steps=[5], load=lambda step: model)
    ours, own = massive_dimensions(str(tmp_path)), massive_dimensions(model, ids)
    columns = ["layer", "position", "token", "feature", "value", "median", "ratio", "share", "spread"]
    for name in columns:
        found, expected = ours[name].tolist(), own[name].tolist()
        assert found == (expected if name == "token" else pytest.approx(expected, rel=1e-5)), name
    assert np.isnan(ours["sign"]).all()
    assert ours.attrs["step"] == 5


def test_what_cannot_be_told_is_said(tmp_path):
    root = write_dataset(tmp_path / "d")
    with pytest.raises(UsageError, match="has 2 models; say which"):
        massive_dimensions(str(root))
    with pytest.raises(DatasetError, match="no locations"):
        massive_dimensions(str(root), name="pythia_14m")
    with pytest.raises(UsageError, match="rule is '1000'"):
        massive_dimensions(build(), sequences(), "1000")
    with pytest.raises(UsageError, match="keeps no tails"):
        massive_dimensions(str(root), rule="robust", name="pythia_14m")
    with pytest.raises(UsageError, match="no input_ids"):
        massive_dimensions(build())
