"""The engine: global optima, units, missing points, weights, edges, own models, robust fits, and all bad input."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import minimum_filter
from scipy.optimize import differential_evolution

from bank import draw_bank, fifty_starts
from madyn.curves.fitting.basins import _lowest_around
from madyn.curves.fitting.fits import fit_curves
from madyn.curves.hypotheses.registry import HYPOTHESES, PUBLISHED
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.errors import UsageError
from madyn.suites import PYTHIA

pytestmark = pytest.mark.filterwarnings("error")

STEPS = np.array(PYTHIA.grids["paper"], float)
LAST = STEPS[-1]
# A curve of each family in raw steps, well inside its box.
TRUE = {
    "reparam": (2.0e-5, 3000.0, 60.0, -480.0, 8.0),
    "step1": (9000.0, 300.0),
    "step2": (0.6, 1.5e-4, 250.0),
    "power_law": (2000.0, -0.6, 50.0, 3.0),
    "double_exponential": (3000.0, 12.0, 40.0, -90.0, 70.0),
    "logistic_log": (8000.0, 1.7, 120.0, 6.0),
    "stretched_exponential": (9000.0, 0.8, -100.0, 120.0),
}


def noisy(name: str, share: float = 0.02, series: int = 1, seed: int = 0) -> np.ndarray:
    clean = HYPOTHESES[name].values(STEPS, TRUE[name])
    return clean + np.random.default_rng(seed).normal(0, share * np.ptp(clean), (series, len(STEPS)))


def decay_model(**options) -> SeparableModel:
    return SeparableModel(
        lambda x, rate: np.stack([np.exp(-np.multiply.outer(rate, x)), np.ones((*np.shape(rate), len(x)))], axis=-1),
        nonlinear={"rate": (1e-3, 1e2)},
        linear=("height", "floor"),
        **options,
    )


@pytest.mark.parametrize("name", TRUE)
def test_exact_data_give_their_parameters_back(name):
    fits = fit_curves(STEPS, HYPOTHESES[name].values(STEPS, TRUE[name]), hypothesis=name)
    assert fits.success
    assert not fits.at_edge.any()
    np.testing.assert_allclose(fits.popt, TRUE[name], rtol=1e-5)


@pytest.mark.parametrize("zeta", [0.15, 1.0, 1.8])
def test_step2_is_found_in_every_damping_regime(zeta):
    true = (zeta, 2e-4, 40.0)
    fits = fit_curves(STEPS, HYPOTHESES["step2"].values(STEPS, true), hypothesis="step2")
    np.testing.assert_allclose(fits.popt, true, rtol=1e-6)


@pytest.mark.parametrize("model", ["reparam", "step1", "step2"])
def test_no_start_of_fifty_ends_lower(model):
    bank = draw_bank(model, 6, seed=7)
    fits = fit_curves(STEPS, bank, hypothesis=model)
    assert fits.success.all()
    for i, y in enumerate(bank):
        least, _, _ = fifty_starts(model, y, seed=i)
        assert np.sum(fits.residuals[i] ** 2) <= least * (1 + 1e-9)


@pytest.mark.parametrize("name", ["power_law", "double_exponential", "logistic_log", "stretched_exponential"])
def test_a_search_that_draws_at_random_finds_nothing_lower(name):
    model = HYPOTHESES[name]
    y = draw_bank("reparam", 2, seed=3)
    fits = fit_curves(STEPS, y, hypothesis=name)
    s = STEPS / LAST
    for i, row in enumerate(y):

        def loss(u, row=row):
            design = model.columns(s, model.nonlinear_at(np.asarray(u)))
            return np.sum((row - design @ np.linalg.lstsq(design, row)[0]) ** 2)

        drawn = differential_evolution(loss, model.search_box, rng=1, maxiter=60, popsize=10, tol=1e-12)
        assert np.sum(fits.residuals[i] ** 2) <= drawn.fun * (1 + 1e-9)


def test_standard_errors_cover_what_they_say():
    fits = fit_curves(STEPS, noisy("reparam", series=400))
    deviations = (fits.popt[:, -1] - TRUE["reparam"][-1]) / np.sqrt(fits.pcov[:, -1, -1])
    assert 0.85 < np.mean(np.abs(deviations) < 1.96) < 0.99


def test_covariance_is_that_of_the_linearised_problem():
    y = noisy("reparam")[0]
    fits = fit_curves(STEPS, y)
    published = HYPOTHESES["reparam"].published
    assert published is not None
    jacobian = published.jacobian(STEPS, *fits.popt)
    size = np.linalg.norm(jacobian, axis=0)
    inverse = np.linalg.inv((jacobian / size).T @ (jacobian / size)) / np.outer(size, size)
    expected = inverse * np.sum(fits.residuals**2) / (len(y) - 5)
    np.testing.assert_allclose(fits.pcov, expected, rtol=1e-6)
    np.testing.assert_allclose(fits.jacobian / size, jacobian / size, atol=1e-8)


def test_original_is_reparam_in_other_parameters():
    y = noisy("reparam", series=5)
    original, reparam = fit_curves(STEPS, y, hypothesis="original"), fit_curves(STEPS, y)
    np.testing.assert_array_equal(original.r2, reparam.r2)
    np.testing.assert_allclose(original.hypothesis.values(STEPS, original.popt), reparam.predict(STEPS), rtol=1e-6)
    published = HYPOTHESES["original"].published
    assert published is not None
    jacobian = published.jacobian(STEPS, *original.popt[0])
    size = np.linalg.norm(jacobian, axis=0)
    expected = np.linalg.inv((jacobian / size).T @ (jacobian / size)) / np.outer(size, size)
    expected *= np.sum(original.residuals[0] ** 2) / (len(STEPS) - 5)
    np.testing.assert_allclose(np.sqrt(np.diag(original.pcov[0])), np.sqrt(np.diag(expected)), rtol=1e-3)


def test_original_says_where_it_has_no_parameters():
    """A pure exponential has A1 = 0: the map to gamma = exp(A2/A1) does not exist."""
    y = np.exp(-STEPS / 20_000)
    fits = fit_curves(STEPS, y, hypothesis="original")
    assert not fits.success or "A1" in str(fits.message)
    assert "A1" in fits.message.item()
    assert fits.r2 > 1 - 1e-9
    np.testing.assert_allclose(fits.predict(STEPS), y, atol=1e-6)


def test_an_optimum_on_an_edge_is_flagged():
    y = 3 * np.log(STEPS + 500) + np.random.default_rng(0).normal(0, 0.01, len(STEPS))
    growing = fit_curves(STEPS, 0.001 * STEPS)
    assert growing.at_edge.any()
    assert "edge of the box: the optimum is not attained inside" in growing.message.item()
    assert fit_curves(STEPS, y).success


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from([n for n in HYPOTHESES if n != "original_regularized"]),
    log_scale=st.floats(-18, 18), log_T=st.floats(-8, 10), seed=st.integers(0, 3),
)  # fmt: skip
def test_units_of_steps_and_values_change_the_result_only_as_they_must(name, log_scale, log_T, seed):
    y = noisy("reparam", seed=seed)[0]
    a, b = (
        fit_curves(STEPS, y, hypothesis=name),
        fit_curves(STEPS * np.exp(log_T), y * np.exp(log_scale), hypothesis=name),
    )
    np.testing.assert_allclose(b.r2, a.r2, atol=1e-9)
    np.testing.assert_allclose(b.residuals / np.exp(log_scale), a.residuals, atol=1e-6 * np.ptp(y))
    np.testing.assert_allclose(b.aic - a.aic, 2 * len(y) * log_scale, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(name=st.sampled_from(["reparam", "reparam_regularized", "logistic_log"]), shift=st.floats(-1e4, 1e4))
def test_a_shift_of_the_values_moves_only_the_baseline(name, shift):
    y = noisy("reparam")[0]
    a, b = fit_curves(STEPS, y, hypothesis=name), fit_curves(STEPS, y + shift, hypothesis=name)
    np.testing.assert_allclose(b.r2, a.r2, atol=1e-8)
    np.testing.assert_allclose(b.residuals, a.residuals, atol=1e-5 * np.ptp(y))
    assert b.popt[-1] - shift == pytest.approx(a.popt[-1], abs=1e-3 * np.ptp(y))


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(len(STEPS))), name=st.sampled_from(["reparam", "step2", "original_regularized"]))
def test_the_order_of_the_points_changes_nothing(order, name):
    y = noisy("reparam")[0]
    a, b = fit_curves(STEPS, y, hypothesis=name), fit_curves(STEPS[order], y[order], hypothesis=name)
    np.testing.assert_allclose(b.r2, a.r2, atol=1e-10)
    np.testing.assert_allclose(b.residuals, a.residuals[order], atol=1e-6 * np.ptp(y))


@settings(max_examples=10, deadline=None)
@given(cut=st.integers(1, 7), name=st.sampled_from(PUBLISHED))
def test_splitting_a_batch_changes_nothing(cut, name):
    y = draw_bank("reparam", 8, seed=5)
    y[2, 5], y[6, :3] = np.nan, np.nan
    whole = fit_curves(STEPS, y, hypothesis=name)
    parts = [fit_curves(STEPS, part, hypothesis=name) for part in (y[:cut], y[cut:])]
    np.testing.assert_allclose(np.concatenate([p.r2 for p in parts]), whole.r2, rtol=0, atol=1e-11)
    np.testing.assert_allclose(
        np.concatenate([p.residuals for p in parts]), whole.residuals, atol=1e-6 * np.nanmax(np.abs(y))
    )


def test_missing_points_are_as_if_never_measured():
    y = noisy("reparam", series=3)
    keep = np.ones(len(STEPS), bool)
    keep[[2, 20, 30]] = False
    for name in PUBLISHED:
        masked = fit_curves(STEPS, np.where(keep, y, np.nan), hypothesis=name)
        apart = fit_curves(STEPS[keep], y[:, keep], hypothesis=name)
        np.testing.assert_allclose(masked.r2, apart.r2, atol=1e-10)
        np.testing.assert_allclose(masked.aicc, apart.aicc, atol=1e-7)
        assert np.isnan(masked.residuals[:, ~keep]).all()


def test_every_series_may_have_steps_of_its_own():
    rng = np.random.default_rng(2)
    t = np.sort(rng.uniform(0, LAST, (4, 30)), axis=1)
    y = HYPOTHESES["reparam"].values(t[0], TRUE["reparam"]) * np.ones((4, 1))
    for i in range(4):
        y[i] = HYPOTHESES["reparam"].values(t[i], TRUE["reparam"]) + rng.normal(0, 0.5, 30)
    together = fit_curves(t, y)
    for i in range(4):
        np.testing.assert_allclose(together.r2[i], fit_curves(t[i], y[i]).r2, atol=1e-11)
    ragged = np.where(np.arange(30) < 25, t, np.nan)
    values = np.where(np.arange(30) < 25, y, np.nan)
    np.testing.assert_allclose(fit_curves(ragged, values).r2[1], fit_curves(t[1, :25], y[1, :25]).r2, atol=1e-11)


def test_repeated_points_are_fitted():
    y = noisy("reparam", share=0.05, series=2)
    twice = fit_curves(np.tile(STEPS, 2), y.reshape(1, -1)).residuals.reshape(2, -1)
    weighted = fit_curves(STEPS, y.mean(axis=0))
    np.testing.assert_allclose(y - twice, np.tile(y.mean(axis=0) - weighted.residuals, (2, 1)), atol=1e-5 * np.ptp(y))
    t = np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0])
    few = fit_curves(t, t + np.arange(7) / 10)
    assert few.success
    assert np.isinf(few.pcov).all()


def test_weights_are_inverse_variances():
    y = noisy("reparam")[0]
    double = fit_curves(np.append(STEPS, STEPS[20]), np.append(y, y[20]))
    weights = np.ones(len(y))
    weights[20] = 2
    weighted = fit_curves(STEPS, y, weights=weights)
    np.testing.assert_allclose(weighted.predict(STEPS), double.predict(STEPS), atol=1e-6 * np.ptp(y))
    scaled = fit_curves(STEPS, y, weights=7.3 * weights)
    for score in ("r2", "aic", "aicc", "bic"):
        np.testing.assert_allclose(getattr(scaled, score), getattr(weighted, score), rtol=1e-9)
    np.testing.assert_allclose(scaled.pcov, weighted.pcov, rtol=1e-6)
    left_out = fit_curves(STEPS, y, weights=(np.arange(len(y)) != 3).astype(float))
    assert left_out.num_points == len(y) - 1
    assert np.isfinite(left_out.residuals[3])
    nothing = fit_curves(STEPS, y, weights=np.zeros(len(y)))
    assert "0 of weight above 0" in nothing.message.item()


def test_scores_are_their_formulas():
    y = noisy("step1")[0]
    fits = fit_curves(STEPS, y, hypothesis="step1")
    n, rss = len(y), np.sum((y - fits.predict(STEPS)) ** 2)
    assert fits.aic == pytest.approx(n * np.log(rss / n) + 4)
    assert fits.aicc == pytest.approx(fits.aic + 12 / (n - 3))
    assert fits.bic == pytest.approx(n * np.log(rss / n) + 2 * np.log(n))
    assert fits.r2 == pytest.approx(1 - rss / np.sum((y - y.mean()) ** 2))


def test_too_few_points_for_aicc_is_said():
    t = np.array([0.0, 1000, 4000, 20_000, 60_000, 100_000])
    fits = fit_curves(t, np.array([1.0, 5, 9, 12, 10, 9]))
    assert np.isnan(fits.aicc)
    assert np.isfinite(fits.aic)
    assert "AICc is undefined for 6 points and 5 parameters" in fits.message.item()


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_small_and_large_values_and_long_runs(scale):
    t = STEPS * 1e7 / LAST
    fits = fit_curves(t, noisy("reparam")[0] * scale)
    assert fits.success
    assert np.isfinite(fits.popt).all()
    assert fits.r2 == pytest.approx(fit_curves(STEPS, noisy("reparam")[0]).r2, abs=1e-9)


@pytest.mark.parametrize("name", HYPOTHESES)
def test_what_cannot_be_fitted_says_why_and_leaves_the_others_alone(name):
    good = noisy("reparam")[0]
    infinite, few = good.copy(), np.where(np.arange(len(STEPS)) < 1, good, np.nan)
    infinite[11] = np.inf
    y = np.stack([infinite, few, np.full(len(STEPS), 5.0), np.full(len(STEPS), np.nan), good * 1e300, good])
    fits = fit_curves(STEPS, y, hypothesis=name)
    said = ["infinite at step 1000", "too few points: 1 finite", "constant (5)", "0 finite", "squares"]
    for expected, message in zip(said, fits.message, strict=False):
        assert expected in message
    assert fits.success.tolist() == [False] * 5 + [True]
    assert np.isnan(fits.popt[:-1]).all()
    assert np.isnan(fits.residuals[:-1]).all()
    np.testing.assert_allclose(fits.r2[-1], fit_curves(STEPS, good, hypothesis=name).r2, atol=1e-12)


def test_nothing_warns_and_nothing_fails_on_noise_of_any_kind():
    rng = np.random.default_rng(8)
    y = np.stack([rng.normal(size=37), rng.standard_cauchy(37), (STEPS == 0) * 1.0, STEPS**2, -np.log1p(STEPS)])
    for name in HYPOTHESES:
        fits = fit_curves(STEPS, y, hypothesis=name)
        assert np.isfinite(fits.r2).all()
        assert all(fits.message[~fits.success])


def test_robust_weights_take_a_spike_out_and_flag_it():
    clean = noisy("reparam", share=0.01)[0]
    y = clean.copy()
    y[[15, 28]] += np.array([1.5, -1.0]) * np.ptp(y)
    truth = HYPOTHESES["reparam"].values(STEPS, TRUE["reparam"])
    plain = fit_curves(STEPS, y)
    for name in ("huber", "student"):
        robust = fit_curves(STEPS, y, robust=name)
        assert {15, 28} <= set(np.flatnonzero(robust.suspects))
        assert np.max(robust.weights[[15, 28]]) < 0.1
        error, plainly = (np.sqrt(np.mean((f.predict(STEPS) - truth) ** 2)) for f in (robust, plain))
        assert error < plainly / 5


def test_a_models_own_units_and_shapes_are_kept():
    x = np.linspace(0, 3, 25)
    y = np.stack([[2 * np.exp(-1.7 * x) + 0.3, 5 * np.exp(-0.4 * x)]] * 3) * 1e-5
    fits = fit_curves(x, y, hypothesis=decay_model())
    assert fits.popt.shape == (3, 2, 3)
    np.testing.assert_allclose(fits.popt[0], [[1.7, 2e-5, 0.3e-5], [0.4, 5e-5, 0]], rtol=1e-7, atol=1e-12)
    assert fits.predict([0.0, 1.0]).shape == (3, 2, 2)


def test_a_model_may_have_points_below_zero_where_training_steps_may_not():
    x = np.linspace(-1, 2, 30)
    assert fit_curves(x, np.exp(-0.7 * x), hypothesis=decay_model()).popt[0] == pytest.approx(0.7)
    with pytest.raises(UsageError, match="not negative"):
        fit_curves(x, x)


def test_a_basis_that_drops_complex_numbers_is_differentiated_all_the_same():
    def basis(x, rate):
        return np.exp(-np.abs(np.multiply.outer(rate, x)))[..., np.newaxis]

    x = np.linspace(0, 3, 25)
    y = 2 * np.exp(-1.7 * x) + np.random.default_rng(0).normal(0, 0.01, 25)
    plain = SeparableModel(
        lambda x, rate: np.exp(-np.multiply.outer(rate, x))[..., None], {"rate": (1e-3, 1e2)}, ("a",)
    )
    a = fit_curves(x, y, hypothesis=SeparableModel(basis, nonlinear={"rate": (1e-3, 1e2)}, linear=("a",)))
    b = fit_curves(x, y, hypothesis=plain)
    np.testing.assert_allclose(a.popt, b.popt, rtol=1e-9)
    np.testing.assert_allclose(a.pcov, b.pcov, rtol=1e-7)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nonlinear": {"rate": (2.0, 1.0)}}, "low < high"),
        ({"nonlinear": {"rate": (0.0, np.inf)}}, "bounds of rate"),
        ({"nonlinear": {}}, "0 nonlinear"),
        ({"nonlinear": dict.fromkeys("wxyz", (0.0, 1.0))}, "4 nonlinear"),
        ({"linear": ()}, "at least one name"),
        ({"linear": ("rate",)}, "two parameters are called rate"),
        ({"linear_scale": ("speed",)}, "speed"),
        ({"points": (2,)}, "from 3 to"),
    ],
)
def test_a_model_that_cannot_be_searched_is_refused(options, said):
    arguments = {"basis": lambda x, rate: x, "nonlinear": {"rate": (1e-3, 1.0)}, "linear": ("a",), **options}
    with pytest.raises(UsageError, match=said):
        SeparableModel(**arguments)


def test_a_basis_of_the_wrong_shape_is_named():
    model = SeparableModel(lambda x, rate: np.multiply.outer(rate, x), {"rate": (1e-3, 1.0)}, ("a",), name="mine")
    with pytest.raises(UsageError, match=r"basis of mine gives shape .*expected .*one column for each of a"):
        fit_curves(STEPS, STEPS, hypothesis=model)


def test_a_basis_that_overflows_in_part_of_its_box_is_searched_in_the_rest():
    def basis(x, rate):
        with np.errstate(over="ignore"):
            return np.exp(np.multiply.outer(rate, x))[..., np.newaxis]

    x = np.linspace(0, 10, 30)
    fits = fit_curves(x, 3 * np.exp(0.5 * x), hypothesis=SeparableModel(basis, {"rate": (1e-2, 1e5)}, ("a",)))
    np.testing.assert_allclose(fits.popt, [0.5, 3.0], rtol=1e-9)


def test_summary_says_what_is_identified_and_what_is_not():
    well = fit_curves(STEPS, noisy("step1", share=0.005)[0], hypothesis="step1").summary()
    assert "identified one by one." in well
    assert "not identified" not in well
    growth = fit_curves(STEPS, 3 * np.log(STEPS + 500) + np.random.default_rng(0).normal(0, 0.05, 37)).summary()
    assert "not identified one by one: changing" in growth
    assert "Determined: value at 14000" in growth
    assert "Not determined" in growth
    many = fit_curves(STEPS, noisy("reparam", series=12))
    assert "12 series, 12 fitted" in many.summary()
    assert "2 more" in many.summary()
    assert many.summary(3) in many.summary()
    assert "no fit: the series is constant" in fit_curves(STEPS, np.ones(37)).summary()


def test_labels():
    fits = fit_curves(STEPS, noisy("step1", series=6).reshape(2, 3, -1), hypothesis="step1")
    data = fits.to_dataset(("model", "layer"), {"layer": [4, 5, 6]})
    assert data["popt"].dims == ("model", "layer", "parameter")
    assert data["residuals"].sel(layer=5, step=512).shape == (2,)
    assert data["popt"].sel(parameter="tau").values.tolist() == fits.popt[..., 0].tolist()
    assert fits.to_dataset()["r2"].dims == ("series_0", "series_1")
    with pytest.raises(UsageError, match="2 leading axes"):
        fits.to_dataset(["layer"])


def test_an_empty_batch_is_an_empty_result():
    for name in HYPOTHESES:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert fit_curves(STEPS, np.empty((0, len(STEPS))), hypothesis=name).popt.shape[0] == 0


@pytest.mark.parametrize("name", HYPOTHESES)
def test_points_that_are_all_at_step_0_are_refused(name):
    fits = fit_curves(np.zeros(8), np.arange(8.0), hypothesis=name)
    assert not fits.success
    assert "all points are at step 0" in fits.message.item()


def test_a_fit_with_no_points_to_spare_is_summed_up_without_warnings():
    fits = fit_curves([0.0, 10.0], [3.0, 5.0], hypothesis="step1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "AICc is undefined" in fits.summary()


@pytest.mark.parametrize("shape", [(3, 7), (2, 5, 4), (2, 1, 6)])
def test_the_least_of_neighbours_is_scipys(shape):
    low = np.random.default_rng(0).normal(size=shape)
    low[0, 0] = np.inf
    assert np.array_equal(_lowest_around(low), minimum_filter(low, size=(1, *(3,) * (low.ndim - 1)), mode="nearest"))
