"""Prediction errors at points held out, against doing it by hand, one fit at a time."""

import numpy as np
import pytest

from madyn.curves import holdout_scores, kfold_scores
from madyn.curves.fitting.fits import fit_curves
from madyn.curves.hypotheses.registry import HYPOTHESES
from madyn.errors import UsageError

STEPS = np.array([0, 1, 2, 4, 8, 16, 32, 64, *range(100, 2001, 100)], float)
TRUE = (1e-3, 30.0, 6.0, -15.0, 40.0)


def noisy(series: int = 2, share: float = 0.03, seed: int = 0) -> np.ndarray:
    clean = HYPOTHESES["reparam"].values(STEPS, TRUE)
    return clean + np.random.default_rng(seed).normal(0, share * np.ptp(clean), (series, STEPS.size))


def by_hand(t: np.ndarray, y: np.ndarray, held: list[np.ndarray], model: str) -> float:
    off = []
    for points in held:
        kept = np.setdiff1d(np.arange(len(t)), points)
        off.append(fit_curves(t[kept], y[kept], model).predict(t[points]) - y[points])
    return float(np.sqrt(np.mean(np.concatenate(off) ** 2)) / np.std(y))


def test_the_right_curve_predicts_exact_data_and_a_wrong_one_does_not():
    y = HYPOTHESES["reparam"].values(STEPS, TRUE)
    for scores in (kfold_scores, holdout_scores):
        assert scores(STEPS, y, "reparam").error < 1e-6
        assert scores(STEPS, y, "step1").error > 0.1


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_each_inner_point_is_held_out_once(folds):
    y = noisy()
    found = kfold_scores(STEPS, y, "reparam", folds=folds)
    inner = np.arange(1, len(STEPS) - 1)
    expected = [by_hand(STEPS, row, [inner[k::folds] for k in range(folds)], "reparam") for row in y]
    np.testing.assert_allclose(found.error, expected, rtol=1e-6)
    assert (found.message == "").all()


@pytest.mark.parametrize(("share", "count"), [(0.2, 6), (0.5, 14), (0.01, 1)])
def test_the_last_points_are_predicted_from_those_before(share, count):
    y = noisy()
    expected = [by_hand(STEPS, row, [np.arange(len(STEPS) - count, len(STEPS))], "logistic_log") for row in y]
    np.testing.assert_allclose(holdout_scores(STEPS, y, "logistic_log", share).error, expected, rtol=1e-6)


@pytest.mark.parametrize("scores", [kfold_scores, holdout_scores])
def test_order_missing_points_and_steps_by_series_change_nothing(scores):
    y = noisy(1)[0]
    expected = scores(STEPS[3:], y[3:], "reparam").error
    gone = np.where(np.arange(len(STEPS)) < 3, np.nan, y)
    mixed = np.random.default_rng(1).permutation(len(STEPS))
    np.testing.assert_allclose(scores(STEPS, gone, "reparam").error, expected, rtol=1e-6)
    np.testing.assert_allclose(scores(STEPS[mixed], gone[mixed], "reparam").error, expected, rtol=1e-6)
    own = np.stack([STEPS, STEPS * 3])
    both = scores(own, np.stack([gone, gone]), "reparam").error
    np.testing.assert_allclose(both, [expected, expected], rtol=1e-6)


@pytest.mark.parametrize("scores", [kfold_scores, holdout_scores])
def test_a_series_without_a_fit_has_no_error_and_says_why(scores):
    y = np.stack([noisy(1)[0], np.full(len(STEPS), 3.0), np.where(np.arange(len(STEPS)) < 5, 1.0 + STEPS, np.nan)])
    found = scores(STEPS, y, "reparam")
    assert np.isfinite(found.error).tolist() == [True, False, False]
    assert found.message[0] == ""
    assert "constant" in found.message[1]
    assert "points" in found.message[2]


def test_leading_shape_is_kept():
    y = noisy(6).reshape(2, 3, -1)
    assert kfold_scores(STEPS, y, "step1").error.shape == (2, 3)
    assert holdout_scores(STEPS, y[0, 0], "step1").error.shape == ()


def test_what_cannot_be_asked_is_refused():
    y = noisy(1)
    with pytest.raises(UsageError, match="two or more"):
        kfold_scores(STEPS, y, folds=1)
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(UsageError, match="between 0 and 1"):
            holdout_scores(STEPS, y, share=share)
    with pytest.raises(UsageError, match="unknown hypothesis"):
        kfold_scores(STEPS, y, "cubic")
