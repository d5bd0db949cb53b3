"""The predictor on families whose law is known, and what it says of models that it has not seen."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import madyn
from madyn.architecture import Architecture
from madyn.dataset import layout
from madyn.dataset.training import TrainingRecord, write_record
from madyn.errors import ArchitectureError, DatasetError, UsageError
from madyn.prediction import Predictor, Training
from madyn.prediction.approaches import APPROACHES, approach_named
from madyn.prediction.conformal import Calibration
from madyn.prediction.derived import has_peak, quantity
from madyn.prediction.evaluation import leave_out, protocols_of
from madyn.prediction.inputs import Subject, depths
from madyn.prediction.principal_components import Coordinates
from madyn.prediction.scoring import CEILING, LEFT_OUT, Predictions, ceiling, ceiling_interval, score, score_all
from madyn.prediction.table import curve_table, fold_numbers, nearest_models, positions, rows_of, table_of
from tiny import write_family

STEPS = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 250, 500, 750, 1000])
SEED_NOISE, LAYER_NOISE = 0.1, 0.02


def shape(layers, hidden, heads, mlp=4, **other):
    fields = {"vocab_size": 300, "max_position_embeddings": 32, **other}
    return Architecture(
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=mlp * hidden,
        **fields,
    )


def truth(subject, at):
    """The log ratio of an architecture's layers, (L, P): grows with width and depth and, in layer 0, falls again."""
    width, depth = np.log2(subject.architecture.hidden_size / 64), depths(subject.architecture.num_hidden_layers)
    slower = np.log2(subject.training.steps / 1000)
    curve = 1.5 + (1.2 + 0.3 * width + 0.15 * slower + 0.2 * depth[:, None]) * at
    return np.where(depth[:, None] == 0, curve - 3 * np.maximum(at - 0.6, 0), curve)


def draw_family(count=24, seeds=2, seed=0, lengths=(1000,)):
    rng = np.random.default_rng(seed)
    at = positions(STEPS, STEPS[-1])
    subjects, curves = {}, []
    for number in range(count):
        layers, hidden = int(rng.integers(2, 7)), 16 * 2 ** int(rng.integers(0, 4))
        heads, mlp = 2 ** int(rng.integers(0, 4)), int(rng.integers(1, 9))
        one = Subject(shape(layers, hidden, heads, mlp), Training(steps=int(rng.choice(lengths))))
        for run in range(seeds):
            subjects[f"m{number}_s{run}"] = one
            noise = SEED_NOISE * rng.standard_normal() * at
            curves.append(truth(one, at) + noise + LAYER_NOISE * rng.standard_normal((layers, 1)))
    return table_of(subjects, np.concatenate(curves), at, {}, {})


@pytest.fixture(scope="module")
def table():
    return draw_family()


@pytest.fixture(scope="module")
def predictor(table):
    return Predictor().fit_table(table)


UNSEEN = shape(4, 48, 4, 3)


# --- what it predicts


def test_the_answer_is_labelled_and_close_to_the_law(predictor):
    guess = predictor.predict(UNSEEN, STEPS)
    assert (guess.dims, guess.name) == (("layer", "step", "quantile"), "ratio")
    assert guess.shape == (4, len(STEPS), 3)
    assert guess["quantile"].values.tolist() == [0.05, 0.5, 0.95]
    assert guess["step"].values.tolist() == STEPS.tolist()
    assert (guess.values >= 1).all()
    assert (np.diff(guess.values, axis=2) > 0).all()
    law = np.exp(truth(Subject(UNSEEN, Training(steps=1000)), positions(STEPS, 1000)))
    np.testing.assert_allclose(guess.sel(quantile=0.5), law, rtol=0.1)
    assert guess.attrs["caution"] == ""


def test_more_quantiles_lie_between(predictor):
    wide = predictor.predict(UNSEEN, [1000], quantiles=(0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98))
    assert (np.diff(wide.values, axis=2) > 0).all()
    np.testing.assert_array_equal(wide.sel(quantile=0.05), predictor.predict(UNSEEN, [1000]).sel(quantile=0.05))


def test_without_steps_it_answers_on_the_datas_grid(predictor):
    assert predictor.predict(UNSEEN)["step"].values.tolist() == STEPS.tolist()


def test_nine_in_ten_unseen_runs_lie_in_the_interval(predictor):
    inside = []
    for number in range(60):
        new = draw_family(1, 1, seed=1000 + number)
        subject = next(iter(new.subjects.values()))
        guess = predictor.predict(subject.architecture, STEPS)
        observed = np.exp(new.curves)
        inside.append(((observed >= guess.sel(quantile=0.05)) & (observed <= guess.sel(quantile=0.95))).mean())
    assert 0.85 < np.mean(inside) < 0.98


def test_quantities_of_a_run(predictor):
    found = predictor.quantities(UNSEEN)
    of = found.set_index(["layer", "quantity"])
    assert len(of) == 4 * 4
    assert of.loc[(0, "peak chance"), "value"] > 0.9
    assert of.loc[(3, "peak chance"), "value"] < 0.1
    top = truth(Subject(UNSEEN, Training(steps=1000)), positions(STEPS, 1000))[0]
    assert of.loc[(0, "peak step"), "value"] == pytest.approx(STEPS[top.argmax()], rel=0.01)
    assert of.loc[(0, "largest ratio"), "value"] == pytest.approx(np.exp(top.max()), rel=0.1)
    known = found.loc[found["quantity"].isin(["final ratio", "largest ratio"])]
    assert (known["lower"] < known["value"]).all()
    assert (known["value"] < known["upper"]).all()


def test_the_five_parameters_draw_the_predicted_curve(predictor):
    from madyn.curves.hypotheses.registry import HYPOTHESES

    found = predictor.parameters(UNSEEN)
    assert list(found) == ["layer", "beta", "tau0", "A1", "A2", "K", "r2"]
    curve = HYPOTHESES["reparam"]
    drawn = curve.values(STEPS.astype(float), found[list(curve.param_names)].to_numpy())
    middle = np.exp(predictor.log_curves([Subject(UNSEEN, predictor.training)])[0][0])
    spread = ((middle - middle.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    r2 = 1 - ((middle - drawn) ** 2).sum(axis=1) / spread
    np.testing.assert_allclose(r2, found["r2"], atol=1e-6)
    assert (found["r2"][1:] > 0.9).all()


def test_the_next_seed_of_a_trained_shape_is_a_model_like_any_other(table):
    """What one seed did is no trait of its shape: the interval of another is as wide as that of a shape unseen."""
    first = np.array([name.endswith("_s0") for name in table.rows["model"]])
    predictor = Predictor().fit_table(table.take(first))
    inside, widths = [], []
    for name in dict.fromkeys(table.rows["model"].to_numpy()[~first]):
        observed = np.exp(table.curves[(table.rows["model"] == name).to_numpy()])
        guess = predictor.predict(table.subjects[name].architecture, STEPS)
        inside.append(((observed >= guess.sel(quantile=0.05)) & (observed <= guess.sel(quantile=0.95))).mean())
        widths.append(np.log(guess.sel(quantile=0.95) / guess.sel(quantile=0.05)).mean())
    assert np.mean(inside) > 0.85
    unseen = predictor.predict(UNSEEN, STEPS)
    assert np.mean(widths) > 0.8 * float(np.log(unseen.sel(quantile=0.95) / unseen.sel(quantile=0.05)).mean())


def test_the_process_agrees_with_the_formulas_of_a_dense_one(table):
    """Mean and variance of a shape that was not trained are scikit-learn's own."""
    fitted = approach_named("gaussian_process").fit(table.averaged(), 0, None)
    rows = rows_of([Subject(UNSEEN, Training(steps=1000))])
    mean, sd = fitted.regressor.predict(fitted.inputs(rows), return_std=True)  # pyright: ignore
    curves, spread = fitted.predict(rows)
    np.testing.assert_allclose(curves, fitted.coordinates.back(mean), rtol=1e-8)  # pyright: ignore
    np.testing.assert_allclose(spread, fitted.coordinates.spread(sd), rtol=1e-6)  # pyright: ignore


# --- outside the data


def test_outside_the_data_it_is_said_in_words_and_in_width(predictor):
    def width(architecture):
        ends = np.log(predictor.predict(architecture, [1000], quantiles=(0.05, 0.95)))
        return float(ends.diff("quantile").mean())

    inside = width(shape(4, 64, 4))
    far = [shape(4, hidden, 4) for hidden in (256, 1024, 8192)]
    assert inside < width(far[0]) < width(far[1]) < width(far[2])
    said = predictor.predict(far[1], [1000]).attrs["caution"]
    assert "Outside the data" in said
    assert "hidden size is 1024, outside 16..128" in said
    assert "wider" not in predictor.caution(shape(4, 64, 4, model_type="llama"))
    assert "know nothing: model type is llama" in predictor.caution(shape(4, 64, 4, model_type="llama"))
    assert "know nothing: vocabulary is 50304, not 300" in predictor.caution(shape(4, 64, 4, vocab_size=50304))
    assert "rotary base is none" in predictor.caution(shape(4, 64, 4, rotary_emb_base=None, rotary_pct=0))


def test_after_the_end_the_value_is_held_and_the_interval_widens(predictor):
    late = predictor.predict(UNSEEN, [1000, 2000, 8000])
    np.testing.assert_allclose(late.sel(quantile=0.5, step=8000), late.sel(quantile=0.5, step=1000))
    width = np.log(late.sel(quantile=0.95) / late.sel(quantile=0.05)).values
    assert (np.diff(width, axis=1) > 0).all()


def test_quantiles_that_so_few_architectures_cannot_show_are_named(predictor):
    assert "farthest residuals" in predictor.predict(UNSEEN, [1000], quantiles=(0.001, 0.5)).attrs["caution"]
    assert predictor.predict(UNSEEN, [1000]).attrs["caution"] == ""


def test_a_short_run_has_every_step_once(predictor):
    steps = predictor.predict(UNSEEN, training=Training(steps=20))["step"].values
    assert (np.diff(steps) > 0).all()


def test_models_of_one_layer_are_no_fault():
    at = positions(STEPS, 1000)
    one, four = (Subject(shape(layers, 64, 4), Training(steps=1000)) for layers in (1, 4))
    curves = np.concatenate([truth(one, at), truth(four, at)])
    predictor = Predictor().fit_table(table_of({"a": one, "b": four}, curves, at, {}, {}))
    assert np.isfinite(predictor.predict(UNSEEN, STEPS)).all()
    with pytest.raises(DatasetError, match="single layer"):
        Predictor().fit_table(table_of({"a": one}, truth(one, at), at, {}, {}))


def test_a_feature_that_is_unknown_of_some_is_left_out_and_named():
    table = draw_family(8, 1)
    subjects = {
        m: s._replace(training=Training(1000, learning_rate=None if m == "m0_s0" else 0.001 * (1 + i)))
        for i, (m, s) in enumerate(table.subjects.items())
    }
    odd = table_of(subjects, table.curves, table.positions, {}, {})
    assert "learning rate" not in odd.features
    assert (
        "Not learned from, since it is not known of all models: learning rate" in Predictor().fit_table(odd).caution()
    )
    assert np.isfinite(leave_out(odd, ["ridge"], jobs=1)[LEFT_OUT]["ridge"].middle).all()


def test_the_length_of_training_is_learned_where_it_varies():
    family = draw_family(30, 1, seed=3, lengths=(500, 1000, 4000))
    predictor = Predictor().fit_table(family)
    short, long = (
        predictor.predict(UNSEEN, [steps], training=Training(steps=steps)).sel(quantile=0.5).values[-1, 0]
        for steps in (500, 4000)
    )
    assert np.log(long / short) == pytest.approx(0.15 * 3, abs=0.15)
    assert "training steps is 64000, outside 500..4000" in predictor.caution(UNSEEN, Training(steps=64000))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_with_few_architectures_it_answers_and_says_what_is_missing(count):
    predictor = Predictor().fit_table(draw_family(count, 1))
    guess = predictor.predict(UNSEEN, STEPS)
    assert np.isfinite(guess).all()
    assert (guess.values >= 1).all()
    assert "no honest score" in guess.attrs["caution"]
    if count > 1:
        many = Predictor().fit_table(draw_family(24, 1)).predict(UNSEEN, STEPS)
        assert (guess.sel(quantile=0.95) / guess.sel(quantile=0.05)).mean() > (
            many.sel(quantile=0.95) / many.sel(quantile=0.05)
        ).mean()


# --- requests that cannot be answered


def test_what_is_missing_or_impossible_is_named(predictor):
    with pytest.raises(
        ArchitectureError, match=r"needs num_hidden_layers \(--layers\); .* have num_hidden_layers 2, 3, 4, 5, 6"
    ):
        predictor.architecture(hidden_size=64, num_attention_heads=4, mlp_ratio=4)
    with pytest.raises(ArchitectureError, match=r"100 and 12 heads.*10 heads would do"):
        predictor.architecture(num_hidden_layers=4, hidden_size=100, num_attention_heads=12, mlp_ratio=4)
    with pytest.raises(ArchitectureError, match="unknown in an architecture: depth"):
        predictor.architecture(num_hidden_layers=4, hidden_size=64, num_attention_heads=4, mlp_ratio=4, depth=3)
    with pytest.raises(ArchitectureError, match="not both"):
        predictor.architecture(
            num_hidden_layers=4, hidden_size=64, num_attention_heads=4, mlp_ratio=2, intermediate_size=128
        )
    with pytest.raises(ArchitectureError, match="no model has"):
        predictor.predict(shape(4, 100, 12), [0])


def test_what_the_data_differ_in_must_be_known():
    table = draw_family(12, 1)
    half = {m: s.architecture for i, (m, s) in enumerate(table.subjects.items()) if i % 2}
    subjects = {
        m: s._replace(architecture=replace(s.architecture, rotary_emb_base=500.0)) if m in half else s
        for m, s in table.subjects.items()
    }
    predictor = Predictor().fit_table(table_of(subjects, table.curves, table.positions, {}, {}))
    with pytest.raises(ArchitectureError, match="rotary base is not known"):
        predictor.predict(shape(4, 64, 4, rotary_emb_base=None, rotary_pct=0), [0])


def test_a_value_that_one_architecture_has_is_no_fault():
    table = draw_family(8, 1)
    subjects = {
        m: s._replace(architecture=replace(s.architecture, num_attention_heads=8 if m == "m3_s0" else 4))
        for m, s in table.subjects.items()
    }
    predictor = Predictor().fit_table(table_of(subjects, table.curves, table.positions, {}, {}))
    assert np.isfinite(predictor.predict(shape(4, 64, 8), STEPS)).all()


def test_what_all_have_in_common_need_not_be_given(predictor):
    whole = predictor.architecture(num_hidden_layers=4, hidden_size=64, num_attention_heads=4, mlp_ratio=2)
    assert whole == shape(4, 64, 4, 2)


@pytest.mark.parametrize("steps", [[], [-1], [np.nan], "many", [[1, 2]]])
def test_steps_that_cannot_be(predictor, steps):
    with pytest.raises(UsageError, match=r"^steps (are|have)"):
        predictor.predict(UNSEEN, steps)


@pytest.mark.parametrize("quantiles", [[], [0.5, 0.1], [0, 0.5], [0.5, 0.5], ["a"]])
def test_quantiles_that_cannot_be(predictor, quantiles):
    with pytest.raises(UsageError, match="quantiles are"):
        predictor.predict(UNSEEN, [0], quantiles=quantiles)


def test_names_that_there_are_not(predictor):
    with pytest.raises(UsageError, match="no approach 'oracle'"):
        Predictor("oracle")
    with pytest.raises(UsageError, match="no quantity 'speed'"):
        quantity("speed")
    with pytest.raises(UsageError, match="not fitted"):
        Predictor().predict(UNSEEN, [0])
    with pytest.raises(UsageError, match="3 is not a path"):
        Predictor().fit(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="positive"):
        Training(steps=0)


# --- files


def test_a_saved_predictor_says_the_same(predictor, tmp_path):
    predictor.save(tmp_path / "p.json")
    again = Predictor.load(tmp_path / "p.json")
    for ask in (UNSEEN, shape(5, 1024, 8)):
        expected = predictor.predict(ask, STEPS, quantiles=(0.01, 0.5, 0.99))
        found = again.predict(ask, STEPS, quantiles=(0.01, 0.5, 0.99))
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert found.attrs == expected.attrs
    assert again.quantities(UNSEEN).equals(predictor.quantities(UNSEEN)) or np.allclose(
        again.quantities(UNSEEN)["value"], predictor.quantities(UNSEEN)["value"], equal_nan=True
    )


def test_files_that_are_no_predictor_are_refused(predictor, tmp_path):
    predictor.save(tmp_path / "p.json")
    whole = json.loads((tmp_path / "p.json").read_text())
    assert set(whole) == {  # the names that files have always had, so that those of before are read
        "madyn_predictor", "version", "approach", "seed", "settings", "positions", "models", "losses", "left_out",
        "curves", "predicted", "claimed",
    }  # fmt: skip
    damages = [
        {"approach": "oracle"}, {"curves": whole["curves"][1:]}, {"positions": "x"}, {"models": []},
        {"claimed": [[0.0] * len(r) for r in whole["claimed"]]}, {"settings": {"theta": [1.0]}}, {"seed": None},
        {"curves": [[float("nan")] * len(r) for r in whole["curves"]]},
    ]  # fmt: skip
    for damage in damages:
        (tmp_path / "d.json").write_text(json.dumps({**whole, **damage}))
        with pytest.raises(madyn.MadynError):
            Predictor.load(tmp_path / "d.json")
    for content in ("{}", '{"madyn_predictor": 99}', '{"madyn_predictor": [1]}'):
        (tmp_path / "d.json").write_text(content)
        with pytest.raises(DatasetError, match="not a predictor"):
            Predictor.load(tmp_path / "d.json")
    (tmp_path / "d.json").write_text("[]")
    with pytest.raises(DatasetError, match="an object, found a list of 0"):
        Predictor.load(tmp_path / "d.json")


# --- datasets


def test_a_dataset_is_read_and_what_cannot_be_used_is_named(tmp_path):
    family = write_family(tmp_path, count=8, repeated=2, locations=False)
    first, second = family.models[:2]
    layout.statistics_path(tmp_path, first, 100).unlink()
    losses = {0: {"train": None, "held_out": 5.0}}
    plan = {"recipe": {"steps": 400, "learning_rate": 0.01, "batch_size": 8, "length": 64}}
    write_record(tmp_path, second, TrainingRecord(plan=plan, parameters=1, losses=losses))
    table = curve_table(madyn.open_dataset(tmp_path))
    assert first in table.subjects  # it has no record: its last step is taken to be its end
    assert table.subjects[first].training.steps == 90
    assert table.left_out == {second: "measured to step 100 of 400"}
    assert table.architectures == 8
    assert len(table.averaged().rows) < len(table.rows)
    third = family.models[2]
    np.testing.assert_allclose(
        table.curves[(table.rows["model"] == third).to_numpy()],
        np.log(family.trajectories(third, "ratio").transpose("layer", "step").values),
    )
    said = Predictor().fit(tmp_path).caution()
    assert f"Left out is 1 model: {second} (measured to step 100 of 400)." in said


def test_a_model_measured_seldom_is_left_out(tmp_path):
    family = write_family(tmp_path, count=6, repeated=0, locations=False)
    for step in family.steps(family.models[0])[:-2]:
        layout.statistics_path(tmp_path, family.models[0], step).unlink()
    table = curve_table(madyn.open_dataset(tmp_path))
    assert "gaps in which nothing is known" in table.left_out[family.models[0]]


def test_a_dataset_with_nothing_to_learn_from(tmp_path):
    family = write_family(tmp_path, count=1, repeated=0, locations=False)
    plan = {"recipe": {"steps": 400, "learning_rate": 0.01, "batch_size": 8, "length": 64}}
    write_record(tmp_path, family.models[0], TrainingRecord(plan=plan, parameters=1, losses={}))
    with pytest.raises(DatasetError, match="measured to step 100 of 400"):
        Predictor().fit(tmp_path)


# --- parts


@given(st.integers(1, 30), st.integers(1, 12))
def test_folds_keep_architectures_whole(groups, most):
    rows = np.repeat(np.arange(groups), 3)
    numbers = fold_numbers(rows, most)
    assert len(np.unique(numbers)) == min(groups, most)
    for group in range(groups):
        assert len(np.unique(numbers[rows == group])) == 1


def test_components_give_curves_back():
    rng = np.random.default_rng(0)
    curves = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 20)) + np.linspace(0, 1, 20)
    c = Coordinates.of(curves)
    np.testing.assert_allclose(c.back(c.forward(curves)), curves, atol=0.5)
    assert c.forward(curves).std(axis=0) == pytest.approx(1)
    sd = np.full((1, len(c.scale)), 0.3)
    draws = c.back(0.3 * rng.standard_normal((20000, len(c.scale)))).std(axis=0)
    np.testing.assert_allclose(c.spread(sd)[0], np.sqrt(draws**2 + c.rest), rtol=0.05)
    assert Coordinates.of(np.ones((3, 5))).back(np.zeros((1, 2))).tolist() == [[1.0] * 5]


@settings(deadline=None)
@given(st.integers(20, 60), st.integers(1, 4))
def test_intervals_cover_new_groups(count, layers):
    """Of architectures that share their own chance, and whose uncertainties are wrong by a factor."""
    rng = np.random.default_rng(count)

    def groups(n):
        return np.repeat(rng.standard_normal(n), layers)[:, None] + 0.1 * rng.standard_normal((n * layers, 5))

    calibration = Calibration.of(groups(count), np.full((count * layers, 5), 3.0), np.repeat(np.arange(count), layers))
    low, high = (calibration.quantile(p) * calibration.scale * 3.0 for p in (0.05, 0.95))
    new = groups(4000)
    assert ((new >= low) & (new <= high)).mean() > 0.8
    assert calibration.quantile(0.02) <= calibration.quantile(0.05) < calibration.quantile(0.5)
    assert calibration.is_proven == (count > 19)


def test_an_architecture_counts_once_however_deep():
    residuals = np.concatenate([np.zeros(98), [1.0, 1.0]])[:, None]
    groups = np.concatenate([np.zeros(98, int), [1, 2]])
    calibration = Calibration.of(residuals, np.ones((100, 1)), groups)
    assert calibration.scale[0] == pytest.approx(np.sqrt(2 / 3))
    assert calibration.quantile(0.5) == pytest.approx(1 / np.sqrt(2 / 3))


def test_peaks_are_told_from_chance():
    curves = np.log([[1, 5, 4, 3.0], [1, 5, 4.9, 4.8], [1, 2, 3, 4.0]])
    assert has_peak(curves).tolist() == [True, False, False]
    at = positions([0, 10, 100, 1000], 1000)
    assert np.expm1(quantity("peak step")(curves, at, 1000))[0] == pytest.approx(10)
    assert np.exp(quantity("ratio at 100")(curves, at, 1000)) == pytest.approx([4, 4.9, 3])
    assert np.exp(quantity("ratio at 9000")(curves, at, 1000)) == pytest.approx([3, 4.8, 4])


def test_the_nearest_models_come_first(table):
    asked = table.subjects["m4_s0"]
    near = nearest_models(table, asked)
    assert list(near)[:2] == ["m4_s0", "m4_s1"]
    assert list(near.values())[:2] == [0, 0]
    assert sorted(near.values()) == list(near.values())


# --- approaches, side by side


def test_the_nearest_architecture_lends_its_curve(table):
    one = table.averaged()
    fitted = approach_named("nearest").fit(one, 0, None)
    found, _ = fitted.predict(one.rows)
    np.testing.assert_allclose(found, one.curves)
    mean, _ = approach_named("mean_curve").fit(one, 0, None).predict(one.rows)
    first = (one.rows["layer"] == 0).to_numpy()
    np.testing.assert_allclose(mean[first], np.tile(one.curves[first].mean(axis=0), (first.sum(), 1)))


@pytest.mark.parametrize("name", [name for name in APPROACHES if name not in ("mean_curve", "nearest")])
def test_every_approach_beats_the_baselines_on_a_smooth_law(name):
    table = draw_family(16, 1, seed=2)
    found = leave_out(table, [name, "mean_curve", "nearest"], jobs=1)
    scores = score_all(table, found).set_index(["protocol", "approach"])
    mine, others = scores.loc[(LEFT_OUT, name)], scores.loc[LEFT_OUT].loc[["mean_curve", "nearest"]]
    assert mine["r2"] > others["r2"].max()
    assert mine["median_error"] < others["median_error"].min()
    assert 0.8 < mine["coverage"] <= 1
    assert mine["width"] < others["width"].min()


def test_scores_are_those_of_models_left_out(table):
    """A model whose runs are unlike all others is missed by as much as it differs: nothing of it was seen."""
    odd = table.groups == 5
    changed = replace(table, curves=table.curves + 2.0 * odd[:, np.newaxis])
    found = leave_out(changed, ["gaussian_process"], jobs=1)[LEFT_OUT]["gaussian_process"]
    assert (found.middle[odd] - changed.curves[odd]).mean() == pytest.approx(-2, abs=0.4)


def test_the_ceiling_is_what_the_law_itself_would_score(table):
    scores = score_all(table, leave_out(table, ["gaussian_process", "nearest"], jobs=1))
    scores = scores.set_index(["protocol", "approach"])
    rows = np.ones(len(table.rows), bool)
    law = np.concatenate([truth(subject, table.positions) for subject in table.subjects.values()])
    known = leave_out(table, ["nearest"], jobs=1)[LEFT_OUT]["nearest"]
    known.middle[:] = law
    best = score(table, rows, known)
    ceiling = scores.loc[(LEFT_OUT, CEILING)]
    for name in ("r2", "final_r2", "r2_means"):
        assert ceiling[name] == pytest.approx(best[name], abs=0.02)
    assert scores.loc[(LEFT_OUT, "nearest"), "way"] == 0
    assert ceiling["way"] == 1
    assert 0.5 < scores.loc[(LEFT_OUT, "gaussian_process"), "way"] < 1.02


def test_the_ceiling_holds_where_few_architectures_have_several_seeds():
    """A run without a second seed keeps all of its chance in the means, and the law that made it cannot do better."""
    family = draw_family(300, 3, seed=7)
    single = (family.groups % 5 != 0) & np.array([not name.endswith("_s0") for name in family.rows["model"]])
    table = family.take(~single)
    law = np.concatenate([truth(subject, table.positions) for subject in table.subjects.values()])
    nothing = np.full(law.shape, np.nan)
    rows = np.ones(len(law), bool)
    best = score(table, rows, Predictions(law, nothing, nothing, np.full(len(law), np.nan)))
    found = ceiling(table, rows)
    for name in ("r2", "r2_means", "final_r2_means", "largest_r2_means"):
        assert found[name] == pytest.approx(best[name], abs=0.03)
    low, high = ceiling_interval(table)
    assert low < best["r2"] < high


def test_regions_are_the_highest_levels_and_are_not_seen(table):
    protocols = protocols_of(table)
    assert list(protocols) == [
        LEFT_OUT, "hidden size 128 left out", "layers 6 left out", "MLP ratio 8 left out"
    ]  # fmt: skip
    for mask in protocols["hidden size 128 left out"]:
        assert (table.rows.loc[mask, "hidden size"] == 7).all()
        assert (table.rows.loc[~mask, "hidden size"] < 7).all()
    together = np.sum(protocols[LEFT_OUT], axis=0)
    assert (together == 1).all()


def test_evaluation_of_a_dataset_from_the_command_line(tmp_path, run):
    family = write_family(tmp_path / "d", count=12, repeated=4, locations=False)
    for model in family.models:
        (layout.training_path(family.path, model)).unlink()
    madyn.fit_dataset(family.path, hypotheses=["reparam"], quantities=["ratio"])
    code, out, _ = run(
        "evaluate",
        tmp_path / "d",
        "--approach",
        "ridge",
        "--approach",
        "nearest",
        "--approach",
        "table_3",
        "--jobs",
        "2",
        "--out",
        tmp_path,
        "-v",
    )
    assert code == 0
    for words in (
        LEFT_OUT,
        "ridge, quadratic",
        "ceiling (seeds)",
        "Table 3's regressors",
        "MAE of the five parameters",
    ):
        assert words in out
    lines = (tmp_path / "curves.csv").read_text().splitlines()
    assert len(lines) > 8
    assert (tmp_path / "parameters.csv").exists()


def test_few_architectures_have_no_score(tmp_path, run):
    write_family(tmp_path, count=3, repeated=0, locations=False)
    code, _, err = run("evaluate", tmp_path)
    assert (code, "needs 5 architectures" in err) == (1, True)
