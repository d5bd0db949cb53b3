"""Posteriors: against brute force and closed forms, calibrated on the model's own series, the same in any units."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import binomtest, multivariate_normal, norm, truncnorm

from madyn.curves.bayes import adaptive_grid, evidence, mixture, noise, widening
from madyn.curves.bayes.components import DRAWS
from madyn.curves.bayes.evidence import Moments
from madyn.curves.bayes.marginal import COMPONENTS
from madyn.curves.bayes.posteriors import posterior
from madyn.curves.bayes.priors import LENGTHS, Prior, RunTime, sizes
from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.curves.hypotheses.separable import SeparableModel
from madyn.errors import UsageError
from madyn.suites import PYTHIA

pytestmark = pytest.mark.filterwarnings("error")

STEPS = np.array(PYTHIA.grids["paper"], float)
GIVEN = Prior.default("reparam").given()
BOUNDS = ("median", "lower", "upper")


def constant_model() -> SeparableModel:
    """A level alone; the nonlinear parameter does nothing, so that everything is known in closed form."""
    return SeparableModel(
        lambda x, rate: np.ones((*np.shape(rate), len(x), 1)), nonlinear={"rate": (0.5, 2.0)}, linear=("level",)
    )


def constant_prior(model: SeparableModel, sigma: float, length: int) -> Prior:
    lengths = tuple(float(i == length) for i in range(len(LENGTHS)))
    return replace(
        Prior.default(model), linear_mean=[1.0], linear_cov=[[4.0]], log_sigma=(np.log(sigma), 1e-4), lengths=lengths,
        proportional_share=0.0,
    ).given()  # fmt: skip


def normal_log(x: np.ndarray, mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    return np.asarray(multivariate_normal.logpdf(x, mean, cov))  # pyright: ignore[reportArgumentType]


def covariance(prior: Prior, t: np.ndarray, sigma: float, length: float) -> np.ndarray:
    """Of the noise of constant size, written out."""
    xi = noise.coordinate((t - t[0]) / (t[-1] - t[0]))
    apart = np.cumsum(np.concatenate([[0.0], np.maximum(np.diff(xi), noise.CLOSEST)]))
    if length == 0:
        return sigma**2 * np.eye(t.size)
    return sigma**2 * np.exp(-np.abs(apart[:, None] - apart) / length)


def test_the_noise_has_the_inverse_covariance_that_it_says():
    xi = noise.coordinate(np.array([0.0, 0.01, 0.01, 0.3, 0.9, 1.0]))
    apart = np.cumsum(np.concatenate([[0.0], np.maximum(np.diff(xi), noise.CLOSEST)]))
    for length in (0.1, 0.3, 1.0):
        dense = np.exp(-np.abs(apart[:, None] - apart) / length)
        diagonal, beside, log_det = noise.precision(xi, length)
        inverse = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        np.testing.assert_allclose(inverse @ dense, np.eye(6), atol=1e-10)
        assert log_det == pytest.approx(-0.5 * np.linalg.slogdet(dense)[1])
    np.testing.assert_array_equal(noise.precision(xi, 0.0)[0], 1)


def test_evidence_is_that_of_the_marginal_normal_distribution():
    rng = np.random.default_rng(0)
    X, y, m, sigma = rng.normal(size=(9, 3)), rng.normal(size=9), rng.normal(size=3), 0.7
    prior_cov = np.cov(rng.normal(size=(3, 8)))
    moments = Moments(X.T @ X, X.T @ y, np.array(y @ y), 9, np.array(0.0))
    found = evidence.conditional(moments, np.asarray(np.linalg.inv(prior_cov), float), m, np.array(sigma))
    expected = normal_log(y, X @ m, X @ prior_cov @ X.T + sigma**2 * np.eye(9))
    assert found.log_evidence == pytest.approx(expected)
    A = X.T @ X / sigma**2 + np.linalg.inv(prior_cov)
    np.testing.assert_allclose(found.factor @ found.factor.T, A)
    np.testing.assert_allclose(found.mean, np.linalg.solve(A, X.T @ y / sigma**2 + np.linalg.solve(prior_cov, m)))


def test_quantiles_of_a_mixture_solve_its_distribution_function():
    weights, mean, sd = np.array([0.3, 0.7]), np.array([[-5.0, 4.0], [0.0, 0.1]]), np.array([[0.5, 0.01], [1.0, 2.0]])
    found = mixture.quantiles(np.broadcast_to(weights, (2, 2)), mean, sd, (0.05, 0.5, 0.95))
    for row in range(2):
        reached = np.sum(weights * norm.cdf((found[:, row, None] - mean[row]) / sd[row]), axis=1)
        np.testing.assert_allclose(reached, (0.05, 0.5, 0.95), atol=2e-4)
    single = mixture.quantiles(np.ones((1, 1)), np.array([[2.0]]), np.array([[3.0]]), (0.9,))
    assert single[0, 0] == pytest.approx(norm.ppf(0.9, 2, 3), abs=2e-3)


def test_quantiles_above_a_floor_are_those_of_what_lies_above():
    weights, mean, sd = np.array([0.4, 0.6]), np.array([[-3.0, 1.0]] * 4), np.array([[1.0, 2.0]] * 4)
    floor = np.array([-np.inf, 0.0, 6.0, 20.0])  # the last one is nine standard deviations out
    found = mixture.quantiles(np.broadcast_to(weights, (4, 2)), mean, sd, (0.05, 0.5, 0.95), floor)
    above = np.sum(weights * norm.sf((found[..., None] - mean) / sd), axis=-1)
    all_above = np.sum(weights * norm.sf((floor[:, None] - mean) / sd), axis=-1)
    np.testing.assert_allclose(1 - above / all_above, np.array([0.05, 0.5, 0.95])[:, None].repeat(4, axis=1), atol=2e-4)
    assert np.all(found >= floor)
    beyond = mixture.quantiles(np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1)), (0.5,), np.array([1e6]))
    assert beyond.item() == 1e6


def test_a_forecast_of_what_cannot_be_negative_is_the_posterior_above_zero():
    model, sigma = constant_model(), 0.4
    free = replace(constant_prior(model, sigma, 0), linear_mean=[0.1], linear_cov=[[0.04]])
    prior = replace(free, positive=True)
    t = np.linspace(0.0, 10.0, 4)
    y = np.array([0.1, 0.5, 0.02, 0.3])
    precision = 4 / sigma**2 + 1 / 0.04
    mean = (y.sum() / sigma**2 + 0.1 / 0.04) / precision
    for noisy, sd in ((True, np.sqrt(1 / precision + sigma**2)), (False, np.sqrt(1 / precision))):
        ask = (lambda p: posterior(t, y, model, p, 20.0).forecast([14.0])) if noisy else (
            lambda p: posterior(t, y, model, p, 20.0).value([14.0]))  # fmt: skip
        expected = truncnorm(-mean / sd, np.inf, mean, sd).ppf([0.5, 0.05, 0.95])
        np.testing.assert_allclose([ask(prior)[bound].item() for bound in BOUNDS], expected, atol=2e-3)
        assert (ask(free)["lower"].item() < 0) == (norm.cdf(0, mean, sd) > 0.05)


@pytest.mark.parametrize("positive", [False, True])
def test_a_band_widened_by_how_far_out_a_value_lies_just_holds_it(positive):
    middle, low, high = np.array([2.0, 2.0, 5.0]), np.array([1.0, 0.5, 4.9]), np.array([3.0, 9.0, 5.2])
    values = np.array([0.25, 20.0, 4.0])
    far = widening.how_far(values, middle, low, high, positive)
    for i, value in enumerate(values):
        end = low[i] if value < middle[i] else high[i]
        assert widening.widened(end, middle[i], far[i], positive) == pytest.approx(value)
    assert np.all(widening.widened(low, middle, 50.0, positive) >= 0) == positive


@pytest.mark.parametrize("width", [0.3, 0.01])
def test_cells_find_the_mass_of_a_bent_ridge(width):
    def log_density(u, which):
        across = (u[..., 1] - 0.2 * u[..., 0] ** 2) / width
        return np.broadcast_to(-0.5 * u[..., 0] ** 2 - 0.5 * across**2 - np.log(2 * np.pi * width), (1, u.shape[1]))

    u, half, log_f = adaptive_grid.refined(log_density, np.array([[-5.0, 5.0], [-6.0, 6.0]]), 24, 1)
    weight = np.exp(log_f + np.sum(np.log(2 * half), axis=2))
    assert weight.sum() == pytest.approx(1, rel=0.1)
    mean = np.sum(weight * u[..., 0]) / weight.sum()
    assert abs(mean) < 0.1
    assert np.sum(weight * (u[..., 0] - mean) ** 2) / weight.sum() == pytest.approx(1, rel=0.1)


def test_cells_find_two_peaks_that_lie_apart():
    places = np.array([[-3.0, 2.0], [4.0, -1.0]])

    def log_density(u, which):
        off = (u[..., None, :] - places) / 0.02
        return np.broadcast_to(np.asarray(logsumexp(-0.5 * np.sum(off**2, axis=-1), axis=-1)), (1, u.shape[1]))

    u, half, log_f = adaptive_grid.refined(log_density, np.array([[-5.0, 5.0], [-6.0, 6.0]]), 24, 1)
    weight = np.exp(log_f + np.sum(np.log(2 * half), axis=2))
    assert weight[u[..., 0] > 0].sum() / weight.sum() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("length", [0, 2])
def test_a_level_alone_has_the_posterior_and_forecast_of_the_textbook(length):
    model, sigma = constant_model(), 0.4
    prior = constant_prior(model, sigma, length)
    t, ahead = np.linspace(0.0, 10.0, 12), np.array([10.5, 14.0])
    y = 3 + np.random.default_rng(3).normal(0, sigma, t.size)
    found = posterior(t, y, hypothesis=model, prior=prior, last_step=20.0)
    everywhere = np.concatenate([t, ahead, [20.0]])
    noise_cov = covariance(prior, everywhere, sigma, LENGTHS[length])[:-1, :-1]
    full = noise_cov + 4.0
    seen, new = np.arange(t.size), np.arange(t.size, t.size + 2)
    gain = full[np.ix_(new, seen)] @ np.linalg.inv(full[np.ix_(seen, seen)])
    mean = 1 + gain @ (y - 1)
    sd = np.sqrt(np.diag(full[np.ix_(new, new)] - gain @ full[np.ix_(seen, new)]))
    bands = found.forecast(ahead, 0.9)
    np.testing.assert_allclose(bands["median"], mean, atol=3e-3)
    np.testing.assert_allclose(bands["lower"], norm.ppf(0.05, mean, sd), atol=4e-3)
    np.testing.assert_allclose(bands["upper"], norm.ppf(0.95, mean, sd), atol=4e-3)
    log_evidence = normal_log(y, np.ones(t.size), full[np.ix_(seen, seen)])
    assert found.log_evidence == pytest.approx(log_evidence, abs=2e-3)
    level = np.linalg.inv(np.sum(np.linalg.inv(noise_cov[np.ix_(seen, seen)])) + np.array([[0.25]]))[0, 0]
    assert np.std(found.sample(20_000)[:, 1]) == pytest.approx(np.sqrt(level), rel=0.03)


def brute_force(prior: Prior, t: np.ndarray, y: np.ndarray, at: float) -> tuple[float, np.ndarray, float]:
    """(log evidence, (mean, sd) of the curve at a step, mean of log beta T) by sums over a dense grid of everything."""
    time = RunTime.of(prior.hypothesis, t, None)
    axes = [np.linspace(low, high, 101) for low, high in prior.box]
    axes = [(axis[1:] + axis[:-1]) / 2 for axis in axes]
    u = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    log_u = normal_log(u, prior.mean, prior.cov)
    # independent coordinates: the box takes a share of each
    sd = np.sqrt(np.diag(prior.cov))
    low, high = (prior.box.T - prior.mean) / sd
    log_u = log_u - np.sum(np.log(norm.cdf(high) - norm.cdf(low)))
    theta = prior.hypothesis.nonlinear_at(u)
    size = sizes(prior.hypothesis, theta, time)
    X = prior.hypothesis.columns(time.x(t), theta) / size[:, None]
    new = prior.hypothesis.columns(time.x(np.array([at])), theta)[:, 0] / size
    levels = np.linspace(prior.log_sigma[0] - 4 * prior.log_sigma[1], prior.log_sigma[0] + 4 * prior.log_sigma[1], 41)
    area = np.prod([axis[1] - axis[0] for axis in axes]) * (levels[1] - levels[0])
    logs, means, variances = [], [], []
    for log_sigma in levels:
        for length, chance in zip(LENGTHS, prior.lengths, strict=True):
            inverse = np.linalg.inv(covariance(prior, t, np.exp(log_sigma), length))
            A = np.einsum("Nia,ij,Njb->Nab", X, inverse, X) + np.linalg.inv(prior.linear_cov)
            b = np.einsum("Nia,ij,j->Na", X, inverse, y)
            mean = np.linalg.solve(A, b[..., None])[..., 0]
            misfit = y @ inverse @ y - np.einsum("Na,Na->N", b, mean)
            dets = np.linalg.slogdet(inverse)[1] - np.linalg.slogdet(A)[1] - np.linalg.slogdet(prior.linear_cov)[1]
            log_evidence = 0.5 * (dets - misfit - t.size * np.log(2 * np.pi))
            logs.append(log_evidence + log_u + norm.logpdf(log_sigma, *prior.log_sigma) + np.log(chance * area))
            means.append(np.einsum("Na,Na->N", new, mean))
            variances.append(np.einsum("Na,Na->N", new, np.linalg.solve(A, new[..., None])[..., 0]))
    logs, means, variances = np.array(logs), np.array(means), np.array(variances)
    weight = np.exp(logs - logsumexp(logs))
    middle = np.sum(weight * means)
    sd = np.sqrt(np.sum(weight * (variances + (means - middle) ** 2)))
    return float(np.asarray(logsumexp(logs))), np.array([middle, sd]), float(np.sum(weight.sum(axis=0) * u[:, 0]))


@pytest.mark.slow
def test_a_posterior_is_that_of_sums_over_a_dense_grid():
    prior = replace(GIVEN, proportional_share=0.0, cov=np.diag([1.0, 1.5]) ** 2, mean=[1.0, -3.0], linear_cov=np.eye(3))
    t = STEPS[::3]
    drawn = prior.sample(3, t, seed=11)
    found = posterior(t, drawn.y, prior=prior)
    draws = found.quasi_draws()
    for i, y in enumerate(drawn.y):
        log_evidence, (mean, sd), log_beta = brute_force(prior, t, y, at=60_000.0)
        assert found.log_evidence[i] == pytest.approx(log_evidence, abs=0.15)
        curve = prior.hypothesis.values(np.array([60_000.0]), draws[i])[:, 0]
        assert np.mean(curve) == pytest.approx(mean, abs=0.05 * sd)
        assert np.std(curve) == pytest.approx(sd, rel=0.06)
        assert np.mean(np.log(draws[i, :, 0] * t[-1])) == pytest.approx(log_beta, abs=0.06)


def covered(bands, truth):
    return (bands["lower"].values <= truth) & (truth <= bands["upper"].values)


@pytest.mark.parametrize("proportional_share", [0.0, 0.9])
def test_intervals_hold_the_truth_as_often_as_they_say(proportional_share):
    prior = replace(
        GIVEN,
        proportional_share=proportional_share,
        cov=GIVEN.cov / 4,
        linear_cov=np.eye(3) / 4,
        linear_mean=[2.0, -1.0, 1.0],
    )
    drawn = prior.sample(240, STEPS, seed=2)
    found = posterior(STEPS, drawn.y, prior=prior)
    inside = {
        "value": covered(found.value([1000.0], 0.9), drawn.curve[:, STEPS == 1000]),
        "plateau": covered(found.plateau(0.9), drawn.params[:, -1]),
        "tau0": covered(found.interval(0.9).sel(parameter="tau0"), drawn.params[:, 1]),
    }
    seen = STEPS <= 40_000
    early = posterior(STEPS[seen], drawn.y[:, seen], prior=prior, last_step=STEPS[-1])
    inside["forecast"] = covered(early.forecast([143_000.0], 0.9), drawn.y[:, -1:])
    for name, hits in inside.items():
        assert binomtest(int(hits.sum()), hits.size, 0.9).pvalue > 1e-3, (name, hits.mean())


def series() -> np.ndarray:
    rng = np.random.default_rng(5)
    clean = HYPOTHESES["reparam"].values(STEPS, [4e-5, 2000.0, 8.0, -40.0, 12.0])
    return clean + rng.normal(0, 0.03 * np.ptp(clean), (3, STEPS.size))


def test_units_change_nothing_but_units():
    y = series()
    plain = posterior(STEPS, y).forecast([150_000.0])
    # noise that grows with the level is not the same after a shift
    even = replace(Prior.default(), proportional_share=0.0)
    for bound in BOUNDS:
        scaled = posterior(STEPS / 7, 1e5 * y).forecast([150_000.0 / 7])[bound]
        np.testing.assert_allclose(scaled, 1e5 * plain[bound], rtol=1e-6)
        shifted = posterior(STEPS, y + 1000, prior=even).forecast([150_000.0])[bound]
        np.testing.assert_allclose(
            shifted - 1000, posterior(STEPS, y, prior=even).forecast([150_000.0])[bound], rtol=1e-6
        )


def test_order_of_points_and_company_of_series_change_nothing():
    y = series()
    shuffled = np.random.default_rng(0).permutation(STEPS.size)
    whole = posterior(STEPS, y)
    np.testing.assert_allclose(posterior(STEPS[shuffled], y[:, shuffled]).sample(5), whole.sample(5), rtol=1e-6)
    np.testing.assert_allclose(posterior(STEPS, y[1]).interval()["median"], whole.interval()["median"][1], rtol=1e-6)
    by_series = posterior(np.broadcast_to(STEPS, y.shape), y.reshape(3, -1))
    np.testing.assert_allclose(by_series.log_evidence, whole.log_evidence, rtol=1e-9)


def test_a_missing_point_is_as_if_it_had_not_been_measured():
    y = series()
    y[0, [3, 20]] = np.nan
    kept = np.isfinite(y[0])
    with_gaps, without = posterior(STEPS, y), posterior(STEPS[kept], y[0, kept])
    np.testing.assert_allclose(with_gaps.interval()["upper"][0], without.interval()["upper"], rtol=1e-6)
    assert with_gaps.message.tolist() == ["", "", ""]


def test_repeated_points_are_taken():
    y = np.concatenate([series(), series()], axis=1)
    once, twice = posterior(STEPS, series()), posterior(np.tile(STEPS, 2), y)
    assert twice.message.tolist() == ["", "", ""]
    assert np.isfinite(twice.log_evidence).all()
    np.testing.assert_allclose(twice.value([1e5])["median"], once.value([1e5])["median"], rtol=0.05)


def test_what_cannot_be_judged_says_why_and_leaves_the_rest_alone():
    y = series()
    y[0, 2:] = np.nan
    y[0, 1] = np.nan
    y[1, 4] = np.inf
    found = posterior(STEPS, y)
    assert "too few points: 1 finite" in found.message[0]
    assert "infinite" in found.message[1]
    np.testing.assert_array_equal(np.isfinite(found.log_evidence), [False, False, True])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        peak, interval = found.peak(), found.interval()
    assert np.isnan(peak["inside"].values[:2]).all()
    assert np.isnan(interval["median"].values[:2]).all()
    assert np.isfinite(interval["median"].values[2]).all()
    at_once = posterior(np.zeros(4), np.array([1.0, 2.0, 1.5, 1.2]))
    assert "all points are at step 0" in str(at_once.message)


@pytest.mark.parametrize("size", [1e-8, 1e8])
@pytest.mark.parametrize("last", [10.0, 1e7])
def test_any_size_of_steps_and_values_is_handled(size, last):
    t = STEPS / STEPS[-1] * last
    found = posterior(t, size * series()[0])
    bands = found.forecast([1.1 * last])
    assert (bands["lower"] < bands["median"]).item()
    assert (bands["median"] < bands["upper"]).item()
    assert bands["median"].item() == pytest.approx(size * series()[0, -1], rel=0.5)


def test_a_constant_series_has_a_narrow_posterior():
    found = posterior(STEPS, np.full(STEPS.size, 5.0))
    bands = found.value([70_000.0])
    assert abs(bands["median"].item() - 5) < 0.05
    assert not found.message.item()


def test_wrong_arguments_are_refused():
    y = series()
    with pytest.raises(UsageError, match="prior is 'learn'; a prior is learned from finished runs"):
        posterior(STEPS, y, prior="learn")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="the prior is one of step1; the curve is reparam"):
        posterior(STEPS, y, prior=Prior.default("step1"))
    with pytest.raises(UsageError, match="has a penalty"):
        posterior(STEPS, y, hypothesis="reparam_regularized")
    with pytest.raises(UsageError, match="the run's last step is 100, and step 143000 was seen"):
        posterior(STEPS, y, last_step=100)
    with pytest.raises(UsageError, match="level is 90"):
        posterior(STEPS, y[0]).forecast([150_000.0], level=90)
    with pytest.raises(UsageError, match="a step is -5"):
        posterior(STEPS, y[0]).value([-5.0])
    with pytest.raises(UsageError, match="not known what custom tends to"):
        posterior(STEPS, y[0], hypothesis=constant_model()).plateau()
    with pytest.raises(UsageError, match="not positive definite"):
        replace(GIVEN, cov=np.zeros((2, 2)))


def test_every_hypothesis_and_an_own_curve_have_posteriors():
    y = series()[0]
    for name, hypothesis in HYPOTHESES.items():
        if hypothesis.penalty is not None:
            continue
        found = posterior(STEPS, y, hypothesis=name)
        assert found.sample(3).shape == (3, hypothesis.num_params)
        bands = found.value(STEPS)
        assert np.isfinite(bands["median"]).all(), name
    own = SeparableModel(
        lambda x, rate: np.stack([np.exp(-np.multiply.outer(rate, x)), np.ones((*np.shape(rate), len(x)))], axis=-1),
        nonlinear={"rate": (1e-8, 1e-2)}, linear=("height", "floor"),
    )  # fmt: skip
    bands = posterior(STEPS - 500, y, hypothesis=own).value(STEPS - 500)
    assert np.mean((bands["median"].values - y) ** 2) < np.var(y)


def test_the_parameters_of_an_own_curve_are_those_of_its_values():
    """Values far from 0: nothing that was subtracted from them is missing in the parameters."""
    own = SeparableModel(
        lambda x, rate: np.stack([np.exp(-np.multiply.outer(rate, x)), np.ones((*np.shape(rate), len(x)))], axis=-1),
        nonlinear={"rate": (1e-2, 1e2)}, linear=("height", "floor"),
    )  # fmt: skip
    x = np.linspace(0, 10, 40)
    found = posterior(x, 5 * np.exp(-0.5 * x) + 20 + 0.02 * np.sin(7 * x), own)
    assert found.interval()["median"].values == pytest.approx([0.5, 5, 20], rel=0.01)
    assert own.values([3.0], found.sample(400)).mean() == pytest.approx(found.value([3.0])["median"].item(), rel=1e-3)
    with pytest.raises(UsageError, match="no K that takes up a shift"):
        Prior.default(own).given(center=20.0)


def test_original_is_reparam_in_other_parameters():
    y = series()[0]
    original, reparam = posterior(STEPS, y, hypothesis="original"), posterior(STEPS, y)
    assert original.log_evidence == reparam.log_evidence
    np.testing.assert_array_equal(original.forecast([2e5])["upper"], reparam.forecast([2e5])["upper"])
    draws = original.sample(50)
    exists = np.isfinite(draws).all(axis=1)
    np.testing.assert_allclose(
        HYPOTHESES["original"].values(STEPS, draws[exists]),
        HYPOTHESES["reparam"].values(STEPS, reparam.sample(50)[exists]),
        rtol=1e-6,
        atol=1e-6,
    )


def test_the_peak_is_where_the_draws_have_it():
    y = series()
    found = posterior(STEPS, y)
    peak, draws = found.peak(0.8), found.quasi_draws()
    assert draws.shape == (3, COMPONENTS * DRAWS, 5)
    fine = np.linspace(0, STEPS[-1], 4001)
    for i in range(3):
        curves = HYPOTHESES["reparam"].values(fine, draws[i])
        at = np.argmax(curves, axis=1)
        inside = (at > 0) & (at < fine.size - 1)
        assert peak["inside"].values[i] == pytest.approx(inside.mean(), abs=0.01)
        lower, upper = np.quantile(fine[at[inside]], (0.1, 0.9))
        assert peak["lower"].sel(quantity="step").values[i] == pytest.approx(lower, abs=200)
        assert peak["upper"].sel(quantity="step").values[i] == pytest.approx(upper, abs=200)
    assert (peak["ahead"].values == 0).all()


def test_draws_are_reproducible_and_spread_like_the_components():
    found = posterior(STEPS, series())
    np.testing.assert_array_equal(found.sample(10, seed=3), found.sample(10, seed=3))
    assert not np.array_equal(found.sample(10, seed=3), found.sample(10, seed=4))
    curves = HYPOTHESES["reparam"].values([50_000.0], found.sample(4000, seed=1))[..., 0]
    bands = found.value([50_000.0], 0.9)
    np.testing.assert_allclose(np.quantile(curves, 0.95, axis=1), bands["upper"].values[:, 0], rtol=0.02)
