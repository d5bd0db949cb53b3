"""The predictor on synthetic parameter tables, whose law is known: smooth functions of shape and depth, plus noise."""

import subprocess
import sys
import warnings
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madyn.architecture import Architecture
from madyn.errors import DatasetError, MissingDependencyError, UsageError
from madyn.prediction.published import (
    FEATURES,
    RANDOM_LAYERS,
    REGRESSORS,
    TARGETS,
    WHOLE_MODELS,
    ParameterPredictor,
    caution,
    depth_dependence,
    feature_table,
    features_of,
    importances,
    partial_dependence,
    residuals,
    score_table,
    scores,
    shap_values,
)
from madyn.prediction.published.explanation import of_depth
from madyn.prediction.published.features import architecture_groups
from madyn.prediction.published.protocols import out_of_fold
from madyn.prediction.published.regressors import _squares_out_of_fold, fit_regressor, training_rows
from madyn.prediction.published.targets import SignedLog1p, YeoJohnson
from madyn.suites import PYTHIA

STEPS = [0, 1, 10, 100, 1000, 10000, 143000]


def shape(layers, hidden, heads, mlp=4, **other):
    return Architecture(
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=mlp * hidden,
        vocab_size=1024,
        max_position_embeddings=128,
        **other,
    )


SMALL = {
    f"small_{i}": shape(*s)
    for i, s in enumerate(
        [(3, 32, 2, 4), (4, 32, 4, 2), (2, 64, 4, 4), (4, 64, 2, 8), (3, 48, 4, 4), (6, 32, 4, 4), (3, 64, 8, 4)]
    )
}


def law(architecture):
    """The true parameters of each layer: smooth in depth and width, both signs, magnitudes far apart."""
    x = np.arange(architecture.num_hidden_layers) / architecture.num_hidden_layers
    width = np.log(architecture.hidden_size)
    return pd.DataFrame(
        {
            "param_A": np.expm1(width * (1 - 0.5 * x)),
            "param_λ": -np.expm1(2 + 4 * x**2),
            "param_γ": 1e-5 * (3 - 2 * x),
            "param_t0": np.expm1(5 + 2 * x),
            "param_K": 50 + 30 * width * x,
        }
    )


def parameter_table(architectures, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    parts = []
    for model, a in architectures.items():
        part = law(a)
        part *= 1 + noise * rng.normal(size=part.shape)
        fields = {k: v for k, v in a.to_dict().items() if k != "model_type"}
        part.insert(0, "model", model)
        parts.append(part.assign(layer_index=np.arange(len(part)), layer_index_norm=0.0, r2=0.98, **fields))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def small():
    return parameter_table(SMALL, noise=0.05)


@pytest.fixture(scope="module")
def forests(small):
    """Trees only."""
    return ParameterPredictor(regressors=["xgboost"]).fit(small)


@pytest.fixture(scope="module")
def linear(small):
    return ParameterPredictor(regressors=["ridge", "lasso"]).fit(small)


# --- features and targets


def test_features_match_hand_values():
    row = feature_table(shape(8, 64, 4, mlp=2, rotary_pct=0.5)).loc[2]
    expected = {
        "l/L": 0.25, "(l/L)^2": 0.0625, "(l/L)^3": 0.015625, "sqrt(l/L)": 0.5, "H/d": 0.0625, "d_ff/d": 2, "d/L": 8,
        "H/L": 0.5, "log d": np.log(64), "l*L": 16, "hidden size": 64, "layers": 8, "heads": 4, "MLP width": 128,
        "rotary base": 10000, "rotary share": 0.5,
    }  # fmt: skip
    assert row.to_dict() == pytest.approx(expected)


def test_features_of_a_table_equal_those_of_its_architectures(small):
    joined = pd.concat([feature_table(a) for a in SMALL.values()], ignore_index=True)
    pd.testing.assert_frame_equal(features_of(small), joined)
    assert list(joined) == list(FEATURES)


def test_a_missing_column_or_a_word_in_it_is_named(small):
    with pytest.raises(DatasetError, match="hidden_size"):
        features_of(small.drop(columns="hidden_size"))
    words = small.astype({"num_attention_heads": object})
    words.loc[3, "num_attention_heads"] = "four"
    with pytest.raises(DatasetError, match=r"num_attention_heads.*'four'.*row 4"):
        features_of(words)
    with pytest.raises(DatasetError, match="param_λ"):
        scores(small.drop(columns="param_λ"), protocols=[RANDOM_LAYERS])


def test_models_of_one_shape_share_a_group_whatever_no_feature_reads():
    twin = shape(3, 32, 2)
    other_vocabulary = Architecture(**{**twin.to_dict(), "vocab_size": 99})
    no_rotary = Architecture(**{**twin.to_dict(), "rotary_pct": 0.0, "rotary_emb_base": None})
    table = parameter_table({"a": twin, "b": shape(3, 32, 4), "c": other_vocabulary, "d": no_rotary, "e": no_rotary})
    by_model = architecture_groups(table).groupby(table["model"]).unique().map(list).to_dict()
    assert by_model == {"a": [0], "b": [1], "c": [0], "d": [2], "e": [2]}


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=20))
def test_signed_log1p_inverts_and_keeps_order(values):
    transform = SignedLog1p()
    np.testing.assert_allclose(transform.inverse(transform.forward(values)), values, rtol=1e-9)
    assert np.array_equal(np.argsort(transform.forward(sorted(values)), kind="stable"), np.arange(len(values)))


@pytest.mark.parametrize("spread", ["normal", "lognormal", "negative", "constant"])
def test_yeo_johnson_inverts_what_it_was_fitted_to(spread):
    x = np.random.default_rng(1).normal(size=60)
    values = {"normal": x, "lognormal": np.exp(2 * x), "negative": -np.exp(x), "constant": np.full(60, 7.0)}[spread]
    transform = YeoJohnson().fit(values)
    np.testing.assert_allclose(transform.inverse(transform.forward(values)), values, rtol=1e-6)


# --- regressors


def test_hyperparameters_are_those_with_the_least_error_out_of_fold(small):
    rows = training_rows("A", features_of(small), small["param_A"])
    fitted = fit_regressor("ridge", rows)
    squares = {a: _squares_out_of_fold(REGRESSORS["ridge"], {"alpha": a}, rows) for a in (0.1, 3.0, 100.0)}
    assert squares[fitted.hyperparameters["alpha"]] == min(squares.values())
    assert fitted.cv_r2 == pytest.approx(1 - min(squares.values()) / np.square(rows.z).sum())


def test_inner_folds_keep_architectures_whole(small):
    groups = architecture_groups(small).to_numpy()
    rows = training_rows("A", features_of(small), small["param_A"], groups=groups)
    assert len(rows.folds) == 5
    assert all(not set(groups[train]) & set(groups[test]) for train, test in rows.folds)


@pytest.mark.parametrize("target", list(TARGETS))
def test_a_linear_regressor_far_outside_stays_finite_and_within_reach(small, target):
    values = small[TARGETS[target].column]
    fitted = fit_regressor("ridge", training_rows(target, features_of(small), values))
    predicted = fitted.predict(feature_table(shape(60, 65536, 64)))
    breadth = values.max() - values.min()
    assert np.isfinite(predicted).all()
    assert predicted.min() >= values.min() - 1.001 * breadth
    assert predicted.max() <= values.max() + 1.001 * breadth


def test_unknown_names_are_refused(small, linear):
    with pytest.raises(UsageError, match=r"svm.*ridge"):
        scores(small, regressors=["svm"], protocols=[RANDOM_LAYERS])
    with pytest.raises(UsageError, match="protocol"):
        out_of_fold(small, "by luck", regressors=["ridge"])
    with pytest.raises(UsageError, match=r"'B'.*gamma"):
        importances(linear, "B")
    with pytest.raises(UsageError, match=r"depth.*l/L"):
        partial_dependence(linear, "A", "depth")


def test_without_scikit_learn_the_extra_is_named(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "madyn\[predict\]"'):
        scores(small, protocols=[RANDOM_LAYERS])


def test_without_xgboost_it_is_left_out_and_said_so(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    assert set(scores(small, regressors=["ridge", "xgboost"], protocols=[RANDOM_LAYERS])["regressor"]) == {
        "ridge",
        "mean",
    }
    assert "XGBoost is not installed" in caution(small)
    with pytest.raises(MissingDependencyError, match="XGBoost"):
        scores(small, regressors=["xgboost"], protocols=[RANDOM_LAYERS])


def test_without_shap_the_extra_is_named(linear, monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(MissingDependencyError, match="shap"):
        shap_values(linear, "A")


# --- scores


def test_published_protocol_on_the_nine_shapes_of_pythia():
    table = parameter_table(PYTHIA.architectures, noise=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = scores(table, protocols=[RANDOM_LAYERS])
    assert len(table) == 188
    assert list(result) == ["target", "regressor", "protocol", "r2", "mae", "rmse", "cv_r2", "n_train", "n_test"]
    assert len(result) == 5 * 6
    assert set(zip(result["n_train"], result["n_test"], strict=True)) == {(150, 38)}
    by_regressor = score_table(result)["random layers"]
    assert list(by_regressor) == ["Ridge", "Lasso", "random forest", "gradient boosting", "XGBoost", "mean"]
    assert list(by_regressor.index) == list(TARGETS)
    assert (by_regressor.drop(columns="mean") > 0.5).all(axis=None)
    assert by_regressor["mean"].to_numpy().max() < 0.1
    assert caution(table).startswith("These scores rest on 9 architectures: they illustrate and do not prove.")


def test_scores_are_the_same_run_after_run(small):
    names = ["random_forest"]
    pd.testing.assert_frame_equal(
        scores(small, 3, names, protocols=[RANDOM_LAYERS]), scores(small, 3, names, protocols=[RANDOM_LAYERS])
    )
    assert not scores(small, 3, ["ridge"], protocols=[RANDOM_LAYERS]).equals(
        scores(small, 4, ["ridge"], protocols=[RANDOM_LAYERS])
    )


def test_scores_hold_both_protocols_and_agree_with_the_formulas(small):
    result = scores(small, regressors=["ridge"]).set_index(["protocol", "regressor", "target"])
    assert {p for p, _, _ in result.index} == {"random layers", "whole models left out"}
    rows = out_of_fold(small, "whole models left out", regressors=["ridge"])
    part = rows.loc[(rows["target"] == "A") & (rows["regressor"] == "ridge"), ["observed", "predicted"]]
    error = part["predicted"].to_numpy() - part["observed"].to_numpy()
    score = result.loc[("whole models left out", "ridge", "A")]
    observed = np.log1p(small["param_A"].to_numpy())
    assert sorted(part["observed"]) == pytest.approx(sorted(observed))
    assert score["r2"] == pytest.approx(1 - (error**2).sum() / ((observed - observed.mean()) ** 2).sum())
    assert score["mae"] == pytest.approx(np.abs(error).mean())
    assert score["rmse"] == pytest.approx((error**2).mean() ** 0.5)
    assert score["n_test"] == len(small)


def test_whole_models_are_really_left_out():
    """A value that each model draws by lot can be recognised from other layers of the model, and in no other way."""
    architectures = {f"m{i}": shape(6, 32 + 8 * i, 2) for i in range(6)}
    table = parameter_table(architectures)
    table["param_A"] = np.repeat(np.random.default_rng(2).permutation(6) * 100.0, 6)
    r2 = scores(table, regressors=["xgboost"]).set_index(["protocol", "regressor", "target"])["r2"].to_dict()
    assert r2["random layers", "xgboost", "A"] > 0.9
    assert r2["whole models left out", "xgboost", "A"] < 0.2


def test_the_twin_of_a_model_is_left_out_with_it():
    twins = {**{f"m{i}": shape(4, 32 * (i + 1), 2) for i in range(3)}, "m0_again": shape(4, 32, 2)}
    rows = out_of_fold(parameter_table(twins), regressors=["ridge"])
    trained_on = rows.groupby("model")["n_train"].unique().map(list).to_dict()
    assert trained_on == {"m0": [8], "m0_again": [8], "m1": [12], "m2": [12]}


def test_failed_fits_are_left_out_and_counted(small):
    table = small.copy()
    table.loc[[0, 7], [t.column for t in TARGETS.values()]] = np.nan
    assert set(scores(table, regressors=["ridge"], protocols=[WHOLE_MODELS])["n_test"]) == {len(small) - 2}
    assert f"2 of {len(small)} layers have no fit" in caution(table)


def test_a_table_too_small_to_learn_from_is_refused(small):
    with pytest.raises(DatasetError, match="8 of the 8 rows"):
        scores(small.head(8), protocols=[RANDOM_LAYERS])
    with pytest.raises(DatasetError, match="one architecture"):
        ParameterPredictor().fit(parameter_table({"a": shape(12, 32, 2)}))
    with pytest.raises(DatasetError, match="all but 2 of the usable rows"):
        ParameterPredictor().fit(parameter_table({"a": shape(12, 32, 2), "b": shape(2, 32, 2)}))


def test_a_target_that_never_varies_and_models_without_rotary_embeddings_pass():
    plain = {f"m{i}": shape(4, 32 * (i + 1), 2, rotary_pct=0.0, rotary_emb_base=None) for i in range(3)}
    table = parameter_table(plain).assign(param_K=5.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictor = ParameterPredictor(regressors=["ridge"]).fit(table)
    assert predictor.parameters(plain["m1"])["K"].tolist() == pytest.approx([5.0] * 4)
    assert predictor.scores.set_index("target").loc["K", "r2"].isna().all()
    assert "rotary_emb_base is 10000, where no model had one" in predictor.caution(shape(4, 64, 2))


@pytest.mark.slow
def test_every_regressor_under_both_protocols_on_the_nine_shapes():
    table = parameter_table(PYTHIA.architectures, noise=0.05)
    tables = score_table(scores(table))
    assert {name: t.shape for name, t in tables.items()} == {
        "random layers": (5, 6),
        "whole models left out": (5, 6),
    }
    honest = tables["whole models left out"]
    assert honest.drop(columns="mean").to_numpy().min() > 0.7
    assert honest["mean"].to_numpy().max() < 0


# --- the predictor


def test_predict_recovers_a_known_law_for_a_shape_it_never_saw():
    widths, depths = (48, 64, 96, 128), (4, 6, 8)
    seen = {f"m{d}x{n}": shape(n, d, 4) for i, d in enumerate(widths) for n in depths[i % 2 :: 2] or depths}
    predictor = ParameterPredictor(regressors=["ridge"]).fit(parameter_table(seen))
    unseen = shape(7, 80, 4)
    truth = law(unseen)
    predicted = predictor.parameters(unseen)
    for target in TARGETS.values():
        np.testing.assert_allclose(predicted[target.parameter], truth[target.column], rtol=0.15)
    t = np.array(STEPS)[None]
    A1, A2, beta, tau0, K = (truth[t.column].to_numpy()[:, None] for t in TARGETS.values())
    curve = np.exp(-beta * t) * (A1 * np.log(t + tau0) + A2) + K
    ratio = predictor.predict(unseen, STEPS)
    assert ratio.name == "ratio"
    assert ratio.dims == ("layer", "step")
    assert ratio["step"].to_numpy().tolist() == STEPS
    assert ratio["layer"].to_numpy().tolist() == list(range(7))
    assert 1 - np.square(ratio.to_numpy() - curve).sum() / np.square(curve - curve.mean()).sum() > 0.97


def test_each_target_gets_the_regressor_that_is_best_with_whole_models_left_out(linear):
    honest = linear.scores[linear.scores["protocol"] == "whole models left out"]
    table = honest[honest["regressor"] != "mean"].pivot(index="target", columns="regressor", values="r2")
    assert linear.chosen == table.idxmax(axis=1).loc[list(TARGETS)].to_dict()


def test_the_domain_of_the_curve_is_kept(linear, small):
    parameters = linear.parameters(shape(48, 8192, 64))
    assert list(parameters) == ["layer_index", "beta", "tau0", "A1", "A2", "K"]
    assert (parameters["beta"] >= small["param_γ"].min()).all()
    assert (parameters["tau0"] >= small["param_t0"].min()).all()
    assert np.isfinite(linear.predict(shape(48, 8192, 64), STEPS)).all()


def test_what_lies_outside_the_training_range_is_named(linear):
    inside, outside = linear.caution(shape(4, 48, 4)), linear.caution(shape(4, 96, 4, rotary_pct=1.0))
    assert inside == linear.caution()
    assert "illustrate and do not prove" in inside
    assert "hidden_size is 96, outside 32..64" in outside
    assert "rotary_pct is 1, outside 0.25..0.25" in outside
    assert "num_hidden_layers" not in outside
    assert "rotary_emb_base is none" in linear.caution(shape(4, 48, 4, rotary_pct=0.25, rotary_emb_base=None))


def test_targets_that_nothing_predicts_are_named(small):
    alternating = small.assign(param_γ=np.arange(len(small)) % 2 + 1.0)
    said = ParameterPredictor(regressors=["ridge"]).fit(alternating).caution()
    assert "no regressor does better than the mean for gamma" in said


@dataclass
class Stored:
    parameters: pd.DataFrame


def test_fit_takes_anything_with_a_parameter_table(small, linear):
    again = ParameterPredictor(regressors=["ridge", "lasso"]).fit(Stored(small))
    pd.testing.assert_frame_equal(again.scores, linear.scores)
    with pytest.raises(UsageError, match="dataset"):
        ParameterPredictor().fit(42)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DatasetError):
        ParameterPredictor().fit("/no/such/folder")


@pytest.mark.parametrize("steps", [[-1], [], [[1, 2]], [float("nan")], "soon", [None]])
def test_steps_that_mean_nothing_are_refused(linear, steps):
    with pytest.raises(UsageError, match="steps"):
        linear.predict(SMALL["small_0"], steps)


def test_nothing_is_answered_before_a_fit():
    for ask in (
        lambda p: p.scores,
        lambda p: p.predict(SMALL["small_0"], STEPS),
        lambda p: p.caution(),
        residuals,
        lambda p: shap_values(p, "A"),
    ):
        with pytest.raises(UsageError, match="not fitted"):
            ask(ParameterPredictor())


# --- explanations


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting", "xgboost", "ridge", "lasso"])
def test_shap_values_and_base_add_up_to_the_prediction(small, name):
    fitted = fit_regressor(name, training_rows("K", features_of(small), small["param_K"]))
    one_target = SimpleNamespace(features=features_of(small), regressor=lambda _: fitted, seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        explained = shap_values(one_target, "K")  # pyright: ignore[reportArgumentType]
    assert not caught
    assert explained.values.shape == explained.features.shape == (len(small), len(FEATURES))
    np.testing.assert_allclose(explained.prediction, fitted.transformed(features_of(small)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["forests", "linear"])
def test_importances_find_what_the_law_depends_on(kind, request):
    predictor = request.getfixturevalue(kind)
    series = importances(predictor, "lam")
    assert ("built-in" if kind == "forests" else "permutation") in str(series.name)
    assert set(series.index) == set(FEATURES)
    assert series.is_monotonic_decreasing
    assert str(series.index[0]) in {"l/L", "(l/L)^2", "(l/L)^3", "sqrt(l/L)"}


def test_partial_dependence_follows_a_linear_regressor_exactly(linear):
    fitted = linear.regressor("K")
    table = partial_dependence(linear, "K", "l/L")
    spread = linear.features["l/L"].std(ddof=0)
    slope = fitted.pipeline[-1].coef_[list(FEATURES).index("l/L")] * fitted.scale / spread
    assert list(table) == ["value", "prediction", "lower", "upper"]
    np.testing.assert_allclose(np.diff(table["prediction"]), slope * np.diff(table["value"]), atol=1e-9)
    assert (np.diff(table[["lower", "prediction", "upper"]].to_numpy()) > 0).all()
    assert partial_dependence(linear, "K", "heads")["value"].tolist() == [2, 4, 8]


def test_all_features_of_the_depth_move_together(linear):
    assert of_depth() == ["l/L", "(l/L)^2", "(l/L)^3", "sqrt(l/L)", "l*L"]
    table = depth_dependence(linear, "K").set_index("value")
    assert list(table.index) == sorted({layer / s.num_hidden_layers for s in SMALL.values() for layer in
                                        range(s.num_hidden_layers)})  # fmt: skip
    # Half-way down every model of an even number of layers there is a layer, which can be asked for itself.
    halves = [feature_table(a).loc[[a.num_hidden_layers // 2]] for a in SMALL.values() if a.num_hidden_layers % 2 == 0]
    even = ParameterPredictor(regressors=["ridge"]).fit(
        parameter_table({name: a for name, a in SMALL.items() if a.num_hidden_layers % 2 == 0}, noise=0.05)
    )
    expected = np.repeat(even.regressor("K").transformed(pd.concat(halves)), [len(feature_table(a)) for a in
                         SMALL.values() if a.num_hidden_layers % 2 == 0])  # fmt: skip
    found = depth_dependence(even, "K").set_index("value").loc[0.5]
    assert found["prediction"] == pytest.approx(expected.mean())
    assert found["lower"] == pytest.approx(np.quantile(expected, 0.1))


def test_residuals_are_those_behind_the_honest_score(linear, small):
    rows = residuals(linear)
    assert list(rows) == ["model", "layer_index", "target", "observed", "predicted"]
    assert rows.groupby("target").size().to_dict() == dict.fromkeys(TARGETS, len(small))
    honest = linear.scores[linear.scores["protocol"] == "whole models left out"].set_index(["target", "regressor"])
    for target, part in rows.groupby("target"):
        error = np.square(part["predicted"] - part["observed"]).sum()
        r2 = 1 - error / np.square(part["observed"] - part["observed"].mean()).sum()
        assert r2 == pytest.approx(honest.loc[(target, linear.chosen[str(target)]), "r2"])


def test_importing_the_room_loads_no_heavy_package():
    program = (
        "import sys, madyn.prediction;"
        "print([m for m in ('sklearn', 'xgboost', 'shap', 'numba', 'torch', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
