"""Effects of replaced values, against doing it by hand, one whole forward at a time."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from madyn.errors import UsageError
from madyn.intervention.editing import intervene
from madyn.intervention.experiment import measure_effects
from madyn.intervention.places import CONTROLS, MASSIVE
from planted import FAMILIES, FEATURE, LAYER, LAYERS, LENGTH, VOCABULARY, build, planted, sequences

IDS = sequences()


def losses(model, ids=IDS):
    """The mean loss of every sequence, as transformers has it."""
    rows = torch.as_tensor(ids)
    with torch.no_grad():
        return np.array([float(model(row[None], labels=row[None]).loss) for row in rows])


def test_the_table_is_what_whole_forwards_give():
    model = planted()
    effects = measure_effects(model, IDS, ["zero", "mean", "scale:0.5", "clip:10", 3], controls=False)
    table = effects.table.set_index("set")
    assert effects.layer == LAYER
    assert effects.places[["position", "feature"]].drop_duplicates().values.tolist() == [[0, FEATURE]]
    before = losses(model)
    assert table.loc["untouched", "loss"] == pytest.approx(before.mean(), rel=1e-6)
    for given in ("zero", "mean", "scale:0.5", "clip:10", 3):
        with intervene(model, layer=LAYER, position=0, feature=FEATURE, set=given, over=IDS):
            after = losses(model)
        row = table.loc[str(given)]
        assert row["loss"] == pytest.approx(after.mean(), rel=1e-5), given
        assert row["change"] == pytest.approx((after - before).mean(), abs=1e-5)
        assert row["perplexity"] == pytest.approx(np.exp(after.mean()), rel=1e-5)
        assert row["change_low"] <= row["change"] <= row["change_high"]
    assert table.loc["zero", "divergence"] > 1e-4
    assert table.loc["untouched", "divergence"] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_judged(family):
    effects = measure_effects(build(family), IDS, ["zero"], layer=1, top=3)
    assert [*effects.table["kind"]] == ["", MASSIVE, *CONTROLS]
    assert np.isfinite(effects.table.loc[1:, ["loss", "change", "divergence"]]).all().all()
    assert effects.by_position.columns.tolist() == ["position", "untouched", "zero"]
    assert effects.by_position["position"].tolist() == list(range(1, LENGTH))


def test_controls_are_as_many_other_values_of_their_kind():
    from madyn.intervention.places import choose_places, control_places

    draws = np.random.default_rng(0)
    hidden = [torch.as_tensor(draws.standard_normal((12, 8))) for _ in range(2)]
    for state in hidden:
        state[0, 3], state[4, 6] = 500, -400
    massive = choose_places(hidden, 2, "all", None)
    assert [*zip(massive.positions[0], massive.features[0], strict=True)] == [(0, 3), (4, 6)]
    assert massive.means.tolist() == [500, -400]
    kinds = dict(control_places(hidden, massive, seed=0))
    assert list(kinds) == list(CONTROLS)
    for name, places in kinds.items():
        for sequence, state in enumerate(hidden):
            size = state.abs().numpy()
            at = [*zip(places.positions[sequence].tolist(), places.features[sequence].tolist(), strict=True)]
            assert len(set(at)) == 2, name
            assert not {(0, 3), (4, 6)} & set(at), name
            assert np.allclose(places.values[sequence], [state[p, f] for p, f in at])
            if name == "of median size":
                assert all(abs(size[p, f] - np.median(size)) < 0.1 for p, f in at)
            if name == "next largest":
                allowed = np.delete(size[[0, 4]], [3, 6], axis=1)
                assert sorted(size[p, f] for p, f in at) == pytest.approx(sorted(np.sort(allowed, axis=None)[-2:]))
            if name == "same feature elsewhere":
                assert {f for _, f in at} == {3, 6}
                assert not {p for p, _ in at} & {0, 4}


def test_positions_may_be_the_first_or_delimiters_alone():
    class Reader:
        mask_token_id = None

        def decode(self, ids):
            return "," if ids[0] == int(IDS[0, 5]) else "word"

    ids = IDS.copy()
    ids[:, 5] = IDS[0, 5]
    first = measure_effects(build(), ids, ["zero"], layer=0, top=4, positions="first", controls=False)
    assert set(first.places["position"]) == {0}
    delimiters = measure_effects(
        build(), ids, ["zero"], layer=0, top=4, positions="delimiters", controls=False, tokenizer=Reader()
    )
    assert set(delimiters.places["token"]) == {","}
    with pytest.raises(UsageError, match="needs a tokenizer"):
        measure_effects(build(), ids, ["zero"], layer=0, positions="delimiters")


def test_what_the_layers_hold_afterwards_is_what_whole_forwards_hold():
    model = planted()
    effects = measure_effects(model, IDS, ["zero"], controls=False)
    with intervene(model, layer=LAYER, position=0, feature=FEATURE), torch.no_grad():
        states = model(torch.as_tensor(IDS), output_hidden_states=True).hidden_states[LAYER + 1 : -1]
    after = effects.by_layer[effects.by_layer["set"] == "zero"].set_index("layer")
    assert after.index.tolist() == list(range(LAYER, LAYERS))
    for layer, state in enumerate(states, LAYER):
        size = state.abs().flatten(1)
        top, median = size.max(dim=1).values, size.median(dim=1).values
        assert after.loc[layer, "top1"] == pytest.approx(float(top.mean()), rel=1e-5)
        assert after.loc[layer, "ratio"] == pytest.approx(float((top / median).mean()), rel=1e-5)
    whole = effects.by_layer[effects.by_layer["set"] == "untouched"]
    assert whole["layer"].tolist() == list(range(LAYERS))


def test_a_loss_that_is_no_longer_finite_is_a_result():
    effects = measure_effects(planted(), IDS, ["scale:1e38", "zero"], controls=False)
    row = effects.table.iloc[1]
    assert not np.isfinite(row["loss"])
    assert any("no longer finite" in remark for remark in effects.remarks)
    assert np.isfinite(effects.table.iloc[2]["loss"])


def test_an_encoder_is_judged_by_its_embedding():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48
    )
    model = BertModel(config).eval()
    effects = measure_effects(model, IDS, [50.0], layer=0, controls=False)
    assert effects.kind == "embedding"
    with torch.no_grad():
        before = model(torch.as_tensor(IDS)).last_hidden_state.double().mean(dim=1)
        sites = effects.places
        moved = []
        for sequence in range(3):
            place = sites[sites["sequence"] == sequence].iloc[0]
            with intervene(model, layer=0, position=int(place["position"]), feature=int(place["feature"]), set=50.0):
                after = model(torch.as_tensor(IDS[sequence : sequence + 1])).last_hidden_state.double().mean(dim=1)
            moved.append(1 - float(torch.cosine_similarity(before[sequence], after[0], dim=0)))
    assert effects.table.iloc[1]["divergence"] == pytest.approx(np.mean(moved), rel=1e-4)
    assert np.isnan(effects.table.iloc[1]["loss"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no massive activation .* name a layer"),
        ({"layer": 9}, "layer is 9; the model has 4"),
        ({"layer": 1, "settings": ["half"]}, "set is 'half'"),
        ({"layer": 1, "top": 0}, "top is 0"),
        ({"layer": 1, "top": 10**6}, "too few"),
        ({"layer": 1, "positions": "last"}, "positions is 'last'"),
        ({"layer": 1, "sequences": IDS[:1]}, "one sequence has no mean"),
        ({"layer": 1, "sequences": IDS[:, :1]}, "S of at least 2"),
    ],
)
def test_what_cannot_be_done_is_said(given, said):
    with pytest.raises(UsageError, match=said):
        measure_effects(build(), **{"sequences": IDS, **given})


def test_one_sequence_has_no_interval():
    effects = measure_effects(planted(), IDS[:1], ["zero"], controls=False)
    assert np.isnan(effects.table["change_low"]).all()
    assert effects.remarks == ["one sequence gives no interval"]
