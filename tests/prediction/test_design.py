"""Searches for designs, on families whose law is known because it was made up."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from madyn.architecture import Architecture
from madyn.cli.commands import designing
from madyn.cli.commands.designing import parse_range
from madyn.errors import UsageError
from madyn.prediction import Predictor, Training
from madyn.prediction.candidates import Limits, _thinned
from madyn.prediction.design_search import design, pareto_front
from madyn.prediction.inputs import Subject
from madyn.prediction.losses import Evidence, fit_losses
from madyn.prediction.table import positions, table_of
from madyn.summaries.designs import print_designs

STEPS = [0, 1, 3, 10, 30, 100, 300, 500, 1000]
LAST = STEPS[-1]
LAYERS, WIDTHS, RATIOS = (2, 3, 4), (32, 48, 64), (1, 2, 4)
LUCK = 1.0  # by how much the logarithm of a lucky model's ratio is smaller


def shape(layers=2, width=32, heads=2, ratio=2):
    return Architecture(
        num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, intermediate_size=ratio * width,
        vocab_size=256, max_position_embeddings=32,
    )  # fmt: skip


def doublings(a):
    """Layers, width, heads and MLP ratio in doublings of the smallest."""
    ratio = a.intermediate_size / a.hidden_size
    return np.log2([a.num_hidden_layers / 2, a.hidden_size / 32, a.num_attention_heads, ratio])


def largest(a):
    """The law of the largest ratio's logarithm: the narrower, the lower."""
    return math.log(10) + float(np.array([0.2, 0.5, 0.15, 0.15]) @ doublings(a))


def loss(a):
    """The law of the loss: the wider, the lower; all else only does harm."""
    return 4 + float(np.array([0.05, -0.2, 0.05, 0.05]) @ doublings(a))


def curves(a, rng, noise=0.0):
    """Log curves (layers, P): up to the largest ratio at step 300 in the last layer, and a little down again."""
    rise = np.interp(positions(STEPS, LAST), positions([0, 300, LAST], LAST), [0.2, 1.0, 0.9])
    depth = np.linspace(0.6, 1.0, a.num_hidden_layers)
    law = largest(a) * rise * depth[:, np.newaxis]
    return law + noise * rng.standard_normal(law.shape)


GRID = [
    shape(layers, width, width // head, ratio)
    for layers, width, head, ratio in itertools.product(LAYERS, WIDTHS, (8, 16), RATIOS)
]
FAMILY = [GRID[i] for i in np.random.default_rng(0).permutation(len(GRID))[:30]]


def family_table(shapes=FAMILY, seeds=1, noise=0.002, losses=True, lucky=()):
    rng = np.random.default_rng(0)
    runs = [(f"m{i}_s{seed}", a) for i, a in enumerate(shapes) for seed in range(seeds)]
    values = [curves(a, rng, noise) - (LUCK if a in lucky else 0.0) for _, a in runs]
    return table_of(
        {name: Subject(a, Training(steps=LAST)) for name, a in runs},
        np.concatenate(values),
        positions(STEPS, LAST),
        {name: loss(a) + 0.002 * rng.standard_normal() for name, a in runs} if losses else {},
        {},
    )


@pytest.fixture(scope="module")
def predictor():
    return Predictor().fit_table(family_table())


def beaten(points):
    """Which of some pairs another beats, the slow way."""
    return [any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points) for p in points]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30))
def test_the_front_is_what_no_other_point_beats(points):
    front = pareto_front(np.array(points, float))
    assert front.tolist() == [not b for b in beaten(points)]


def every_shape():
    """What the default limits allow, most of which was not trained."""
    found = [
        shape(layers, width, heads, ratio)
        for layers, width, heads, ratio in itertools.product(LAYERS, WIDTHS, range(1, 9), (1, 2, 3, 4))
        if width % heads == 0 and width // heads in (8, 16)
    ]
    assert set(FAMILY) < set(found)
    return found


def test_a_search_finds_the_shapes_that_the_law_says_are_best(predictor):
    """By brute force over all shapes, from the law itself."""
    every = every_shape()
    best = [a for a, b in zip(every, beaten([(largest(a), loss(a)) for a in every]), strict=True) if not b]
    designs = design(predictor, minimize="max ratio")
    assert designs.searched == len(every)
    assert designs.against == "held-out loss"
    assert set(designs.architectures) == set(best)
    assert 1 < len(best) < len(every) / 4
    assert (np.diff(designs.table["objective"].to_numpy()) > 0).all()
    assert (np.diff(designs.table["loss"].to_numpy()) < 0).all()
    for a, row in zip(designs.architectures, designs.table.to_dict("records"), strict=True):
        # A trained shape is predicted without itself, and one in a corner of the grid is then beyond all others.
        assert math.log(row["objective"]) == pytest.approx(largest(a), abs=0.15 if a in FAMILY else 0.05)
        assert row["loss"] == pytest.approx(loss(a), abs=0.02)
        assert row["objective_lower"] <= row["objective"] <= row["objective_upper"]
        assert row["loss_lower"] <= row["loss"] <= row["loss_upper"]
        assert row["parameters"] == a.num_parameters
        assert row["outside"] == ""


def test_the_highest_are_found_as_well(predictor):
    """Here all sizes but the width raise both, and many shapes are nearly as good: up to the errors of prediction."""
    every, near = every_shape(), 0.04
    designs = design(predictor, maximize="max ratio")
    assert (np.diff(designs.table["objective"].to_numpy()) < 0).all()
    assert designs.architectures[0] == max(every, key=largest)
    assert designs.architectures[-1] == min(every, key=loss)
    for a in designs.architectures:
        assert not any(largest(b) > largest(a) + near and loss(b) < loss(a) - near for b in every)
    for b in every:
        assert any(largest(a) > largest(b) - near and loss(a) < loss(b) + near for a in designs.architectures)


@pytest.mark.parametrize(
    ("wanted", "law"),
    [
        ({"minimize": "max ratio"}, lambda a: math.exp(largest(a))),
        ({"minimize": "final ratio"}, lambda a: math.exp(0.9 * largest(a))),
        ({"minimize": "max ratio", "at": 0}, lambda a: math.exp(0.2 * largest(a))),
        ({"minimize": "max ratio", "at": LAST}, lambda a: math.exp(0.9 * largest(a))),
        ({"maximize": "peak step"}, lambda a: 300),
    ],
)
def test_the_objectives_are_those_of_the_law(predictor, wanted, law):
    one = Limits(layers=(3, 3), hidden_size=(48, 48), heads=(3, 3), mlp_ratio=(3, 3))
    a = shape(3, 48, 3, 3)
    designs = design(predictor, one, **wanted)
    assert designs.architectures == [a]
    assert designs.table["objective"].to_numpy() == pytest.approx([law(a)], rel=0.05)
    assert designs.objective.split(" ", 1)[1].startswith(next(iter(wanted.values())))


def test_the_peak_s_step_is_the_last_one_where_there_is_no_peak():
    table = family_table(noise=0.0)
    rising = np.sort(table.curves, axis=1)
    risen = table_of(table.subjects, rising, table.positions, table.losses, {})
    designs = design(Predictor("ridge").fit_table(risen), maximize="peak step")
    assert designs.table["objective"].to_numpy() == pytest.approx([LAST] * len(designs.table))
    assert "does not peak before the end" in " ".join(designs.notes)


def test_intervals_hold_what_new_runs_do():
    """Each layer and step has a chance of its own, so that the largest of them lies above the largest median."""
    noise = 0.15
    designs = design(Predictor().fit_table(family_table(seeds=2, noise=noise)), minimize="max ratio")
    rng = np.random.default_rng(1)
    inside, shifts = [], []
    for a, row in zip(designs.architectures, designs.table.to_dict("records"), strict=True):
        runs = np.array([curves(a, rng, noise).max() for _ in range(300)])
        inside.append(np.mean((runs >= math.log(row["objective_lower"])) & (runs <= math.log(row["objective_upper"]))))
        shifts.append([math.log(row["objective"]) - np.median(runs), np.median(runs) - largest(a)])
    assert 0.8 < np.mean(inside) < 0.99
    off, above = np.mean(shifts, axis=0)
    assert above > 0.03
    assert abs(off) < 0.07
    assert 0.8 < designs.evidence["objective"].coverage < 1


def test_evidence_is_calibrated_without_the_architecture_that_it_is_of():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(400), 2)
    uncalibrated = rng.uniform(1, 3, 400)[groups]
    truth = rng.normal(0, 5, 400)[groups]
    evidence = Evidence.of(truth + 0.7 * uncalibrated * rng.standard_normal(800), truth - 1.0, uncalibrated, groups)
    assert evidence.coverage == pytest.approx(0.9, abs=0.03)
    low, middle, high = evidence.interval(np.zeros(1), np.ones(1))
    assert middle[0] == pytest.approx(0.5, abs=0.15)  # the shift by 1, in standard deviations of 1 to 3
    assert high[0] - low[0] == pytest.approx(2 * 1.645 * 0.7, rel=0.2)
    wider = evidence.interval(np.zeros(1), np.ones(1), more=2.0)
    assert wider[2][0] - wider[0][0] > 1.5 * (high[0] - low[0])
    # A prediction that is the others' mean explains nothing.
    observed = rng.standard_normal(50)
    means = np.array([np.delete(observed, i).mean() for i in range(50)])
    assert Evidence.of(observed, means, np.ones(50), np.arange(50)).r2 < 0.02
    # Of two architectures, each is calibrated by the other's residual alone: 3 is said where 1 is seen, and 1 for 3.
    two = Evidence.of(np.array([1.0, 3.0]), np.zeros(2), np.ones(2), np.arange(2))
    assert two.r2 == pytest.approx(1 - (2**2 + 2**2) / (1**2 + 1**2))
    alone = Evidence.of(observed, means, np.ones(50), np.zeros(50, int))
    assert np.isnan([alone.r2, alone.coverage]).all()


def test_the_loss_is_predicted_for_shapes_that_were_not_trained():
    table = family_table(seeds=2)
    law = fit_losses(table)
    assert law is not None
    assert law.evidence.r2 > 0.95
    new = [Subject(shape(3, 48, 6, 3), Training(steps=LAST)), Subject(shape(8, 128, 8, 4), Training(steps=LAST))]
    low, middle, high = law.interval(new)
    assert middle == pytest.approx([loss(s.architecture) for s in new], abs=0.05)
    assert (low < middle).all()
    assert (middle < high).all()
    assert high[1] - low[1] > 2 * (high[0] - low[0])  # far outside the family
    # One model is off, and stays off by as much for a fit that was not shown it.
    odd = dict(table.losses)
    odd["m0_s0"] = odd["m0_s1"] = loss(FAMILY[0]) + 1
    scores = fit_losses(replace(table, losses=odd))
    assert scores is not None
    mine = table.rows["model"].isin(["m0_s0", "m0_s1"]).to_numpy()
    without = fit_losses(table.take(~mine))
    assert without is not None
    said, uncalibrated = (part[0] for part in without.fitted.predict(table.rows.loc[mine]))
    calibration = scores.evidence.calibration
    assert calibration.scores.max() * calibration.scale[0] == pytest.approx((odd["m0_s0"] - said) / uncalibrated)
    few = family_table(FAMILY[:4])
    assert fit_losses(few) is None


def test_the_luck_of_a_trained_model_is_not_taken_for_its_shape():
    lucky = FAMILY[len(FAMILY) // 2]
    layers, width, heads = lucky.num_hidden_layers, lucky.hidden_size, lucky.num_attention_heads
    ratio = lucky.intermediate_size / width
    only = Limits(layers=(layers, layers), hidden_size=(width, width), heads=(heads, heads), mlp_ratio=(ratio, ratio))
    predictor = Predictor().fit_table(family_table(lucky=(lucky,)))
    row = design(predictor, only, minimize="max ratio").table.to_dict("records")[0]
    assert row["distance"] == 0
    assert math.log(row["nearest_objective"]) == pytest.approx(largest(lucky) - LUCK, abs=0.02)
    assert math.log(row["objective"]) == pytest.approx(largest(lucky), abs=0.2)
    assert row["nearest_loss"] == pytest.approx(loss(lucky), abs=0.02)


def test_limits_are_kept(predictor):
    everything = design(predictor, minimize="max ratio")
    limits = Limits(parameters=(4e4, 9e4), layers=(2, 3), head_size=(16, 16), mlp_ratio=(2, 4))
    table = design(predictor, limits, minimize="max ratio").table
    assert len(table)
    for row in table.to_dict("records"):
        assert 4e4 <= row["parameters"] <= 9e4
        assert row["num_hidden_layers"] in (2, 3)
        assert row["head_size"] == 16
        assert 2 <= row["mlp_ratio"] <= 4
    assert everything.table["parameters"].to_numpy().min() < 4e4
    ceiling = float(np.median(everything.table["objective_upper"].to_numpy()))
    low = design(predictor, Limits(below=ceiling), minimize="max ratio").table
    assert (low["objective_upper"].to_numpy() < ceiling).all()
    assert 0 < len(low) < len(everything.table)
    learned = float(np.median(everything.table["loss"].to_numpy()))
    good = design(predictor, Limits(max_loss=learned), minimize="max ratio").table
    assert (good["loss"].to_numpy() <= learned).all()
    assert 0 < len(good) < len(everything.table)
    between = design(predictor, Limits(hidden_size=(33, 47), width_multiple=8), minimize="max ratio")
    assert set(between.table["hidden_size"]) == {40}


def test_heads_suit_rotary_embeddings(predictor):
    """A quarter of 12 features is 3, which are no pairs."""
    found = design(predictor, Limits(heads=(4, 4)), minimize="max ratio")
    assert {a.hidden_size for a in found.architectures} <= {32, 64}
    with pytest.raises(UsageError, match=r"ruled out by rotary share 0\.25"):
        design(predictor, Limits(heads=(4, 4), hidden_size=(48, 48)), minimize="max ratio")


@pytest.mark.parametrize(
    ("limits", "at", "said"),
    [
        (Limits(layers=(2, 6)), None, r"layers 2\.\.6, where the data have 2\.\.4"),
        (Limits(layers=(1, None)), None, r"layers 1\.\.4, where the data have 2\.\.4"),
        (Limits(hidden_size=(128, None)), None, "hidden size 128, where the data have 32..64"),
        (Limits(heads=(None, 16)), None, r"heads 2\.\.16, where the data have 2\.\.8"),
        (Limits(head_size=(4, 8)), None, r"head size 4\.\.8, where the data have 8\.\.16"),
        (Limits(mlp_ratio=(2, 4.5)), None, r"MLP ratio 2\.\.4\.5, where the data have 1\.\.4"),
        (None, 1001, "step 1,001 is after the last one, 1,000"),
    ],
)
def test_what_lies_outside_the_data_is_refused(predictor, limits, at, said):
    with pytest.raises(UsageError, match=f"{said}.*--extrapolate"):
        design(predictor, limits, minimize="max ratio", at=at)


def test_extrapolation_says_so_and_is_wider(predictor):
    within = design(predictor, Limits(layers=(4, 4)), minimize="max ratio", at=LAST)
    assert set(within.table["outside"]) == {""}
    deep = design(predictor, Limits(layers=(16, 16)), minimize="max ratio", at=LAST, extrapolate=True)
    assert deep.table["outside"].str.contains("layers is 16, outside 2..4").all()
    late = design(predictor, Limits(layers=(4, 4)), minimize="max ratio", at=8 * LAST, extrapolate=True)
    assert late.table["outside"].str.contains("step 8,000 is after the last one, 1,000").all()
    assert np.isnan(late.table["nearest_objective"].to_numpy()).all()
    assert "Nothing was measured after the end" in " ".join(late.notes)

    def width(table):
        return np.log(table["objective_upper"] / table["objective_lower"]).mean()

    assert width(deep.table) > width(within.table)
    assert width(late.table) > width(within.table)
    thin = design(predictor, Limits(head_size=(32, 32), heads=(1, 2)), minimize="max ratio", extrapolate=True)
    assert thin.table["outside"].str.contains("head size is 32, outside 8..16").all()
    with pytest.raises(UsageError, match="nothing above 1,000 is searched"):
        design(predictor, Limits(layers=(2, 1e9)), minimize="max ratio", extrapolate=True)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(parameters=(1, 10)), r"of \d+ shapes, \d+ are ruled out by parameters 1\.\.10 \(the shapes have"),
        (Limits(max_loss=1), r"ruled out by max loss 1 \(the lowest predicted is 3\.8"),
        (Limits(below=2), r"ruled out by below 2 \(the lowest upper end of a max ratio is 1"),
        (Limits(hidden_size=(33, 47)), r"no hidden size in 33\.\.47 is a multiple of 16"),
        (Limits(mlp_ratio=(2.5, 2.9)), r"MLP ratio 2\.5\.\.2\.9 holds no whole number"),
        (Limits(layers=(2.2, 2.8)), "no whole number of layers"),
        (Limits(heads=(7, 7)), "shared evenly among heads 7"),
    ],
)
def test_no_design_at_all_says_why(predictor, limits, said):
    with pytest.raises(UsageError, match=said):
        design(predictor, limits, minimize="max ratio")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"minimize": "largest"}, "no objective 'largest'; there are 'max ratio', 'final ratio', 'peak step'"),
        ({}, "either minimize or maximize"),
        ({"minimize": "max ratio", "maximize": "peak step"}, "either minimize or maximize"),
        ({"minimize": "final ratio", "at": 10}, "a step goes with 'max ratio'"),
        ({"minimize": "max ratio", "at": -1}, "steps count from 0"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(predictor, wanted, said):
    with pytest.raises(UsageError, match=said):
        design(predictor, **wanted)


@pytest.mark.parametrize("wrong", [{"layers": (0, 3)}, {"parameters": (9, 1)}, {"below": -1.0}, {"max_loss": math.nan}])
def test_limits_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Limits(**wrong)


def test_without_losses_designs_are_weighed_against_their_parameters():
    predictor = Predictor("ridge").fit_table(family_table(losses=False))
    designs = design(predictor, maximize="max ratio")
    assert designs.against == "parameters"
    assert "number of parameters instead" in " ".join(designs.notes)
    assert set(designs.evidence) == {"objective"}
    assert np.isnan(designs.table[["loss", "loss_lower", "loss_upper", "nearest_loss"]].to_numpy()).all()
    assert len(designs.table) > 1
    assert (np.diff(designs.table["objective"]) < 0).all()
    assert (np.diff(designs.table["parameters"]) < 0).all()
    with pytest.raises(UsageError, match="too few held-out losses"):
        design(predictor, Limits(max_loss=4), minimize="max ratio")


@pytest.mark.parametrize("count", [1, 3])
def test_a_handful_of_architectures_is_answered_with_a_caution(count, capsys):
    predictor = Predictor().fit_table(family_table(FAMILY[:count], seeds=2))
    designs = design(predictor, minimize="final ratio")
    assert designs.notes[0] == predictor.caution()
    assert f"The data hold {count} architecture" in designs.notes[0]
    assert np.isfinite(designs.table["objective_upper"].to_numpy()).all()
    print_designs(designs)
    assert f"The data hold {count} architecture" in capsys.readouterr().out


def test_designs_that_cannot_be_told_apart_are_said_to_be(predictor):
    told = " ".join(design(predictor, minimize="max ratio").notes)
    assert "all overlap" not in told
    noisy = Predictor("ridge").fit_table(family_table(noise=1.0))
    vague = design(noisy, minimize="max ratio")
    assert len(vague.table) > 1
    assert "intervals of the max ratio all overlap" in " ".join(vague.notes)


def test_what_the_predictor_does_not_know_is_said():
    """Ratios drawn from nowhere have no law to learn."""
    table = family_table()
    rng = np.random.default_rng(4)
    chance = np.repeat(rng.standard_normal(len(FAMILY)), [a.num_hidden_layers for a in FAMILY])
    drawn = table_of(table.subjects, 2 + 0 * table.curves + chance[:, np.newaxis], table.positions, table.losses, {})
    designs = design(Predictor().fit_table(drawn), minimize="max ratio")
    assert designs.evidence["objective"].r2 <= 0
    assert "the order of the designs by it is not to be believed" in " ".join(designs.notes)


def test_what_varies_besides_is_as_most_models_have_it():
    mixed = [replace(a, vocab_size=512) if i % 3 == 0 else a for i, a in enumerate(FAMILY)]
    designs = design(Predictor("ridge").fit_table(family_table(mixed)), minimize="max ratio")
    assert {a.vocab_size for a in designs.architectures} == {256}
    assert "vocab_size varies among the models; the designs have 256." in designs.notes


def test_too_many_shapes_are_thinned_evenly():
    shapes = [shape(layers, 128, heads, ratio) for layers in range(10, 40) for heads in (1, 2, 4, 8)
              for ratio in range(1, 41)]  # fmt: skip
    kept = _thinned(shapes)
    assert len(kept) == len(set(kept))
    assert sum(a.num_hidden_layers for a in kept) == pytest.approx(50_000, rel=0.02)
    for values in ("num_hidden_layers", "num_attention_heads", "intermediate_size"):
        counts = pd.Series([getattr(a, values) for a in kept]).value_counts()
        assert counts.min() > 0.5 * counts.mean()
        assert len(counts) == len({getattr(a, values) for a in shapes})
    assert _thinned(kept) == kept


@pytest.mark.parametrize(
    ("text", "range_"),
    [
        (None, (None, None)),
        ("2..8", (2, 8)),
        ("200k..2M", (2e5, 2e6)),
        ("1.5B", (1.5e9, 1.5e9)),
        ("..2m", (None, 2e6)),
        ("64..", (64, None)),
        (" 1.5 .. 4 ", (1.5, 4)),
    ],
)
def test_ranges(text, range_):
    assert parse_range(text, "--params") == range_


@pytest.mark.parametrize(
    "text", ["", "..", "a..b", "8..2", "1..2..3", "1...3", "-2..3", "2-8", "1e", "2kk", "nan", "²"]
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(UsageError, match="--layers"):
        parse_range(text, "--layers")


@given(st.integers(1, 999), st.integers(1, 999), st.sampled_from(["", "k", "K", "M", "b"]))
def test_a_range_reads_back(a, b, suffix):
    size = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}[suffix.lower()]
    low, high = sorted((a, b))
    assert parse_range(f"{low}{suffix}..{high}{suffix}", "--x") == (low * size, high * size)


@given(st.text(alphabet="0123456789.kMB- ", max_size=12))
def test_any_text_is_a_range_or_refused(text):
    try:
        low, high = parse_range(text, "--x")
    except UsageError:
        return
    assert (low, high) != (None, None)
    assert low is None or high is None or low <= high


def test_the_command_prints_and_writes_the_designs(predictor, tmp_path):
    predictor.save(tmp_path / "p.json")
    app = typer.Typer()
    app.command()(designing.COMMAND.function)
    out = tmp_path / "designs.csv"
    arguments = ["--predictor", str(tmp_path / "p.json"), "--minimize", "max ratio", "--params", "..200k"]
    result = CliRunner().invoke(app, [*arguments, "--limit", "2", "--out", str(out)])
    assert result.exit_code == 0, result.output
    written = pd.read_csv(out)
    expected = design(predictor, Limits(parameters=(None, 2e5)), minimize="max ratio")
    assert written["objective"].to_numpy() == pytest.approx(expected.table["objective"].to_numpy(), rel=1e-3)
    assert list(written["nearest"]) == list(expected.table["nearest"])
    lines = result.output.splitlines()
    assert f"lowest max ratio against held-out loss: {len(written)} of" in lines[0]
    assert lines[0].endswith("2 shown")
    first, last = (expected.table.iloc[i] for i in (0, -1))
    assert lines[2].split()[:4] == ["1", *(str(first[f]) for f in list(expected.table)[:3])]
    assert lines[3].split()[:4] == [str(len(written)), *(str(last[f]) for f in list(expected.table)[:3])]
    assert f"R2 {expected.evidence['loss'].r2:.2f}" in result.output
    refused = CliRunner().invoke(app, [*arguments, "--layers", "2..99"])
    assert isinstance(refused.exception, UsageError)
