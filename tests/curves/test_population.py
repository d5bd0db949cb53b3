"""Populations of runs: what they are learned from, what they say of a young run, and what they refuse."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from madyn.curves.population.courses import CURVE, curves_through
from madyn.curves.population.learning import FinishedRun, learn_population
from madyn.curves.population.outlook import any_exceeds, look_ahead
from madyn.errors import SeriesError, UsageError

SHARES = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 25)])
END = 4000.0


def drawn(count: int, seed: int, layers: int = 3) -> list[FinishedRun]:
    """Runs whose logarithms rise by a slope of their own in the logarithm of the step, and bend down at the end."""
    rng = np.random.default_rng(seed)
    runs = []
    for i in range(count):
        slope, fall = rng.normal(0.4, 0.15), rng.normal(0.3, 0.2)
        own = rng.normal(slope, 0.05, (layers, 1))
        logs = rng.normal(0, 2, (layers, 1)) + own * np.log(SHARES + 1e-3) - fall * SHARES
        logs += 0.03 * rng.normal(size=logs.shape)
        runs.append(FinishedRun(END * SHARES, np.exp(logs), (f"kind {i % 5}",)))
    return runs


@pytest.fixture(scope="module")
def population():
    return learn_population(SHARES, [drawn(40, seed=0)])


def young(run: FinishedRun, share: float = 0.3):
    seen = share >= SHARES
    return run.steps[seen], run.values[:, seen], run.steps[~seen], run.values[:, ~seen]


def test_bands_hold_what_comes_as_often_as_they_say(population):
    inside = {level: [] for level in (0.5, 0.9, 0.99)}
    errors, carried = [], []
    for run in drawn(60, seed=1):
        t, y, later, truth = young(run)
        outlook = look_ahead(population, t, y, END)
        bands = outlook.forecast(later)
        errors.append(np.abs(bands["median"] - truth) / truth)
        for level, hits in inside.items():
            bands = outlook.forecast(later, level)
            hits.append((bands["lower"] <= truth) & (truth <= bands["upper"]))
        carried.append(np.abs(y[:, -1:] - truth) / truth)
    assert np.mean(inside[0.5]) == pytest.approx(0.5, abs=0.08)
    assert np.mean(inside[0.9]) == pytest.approx(0.9, abs=0.04)
    assert np.mean(inside[0.99]) == pytest.approx(0.99, abs=0.01)
    assert np.median(errors) < 0.5 * np.median(carried)


def test_thresholds_are_passed_as_often_as_is_said(population):
    said, came = [], []
    for run in drawn(120, seed=2):
        t, y, _, truth = young(run, 0.2)
        level = y[0, -1]
        said.append(look_ahead(population, t, y, END).exceed(level * np.array([1.2, 1.5, 2.0]))[0])
        came.append(np.max(truth[0]) > level * np.array([1.2, 1.5, 2.0]))
    said, came = np.array(said), np.array(came)
    assert np.mean((said - came) ** 2) < 0.7 * np.mean(came) * (1 - np.mean(came))
    for low, high in ((0, 0.2), (0.2, 0.8), (0.8, 1)):
        own = (said >= low) & (said <= high)
        assert own.sum() > 15
        assert said[own].mean() == pytest.approx(came[own].mean(), abs=0.12)


def test_the_unit_of_values_does_not_matter(population):
    t, y, later, _ = young(drawn(1, seed=3)[0])
    one, other = (look_ahead(population, t, scale * y, END) for scale in (1.0, 1e6))
    np.testing.assert_allclose(other.forecast(later)["upper"], 1e6 * one.forecast(later)["upper"], rtol=1e-6)
    np.testing.assert_allclose(other.exceed([3e6]), one.exceed([3.0]), atol=1e-6)
    np.testing.assert_allclose(other.plateau()["median"], 1e6 * one.plateau()["median"], rtol=0.05)
    np.testing.assert_allclose(other.peak()["inside"], one.peak()["inside"], atol=1e-9)


def test_a_run_unlike_the_population_gets_wider_bands(population):
    t, y, later, _ = young(drawn(1, seed=4)[0])
    usual = look_ahead(population, t, y, END).forecast(later)
    wild = look_ahead(population, t, y * np.exp(0.6 * (-1.0) ** np.arange(t.size)), END).forecast(later)
    width = lambda bands: float(np.log(bands["upper"] / bands["lower"]).mean())  # noqa: E731
    assert width(wild) > 2 * width(usual)


def test_missing_and_broken_points(population):
    t, y, later, _ = young(drawn(1, seed=5)[0])
    y = np.concatenate([y, y[:1]])
    y[1, 4], y[2, :-1], y[3, 2] = np.nan, np.nan, 0.0
    outlook = look_ahead(population, t, y, END)
    assert list(outlook.message[:2]) == ["", ""]
    assert outlook.message[2] == "too few points: 1 finite; an outlook needs 2"
    assert "a value is 0: a population is one of logarithms" in outlook.message[3]
    bands = outlook.forecast(later)
    assert np.isfinite(bands["median"].values[:2]).all()
    assert np.isnan(bands["median"].values[2:]).all()
    assert np.isnan(outlook.exceed([1.0])[2:]).all()
    assert np.isnan(outlook.peak()["inside"].values[2:]).all()
    order = np.random.default_rng(0).permutation(t.size)
    shuffled = look_ahead(population, t[order], y[:, order], END).forecast(later)
    np.testing.assert_allclose(shuffled["median"][:2], bands["median"][:2])


def test_a_curve_through_a_course_is_the_one_that_it_was_drawn_from():
    x = np.concatenate([[0.0], np.geomspace(1e-3, 1, 30)])
    axes = [low + (high - low) * (3 + 0.5) / 8 for low, high in CURVE.search_box]
    theta = CURVE.nonlinear_at(np.array(axes))
    params = np.concatenate([theta, CURVE.combine_matrix(theta) @ np.array([2.0, -1.0, 3.0])])
    found = curves_through(x, CURVE.values(x, params)[np.newaxis])
    np.testing.assert_allclose(found[0], params, rtol=1e-6)


def test_layers_that_go_together_pass_together():
    chances = np.full((4, 1), 0.2)
    assert any_exceeds(chances, 0.0)[0] == pytest.approx(1 - 0.8**4, abs=1e-6)
    assert 0.2 < any_exceeds(chances, 0.9)[0] < any_exceeds(chances, 0.5)[0] < 1 - 0.8**4
    factor = np.random.default_rng(0).normal(size=(400_000, 1))
    own = np.random.default_rng(1).normal(size=(400_000, 4))
    passed = np.any(np.sqrt(0.5) * (factor + own) > norm.ppf(0.8), axis=1)
    assert any_exceeds(chances, 0.5)[0] == pytest.approx(passed.mean(), abs=0.005)
    assert any_exceeds(np.array([[1.0], [0.1], [np.nan]]), 0.5)[0] == 1.0
    assert any_exceeds(np.array([[0.0], [0.0]]), 0.5)[0] == 0.0


def test_what_is_no_population_is_refused(population):
    for change, said in (
        ({"shares": SHARES[::-1]}, "ascend from 0 to 1"), ({"mean": np.zeros(3)}, "mean has shape"),
        ({"cov": -np.eye(SHARES.size)}, "no covariance matrix"), ({"dof": 2.0}, "dof is 2, which is out of its range"),
        ({"widening": 0.0}, "widening is 0"), ({"growth": -0.1}, "growth is -0.1"),
        ({"firmness": 0.0}, "firmness is 0"), ({"together": 1.0}, "together is 1"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            replace(population, **change)
    with pytest.raises(SeriesError, match="at least 4 finished runs, and there are 3"):
        learn_population(SHARES, [drawn(3, seed=0)])
    run = drawn(1, seed=0)[0]
    with pytest.raises(UsageError, match="not above 0"):
        learn_population(SHARES, [[*drawn(5, seed=0), FinishedRun(run.steps, 0 * run.values, ("flat",))]])
    outlook = look_ahead(population, [0, 10], [[1.0, 2.0]], END)
    for wrong in (lambda: outlook.forecast([5000]), lambda: outlook.exceed([-1.0]), lambda: outlook.forecast([20], 1.0),
                  lambda: look_ahead(population, [0, 10], [1.0, 2.0], END),
                  lambda: look_ahead(population, [0, 10], [[1.0, 2.0]], 5)):  # fmt: skip
        with pytest.raises(UsageError):
            wrong()
