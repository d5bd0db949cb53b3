"""What a remedy does, told from pairs of models: made up, with known effects, and trained by the lab."""

import numpy as np
import pandas as pd
import pytest

import madyn
from madyn.effects import departure_effects, effect_sizes, model_responses
from madyn.effects.departures import holm
from madyn.effects.study import study_effects
from madyn.lab import LabSuite, Measuring, ModelEntry, Recipe, TrainingText, run_suite
from madyn.lab.suites import suite_from_dict
from remedy_family import make_remedies
from tiny import TEXT


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return make_remedies(tmp_path_factory.mktemp("family"))


def test_each_departure_is_estimated_against_its_pair(family):
    table = model_responses(family)
    sizes = departure_effects(table, "final ratio", level=0.999)  # 95 % would miss one of four now and then
    # What is of another size has no pair, and is not said anything of.
    truth = {"attention sink": 0.25, "activation gelu": 1.0, "bos false": 0.5}
    truth["attention sink, weight_decay 0.0, bos false"] = 0.2
    assert set(sizes.index) == set(truth)
    assert set(sizes["pairs"]) == {4}
    for label, times in truth.items():
        assert sizes.loc[label, "lower"] < times < sizes.loc[label, "upper"], label
        assert sizes.loc[label, "times"] == pytest.approx(times, rel=0.05)
        assert (sizes.loc[label, "corrected"] < 0.01) == (times != 1.0)
    losses = departure_effects(table, "held_out")
    assert losses.loc["attention sink", "times"] == pytest.approx(1.01, abs=0.003)
    assert losses.loc["activation gelu", "upper"] < 1 < losses.loc["attention sink", "lower"]


def test_shapes_are_compared_among_the_usual_models(family):
    """An MLP that was made narrower to match parameters is no other shape."""
    table = model_responses(family)
    assert len(np.unique(table["MLP ratio"])) > 1
    usual = table.loc[table["departure"] == ""]
    assert set(usual["model"]) == {f"{name}_s{seed}" for name in ("plain", "wide") for seed in range(4)}
    with pytest.raises(madyn.MadynError, match="cannot be told apart with 2 architectures"):
        effect_sizes(table, "final ratio")


def test_intervals_of_pairs_cover_as_often_as_they_say():
    rng = np.random.default_rng(1)
    inside, false = [], []
    for _ in range(300):
        chance = rng.standard_normal(5)
        rows = [
            {"model": f"{name}{seed}", "architecture": number, "departure": name if number else "",
             "base": f"plain{seed}" if number else "", "final ratio": 2 ** (chance[seed] + 0.1 * rng.standard_normal())}
            for number, name in enumerate(("plain", "a", "b", "c"))
            for seed in range(5)
        ]  # fmt: skip
        found = departure_effects(pd.DataFrame(rows), "final ratio")
        inside += [low < 1 < high for low, high in zip(found["lower"], found["upper"], strict=True)]
        false.append(bool((found["corrected"] < 0.05).any()))
    assert 0.92 < np.mean(inside) < 0.98
    assert np.mean(false) < 0.08


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, np.nan, 0.02])), [0.03, 0.04, np.nan, 0.04])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_one_pair_has_no_interval_and_several_shapes_are_the_units():
    one = pd.DataFrame(
        {"model": ["p", "a"], "architecture": [0, 1], "departure": ["", "x"], "base": ["", "p"], "y": [2.0, 1.0]}
    )
    found = departure_effects(one, "y")
    assert found.loc["x", "times"] == 0.5
    assert np.isnan(found.loc["x", ["lower", "upper", "p", "corrected"]].to_numpy(float)).all()
    several = pd.DataFrame(
        {
            "model": [f"{k}{i}" for k in "pa" for i in range(4)],
            "architecture": [0, 0, 1, 1, 2, 2, 3, 3],
            "departure": [""] * 4 + ["x"] * 4,
            "base": [""] * 4 + [f"p{i}" for i in range(4)],
            "y": [1.0] * 4 + [2.0, 2.0, 8.0, 8.0],
        }
    )
    found = departure_effects(several, "y")
    assert found.loc["x", "times"] == pytest.approx(4.0)  # 2 and 8, two units
    assert found.loc["x", "pairs"] == 4
    assert found.loc["x", "lower"] < 1e-3


def test_the_command_estimates_remedies_that_the_lab_trained(tmp_path, run):
    """Two remedies and the plain model, three seeds each, 20 steps."""
    (tmp_path / "book.txt").write_text(TEXT)
    base = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "rotary_pct": 1.0, "activation": "swiglu",
        "residual": "sequential", "norm": "rmsnorm", "seeds": [0, 1, 2],
    }  # fmt: skip
    entries: list[ModelEntry] = suite_from_dict(
        {
            "name": "s",
            "model": [
                {**base, "name": "plain"},
                {**base, "name": "gated", "output_gate": "elementwise", "match_parameters": True},
                {**base, "name": "decay", "recipe": {"weight_decay": 0.0}},
            ],
        }
    ).model
    book = str(tmp_path / "book.txt")
    suite = LabSuite(
        name="s",
        recipe=Recipe(steps=20, batch_size=4, length=16),
        text=TrainingText(source=book, vocab_size=300),
        measure=Measuring(source=book, steps=[0, 1, 5, 10, 20], sequences=3, loss_sequences=5),
        model=entries,
    )
    assert not run_suite(suite, tmp_path / "out", jobs=2).failures
    code, out, _ = run("effects", tmp_path / "out", "--out", tmp_path / "page")
    assert code == 0
    assert "output_gate elementwise" in out
    assert "weight_decay 0.0" in out
    assert "corrected: for 2 departures, by Holm's method" in out
    assert "no effects of wiring" not in out
    study = study_effects(tmp_path / "out")
    table = study.departures["final ratio"]
    assert list(table["pairs"]) == [3, 3]
    ratio = {r["model"]: r["final ratio"] for r in study.responses.to_dict("records")}
    mean = np.mean([np.log(ratio[f"gated_s{s}"] / ratio[f"plain_s{s}"]) for s in range(3)])
    assert table.loc["output_gate elementwise", "times"] == pytest.approx(np.exp(mean))
    assert (tmp_path / "page" / "departures.csv").exists()
