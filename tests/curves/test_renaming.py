"""Old words: they work, say what to write, and are refused beside the new ones."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from madyn import curves
from madyn.errors import UsageError

T = np.arange(0, 30_000, 1000.0)
Y = 7 * (1 - np.exp(-T / 5000)) + 0.1 * np.sin(T)
RUNS = np.stack([scale * Y for scale in (0.8, 1.0, 1.2, 1.5)])

CALLS = {
    "fit_curves": lambda **word: curves.fit_curves(T, Y, **word).popt,
    "kfold_scores": lambda **word: curves.kfold_scores(T, Y, **word).error,
    "holdout_scores": lambda **word: curves.holdout_scores(T, Y, **word).error,
    "posterior": lambda **word: curves.posterior(T, Y, **word).log_evidence,
    "learn_prior": lambda **word: curves.learn_prior(T, RUNS, runs=list("abcd"), seen=10_000, **word).linear_mean,
    "Prior.default": lambda **word: curves.Prior.default(**word).mean,
    "curve_quantities": lambda **word: (
        curves.curve_quantities(params=[5000.0, 7.0], last_step=30_000, **word)["half_rise_step"].values
    ),
    "quantity_intervals": lambda **word: (
        curves.quantity_intervals(draws=[[5000.0, 7.0], [6000.0, 7.0]], last_step=30_000, **word)["top"].values
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_old_keyword_gives_the_same_and_says_what_to_write(name):
    with pytest.warns(DeprecationWarning, match=rf"write {name}\(hypothesis=\.\.\.\)") as told:
        found = CALLS[name](model="step1")
    assert told[0].filename == __file__
    np.testing.assert_array_equal(found, CALLS[name](hypothesis="step1"))


@pytest.mark.parametrize("name", CALLS)
def test_both_keywords_are_one_too_many(name):
    with pytest.raises(UsageError, match=rf"{name} was given hypothesis and model"):
        CALLS[name](model="step1", hypothesis="step1")


def test_the_old_keyword_beside_the_position_of_the_new_one_is_refused():
    old: dict[str, Any] = {"model": "step1"}
    with pytest.raises(UsageError, match="given hypothesis and model"):
        curves.fit_curves(T, Y, "reparam", **old)


def test_several_curves_are_hypotheses():
    old: dict[str, Any] = {"models": ["step1", "reparam"]}
    with pytest.warns(DeprecationWarning, match=r"write fit_each\(hypotheses="):
        found = curves.fit_each(T, Y, **old)
    assert [fits.hypothesis.name for fits in found] == ["step1", "reparam"]


def test_a_prior_is_made_with_the_old_word_too():
    prior = curves.Prior.default("step1")
    fields: dict[str, Any] = {field.name: getattr(prior, field.name) for field in dataclasses.fields(prior)}
    fields["model"], fields["growth"] = fields.pop("hypothesis"), 0.25
    del fields["proportional_share"]
    with pytest.warns(DeprecationWarning, match="write Prior"):
        again = curves.Prior(**fields)
    assert again.hypothesis is prior.hypothesis
    assert again.proportional_share == 0.25


@pytest.mark.parametrize("thing", [curves.fit_curves(T, Y, "step1"), curves.posterior(T, Y, "step1"),
                                   curves.Prior.default("step1")], ids=lambda thing: type(thing).__name__)  # fmt: skip
def test_the_old_attribute_is_there(thing):
    with pytest.warns(DeprecationWarning, match=rf"write {type(thing).__name__}.hypothesis; model is the old word"):
        found = getattr(thing, "model")  # noqa: B009  a type checker knows the new word alone
    assert found is thing.hypothesis


def test_an_unknown_keyword_is_still_unknown():
    unknown: dict[str, Any] = {"modle": "step1"}
    with pytest.raises(TypeError, match="modle"):
        curves.fit_curves(T, Y, **unknown)
