"""Designs where the trained models differ in wiring: families whose law was made up, and one that the lab trains."""

import json
import math

import numpy as np
import pandas as pd
import pytest

import madyn
from madyn.errors import UsageError
from madyn.lab import LabSuite, Measuring, Recipe, TrainingText, run_suite
from madyn.lab.suites import suite_from_dict
from madyn.prediction import Limits, Predictor, design
from madyn.prediction.candidates import plain_twins
from madyn.prediction.inputs import Subject, as_wiring
from madyn.wirings import Wiring, departing, in_words
from tiny import TEXT, write_wired

BASE = {"norm": "rmsnorm", "activation": "swiglu", "residual": "sequential"}
PLAIN = as_wiring(BASE)
LAW = {
    "plain": ({}, 100.0, 3.0, 0),
    "soft": ({"attention": "softmax1"}, 20.0, 3.02, 0),
    "gate": ({"output_gate": "elementwise"}, 8.0, 3.0, 6),
    "sink": ({"attention": "sink"}, 5.0, 3.2, 1),
    "sandwich": ({"norm_placement": "sandwich"}, 200.0, 2.94, 2),
    "both": ({"attention": "softmax1", "output_gate": "headwise"}, 12.0, 2.99, 1),
}
"""Of each wiring its levels, the max ratio and the loss at a width of 16, and by how much its MLP is narrower."""
CHANCE, LOSS_CHANCE = 0.1, 0.004


def runs_of(rng, name, layers, width, seeds, taken=True):
    levels, ratio, loss, narrower = LAW[name]
    shape = {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": 3 * width - taken * narrower}
    return {
        f"{name}_{layers}x{width}_s{seed}": (
            shape, {**BASE, **levels}, {}, ratio * (width / 16) * math.exp(CHANCE * rng.standard_normal()),
            loss - 0.2 * math.log2(width / 16) + LOSS_CHANCE * rng.standard_normal(),
        )
        for seed in range(seeds)
    }  # fmt: skip


@pytest.fixture(scope="module")
def one_shape(tmp_path_factory):
    """Six wirings of one shape, four seeds each, parameters matched; and the plain one with no weight decay, which
    would be the best of all."""
    rng, runs = np.random.default_rng(0), {}
    for name in LAW:
        runs |= runs_of(rng, name, 2, 16, 4)
    shape = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 48}
    runs |= {f"decay_s{seed}": (shape, BASE, {"weight_decay": 0.0}, 4.5, 2.0) for seed in range(4)}
    return Predictor().fit(write_wired(tmp_path_factory.mktemp("one") / "d", runs))


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Nine shapes in two wirings, two seeds each, and a gate at one of them."""
    rng, runs = np.random.default_rng(1), {}
    for layers in (2, 3, 4):
        for width in (16, 32, 48):
            for name in ("plain", "soft"):
                runs |= runs_of(rng, name, layers, width, 2, taken=False)
    runs |= runs_of(rng, "gate", 3, 32, 3, taken=False)
    return Predictor().fit(write_wired(tmp_path_factory.mktemp("grid") / "d", runs))


def word(name):
    return in_words(LAW[name][0]) or "usual"


def test_a_trained_wiring_is_expected_to_do_what_its_runs_did(one_shape):
    designs = design(one_shape, minimize="max ratio")
    assert designs.searched == 6
    # By the law, the sink has the lowest ratio, the gate a lower loss, `both` less and the sandwich the least.
    assert list(designs.table["wiring"]) == [word(name) for name in ("sink", "gate", "both", "sandwich")]
    assert designs.wirings == [as_wiring({**BASE, **LAW[name][0]}) for name in ("sink", "gate", "both", "sandwich")]
    table = one_shape.state.table
    for row, wiring in zip(designs.table.to_dict("records"), designs.wirings, strict=True):
        own = [model for model, subject in table.subjects.items() if subject.wiring == wiring]
        ends = np.array([math.log(math.exp(table.curves[(table.rows["model"] == m).to_numpy()].max())) for m in own])
        assert len(own) == 4
        assert math.log(row["objective"]) == pytest.approx(ends.mean(), abs=CHANCE / 2)  # the chance of a mean of four
        assert row["loss"] == pytest.approx(np.mean([table.losses[m] for m in own]), abs=LOSS_CHANCE / 2)
        assert row["nearest"] in own
        assert row["distance"] == 0
        assert row["nearest_objective"] == pytest.approx(np.exp(ends).mean())
        assert row["outside"] == ""
        # A 90 % interval for a fifth run; the truth is known.
        width = 2 * 1.645 * math.sqrt(1 + 1 / 4)
        assert math.log(row["objective_upper"] / row["objective_lower"]) == pytest.approx(width * CHANCE, rel=0.3)
        assert row["loss_upper"] - row["loss_lower"] == pytest.approx(width * LOSS_CHANCE, rel=0.3)
    assert {what: one.left_out for what, one in designs.evidence.items()} == {"objective": "runs", "loss": "runs"}
    assert designs.evidence["objective"].r2 > 0.95
    assert 0.8 < designs.evidence["objective"].coverage < 1
    said = " ".join(designs.notes)
    assert "decay_s0, decay_s1, decay_s2, decay_s3 (another recipe than most have" in said
    assert "6 of 6 trained wirings were searched, each at sizes within those that it was trained at." in said
    assert "too few" not in said


def test_the_loss_may_be_limited_to_a_share_above_the_plain_model_s(one_shape, grid):
    within = design(one_shape, Limits(max_loss_more=0.01), minimize="max ratio")
    assert list(within.table["wiring"]) == [word(name) for name in ("gate", "both", "sandwich")]  # a sink costs 7 %
    learns = design(one_shape, Limits(max_loss_more=0.0, wiring={"norm_placement": "sandwich"}), maximize="max ratio")
    assert list(learns.table["wiring"]) == [word("sandwich")]
    with pytest.raises(UsageError, match=r"max loss 1 % above the usual wiring's \(the least predicted is 6\.[0-9]+ %"):
        design(one_shape, Limits(max_loss_more=0.01, wiring={"attention": "sink"}), minimize="max ratio")
    # At every shape softmax1 costs 0.02 nats: 0.67 % of 3.0, and 0.74 % of 2.68.
    both = design(grid, Limits(max_loss_more=0.01), minimize="max ratio")
    assert word("soft") in set(both.table["wiring"])
    less = design(grid, Limits(max_loss_more=0.002, wiring={"output_gate": "none"}), minimize="max ratio")
    assert set(less.table["wiring"]) == {"usual"}
    # What a gate takes from the MLP, the plain model has.
    gated = next(s for m, s in one_shape.state.table.subjects.items() if m == "gate_2x16_s0")
    plain = one_shape.state.table.subjects["plain_2x16_s0"]
    assert gated.architecture.intermediate_size == 42
    assert plain_twins(one_shape, [gated]) == [plain]


def test_shapes_are_searched_in_every_wiring_that_was_trained(grid):
    found = design(grid, minimize="max ratio")
    assert found.searched == 9 + 9 + 1
    assert found.evidence["objective"].left_out == "shapes"
    assert found.evidence["objective"].calibration.architectures == 9
    assert found.evidence["objective, runs"].left_out == "runs"
    for row in found.table.to_dict("records"):
        name = next(name for name in LAW if word(name) == row["wiring"])
        law = LAW[name][1] * row["hidden_size"] / 16
        assert math.log(row["objective"] / law) == pytest.approx(0, abs=0.15)
        assert row["objective_lower"] < law < row["objective_upper"]
        assert row["loss"] == pytest.approx(LAW[name][2] - 0.2 * math.log2(row["hidden_size"] / 16), abs=0.02)
        assert grid.state.table.subjects[row["nearest"]].wiring == as_wiring({**BASE, **LAW[name][0]})
    # The gate was trained at one shape: elsewhere it is outside the data.
    gates = design(grid, Limits(wiring={"output_gate": "elementwise"}), minimize="max ratio")
    assert gates.searched == 1
    assert list(gates.table["hidden_size"]) == [32]
    beyond = design(grid, Limits(wiring={"output_gate": "elementwise"}), minimize="max ratio", extrapolate=True)
    assert beyond.searched == 9
    marked = [row["outside"] for row in beyond.table.to_dict("records") if row["hidden_size"] == 16]
    assert marked
    assert all("hidden size is 16, outside 32 of the models with its wiring" in said for said in marked)
    wide = design(grid, Limits(hidden_size=(48, 48)), minimize="max ratio")
    assert "No model within the limits has the wiring output_gate elementwise." in wide.notes
    assert wide.searched == 6


def test_a_twin_in_another_wiring_does_not_vouch_for_a_new_shape(tmp_path):
    """Each shape has a ratio of its own that no law tells, and has it in both wirings."""
    rng, runs = np.random.default_rng(0), {}
    for layers in (2, 3, 4):
        for width in (16, 32, 48):
            luck = math.exp(rng.standard_normal())
            for name, run in [(n, r) for k in ("plain", "soft") for n, r in runs_of(rng, k, layers, width, 1).items()]:
                runs[name] = (*run[:3], run[3] * luck, run[4])
    predictor = Predictor().fit(write_wired(tmp_path / "d", runs))
    apart = design(predictor, minimize="max ratio").evidence["objective"]
    assert (apart.left_out, apart.calibration.architectures) == ("shapes", 9)
    assert apart.r2 < 0.5


def test_where_no_loss_can_be_predicted_only_what_was_trained_twice_is_searched(tmp_path):
    rng = np.random.default_rng(0)
    runs = {k: v for n in ("plain", "soft") for w in (16, 32) for k, v in runs_of(rng, n, 2, w, 2).items()}
    del runs["soft_2x32_s1"]
    designs = design(Predictor().fit(write_wired(tmp_path / "d", runs)), minimize="max ratio")
    assert designs.against == "held-out loss"
    assert designs.searched == 3
    assert any(
        "1 shapes and wirings that were not trained twice are left out of the search" in n for n in designs.notes
    )


@pytest.mark.parametrize(
    ("wiring", "said"),
    [
        ({"attention": "softmax2"}, "'attention' = 'softmax2' is no wiring; those that there are: residual: "),
        ({"attentions": "sink"}, "'attentions' = 'sink' is no wiring"),
        ({"attention": "sigmoid"}, "no trained model has attention sigmoid; the trained models have attention "
         "softmax, softmax1, sink; norm_placement pre, sandwich; output_gate none, headwise, elementwise"),
        ({"qk_norm": "rmsnorm"}, "the trained models have qk_norm none; norm_placement pre, sandwich; "),
        ({"attention": "sink", "output_gate": "headwise"}, "no trained model has attention sink, output_gate headwise "
         "together; the wirings that were trained: usual; attention softmax1, output_gate headwise; "),
    ],
)  # fmt: skip
def test_a_wiring_that_nobody_trained_is_refused_with_those_that_there_are(one_shape, wiring, said):
    with pytest.raises(UsageError, match=said):
        design(one_shape, Limits(wiring=wiring), minimize="max ratio")


@pytest.mark.parametrize("more", [-0.01, math.nan, math.inf, True, "1%"])
def test_a_share_that_cannot_be_is_refused(more):
    with pytest.raises(UsageError, match=r"max_loss_more is .* it is a share"):
        Limits(max_loss_more=more)
    with pytest.raises(UsageError, match="it is levels by field"):
        Limits(wiring=more)


def test_a_family_of_one_wiring_is_searched_as_ever(one_shape, tmp_path):
    rng, runs = np.random.default_rng(2), {}
    for layers, width in ((2, 16), (3, 16), (2, 32), (3, 32), (2, 48)):
        runs |= runs_of(rng, "plain", layers, width, 2)
    predictor = Predictor().fit(write_wired(tmp_path / "d", runs))
    designs = design(predictor, Limits(wiring={"norm": "rmsnorm"}), minimize="max ratio")
    assert "wiring" not in designs.table
    assert set(designs.wirings) == {PLAIN}
    assert {one.left_out for one in designs.evidence.values()} == {"architectures"}
    assert "wiring" not in " ".join(designs.notes)
    with pytest.raises(UsageError, match="compares wirings with the usual one, and all trained models have one"):
        design(predictor, Limits(max_loss_more=0.01), minimize="max ratio")


def test_a_label_is_what_departs():
    assert in_words(departing(as_wiring({**BASE, "attention": "sink"}), PLAIN)) == "attention sink"
    assert in_words(departing(PLAIN, Wiring())) == "residual sequential, norm rmsnorm, activation swiglu"
    assert in_words({}) == ""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three wirings of two shapes, two seeds each, and another recipe: 20 steps of the lab."""
    root = tmp_path_factory.mktemp("trained")
    (root / "book.txt").write_text(TEXT)
    book = str(root / "book.txt")
    shapes = {"small": {"hidden_size": 16}, "wide": {"hidden_size": 32}}
    ways = {
        "plain": {}, "softmax1": {"attention": "softmax1"},
        "gated": {"output_gate": "elementwise", "match_parameters": True}, "decay": {"recipe": {"weight_decay": 0.0}},
    }  # fmt: skip
    base = {"num_hidden_layers": 2, "num_attention_heads": 2, "rotary_pct": 1.0, "seeds": [0, 1], **BASE}
    models = [
        {**base, **shape, **way, "name": f"{name}_{size}", "intermediate_size": 3 * shape["hidden_size"]}
        for size, shape in shapes.items()
        for name, way in ways.items()
    ]
    suite = LabSuite(
        name="s",
        recipe=Recipe(steps=20, batch_size=4, length=16),
        text=TrainingText(source=book, vocab_size=300),
        measure=Measuring(source=book, steps=[0, 1, 5, 10, 20], sequences=3, loss_sequences=5),
        model=suite_from_dict({"name": "s", "model": models}).model,
    )
    assert not run_suite(suite, root / "family", jobs=1).failures
    return root / "family"


def test_the_command_names_the_wiring_of_what_the_lab_trained(trained, tmp_path, run):
    asked = ("design", "--suite", trained, "--minimize", "max ratio")
    code, out, err = run(*asked, "--json", "--out", tmp_path / "designs.csv")
    assert code == 0, err
    found = json.loads(out)
    assert {d["wiring"] for d in found["designs"]} <= {"usual", "attention softmax1", "output_gate elementwise"}
    assert list(pd.read_csv(tmp_path / "designs.csv")["wiring"]) == [d["wiring"] for d in found["designs"]]
    dataset = madyn.open_dataset(trained)
    for d in found["designs"]:
        assert d["distance"] == 0 or d["hidden_size"] not in (16, 32)
        record = dataset.training(d["nearest"])
        assert record is not None
        plan = record.plan["blueprint"]
        assert plan.get("attention", "softmax") == ("softmax1" if "softmax1" in d["wiring"] else "softmax")
        assert plan.get("output_gate", "none") == ("elementwise" if "gate" in d["wiring"] else "none")
    assert any("decay_small_s0, decay_small_s1, decay_wide_s0, decay_wide_s1" in note for note in found["notes"])
    # Of the losses: a design's is at most so much above that of the plain model of its shape.
    plain = {}
    for model in ("plain_small_s0", "plain_small_s1", "plain_wide_s0", "plain_wide_s1"):
        record = dataset.training(model)
        assert record is not None
        plain.setdefault(dataset.architecture(model).hidden_size, []).append(record.losses[20]["held_out"])
    code, out, err = run(*asked, "--max-loss", "2%", "--json")
    assert code == 0, err
    for d in json.loads(out)["designs"]:
        if d["hidden_size"] in plain:
            assert d["loss"] <= 1.021 * np.mean(plain[d["hidden_size"]])
    code, out, err = run(*asked, "--wiring", "attention=softmax1", "--wiring", "output_gate=none")
    assert code == 0, err
    assert out.splitlines()[1].split()[0] == "wiring"
    assert "attention softmax1" in out
    assert "usual" not in out.split("measured nearby")[0]
    for wrong, said in (
        (("--wiring", "attention"), "expected a field and its level"),
        (("--wiring", "attention=sink"), "no trained model has attention sink; the trained models have attention"),
        (("--wiring", "attention=softmax", "--wiring", "attention=softmax1"), "attention cannot be both"),
        (("--max-loss", "much"), "--max-loss 'much': expected a loss in nats a token, as 3.2, or how much more"),
        (("--max-loss", "-1%"), "--max-loss '-1%'"),
        (("--max-loss", "nan"), "--max-loss 'nan'"),
    ):
        code, _, err = run(*asked, *wrong)
        assert (code, said in err) == (2, True), err


def test_subjects_of_one_recipe_alone_are_learned_from(trained):
    subjects = Predictor().fit(trained).state.table.subjects
    assert len(subjects) == 12
    assert not [model for model in subjects if "decay" in model]
    assert all(isinstance(subject, Subject) for subject in subjects.values())
