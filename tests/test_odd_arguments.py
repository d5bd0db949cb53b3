"""Arguments of a wrong kind: whatever is given where a number, a name or a list is expected gives one short line."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import madyn
from madyn.errors import MadynError, UsageError, check_range, listed, one_of, quoted
from madyn.lab import Recipe
from tiny import write_dataset

T = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000, 4000, 5000.0])
Y = 500 * (1 - np.exp(-T / 300)) + 8 * np.random.default_rng(0).standard_normal((3, 16))
BOX = {"k": (1e-3, 1.0)}

ODD = {
    "nan": np.nan, "inf": np.inf, "text": "abc", "bytes": b"x", "2^70": 2**70, "10^400": 10**400, "-2^70": -(2**70),
    "complex": 1j, "masked": np.ma.masked, "masked row": np.ma.array([1.0, 2.0], mask=[False, True]), "truth": True,
    "row": np.zeros(3), "table": np.zeros((3, 4)), "block": np.zeros((2, 3, 4)), "none of them": np.zeros((0, 3)),
    "objects": np.array([1, None], object), "uint64": np.array([2**64 - 1], np.uint64), "date": pd.NaT,
    "frame": pd.DataFrame(), "record": {"a": 10**5000}, "set": {1.5}, "function": len, "numbers": [1.5, 2],
    "tiny": 5e-324,
}  # fmt: skip


@pytest.fixture(scope="module")
def fits():
    return madyn.fit_curves(T, Y, "step1")


@pytest.fixture(scope="module")
def post():
    return madyn.posterior(T, Y, "step1", last_step=6000)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return madyn.open_dataset(write_dataset(tmp_path_factory.mktemp("odd"), models=("m",), steps=(0, 1, 2, 4)))


CALLS = {
    "seed of a prior": lambda odd, **_: _["post"].prior.sample(1, T, odd),
    "series of a prior": lambda odd, **_: _["post"].prior.sample(odd, [0.0], 0, 10),
    "last step of a prior": lambda odd, **_: _["post"].prior.sample(2, T, 0, odd),
    "draws": lambda odd, **_: _["post"].sample(odd),
    "prior": lambda odd, **_: madyn.posterior(T, Y, "step1", odd),
    "folds": lambda odd, **_: madyn.curves.kfold_scores(T, Y, "step1", odd),
    "index": lambda odd, **_: _["fits"].summary(odd),
    "dims": lambda odd, **_: _["fits"].to_dataset(odd),
    "coords": lambda odd, **_: _["fits"].to_dataset(["s"], odd),
    "hypothesis": lambda odd, **_: madyn.fit_curves(T, Y, odd),
    "sequences": lambda odd, **_: madyn.sweep.Probe("stdlib", odd),
    "length": lambda odd, **_: madyn.sweep.Probe("stdlib", 1, odd),
    "positions left out": lambda odd, **_: madyn.sweep.Probe(exclude_positions=odd),
    "groups of positions": lambda odd, **_: madyn.sweep.Probe(positions=odd),
    "dtype": lambda odd, **_: madyn.sweep.Settings(dtype=odd),
    "batch size": lambda odd, **_: madyn.sweep.Settings(batch_size=odd),
    "downloads to keep": lambda odd, **_: madyn.sweep.Settings(keep_cache=odd),
    "learning rate": lambda odd, **_: Recipe(learning_rate=odd),
    "steps of a recipe": lambda odd, **_: Recipe(steps=odd),
    "step of a rate": lambda odd, **_: Recipe().rate(odd),
    "nonlinear": lambda odd, **_: madyn.curves.SeparableModel(len, odd, ["A"]),
    "linear": lambda odd, **_: madyn.curves.SeparableModel(len, BOX, odd),
    "points": lambda odd, **_: madyn.curves.SeparableModel(len, BOX, ["A"], points=odd),
    "linear scale": lambda odd, **_: madyn.curves.SeparableModel(len, BOX, ["A"], linear_scale=odd),
    "models": lambda odd, **_: _["dataset"].select(odd),
    "model": lambda odd, **_: _["dataset"].steps(odd),
    "quantity": lambda odd, **_: _["dataset"].trajectories("m", odd),
    "quantity of fits": lambda odd, **_: _["dataset"].fits("m", odd),
    "ratio of": lambda odd, **_: _["dataset"].trajectories("m", "ratio", odd),
}
# What may be given all the same: a number that is one, a list of nothing, a record for its names.
FINE = {
    ("last step of a prior", "tiny"), ("last step of a prior", "2^70"), ("learning rate", "tiny"),
    ("learning rate", "2^70"), ("points", "frame"), ("points", "none of them"), ("linear scale", "none of them"),
    ("linear scale", "frame"), ("models", "none of them"), ("models", "frame"), ("dims", "record"),
    ("coords", "record"), ("linear", "record"),
}  # fmt: skip


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("kind", ODD)
def test_an_argument_of_a_wrong_kind_is_one_short_line(fits, post, dataset, what, kind):
    said = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            CALLS[what](ODD[kind], fits=fits, post=post, dataset=dataset)
        except MadynError as e:
            said = str(e)
    if said is None:
        assert (what, kind) in FINE
    else:
        assert "\n" not in said
        assert len(said) < 400


def test_what_is_right_is_taken(fits, post, dataset):
    assert fits.summary(-1) == fits.summary(2) == fits.summary((np.int64(2),))
    assert list(fits.to_dataset(["run"], {"run": ["a", "b", "c"]})["run"].values) == ["a", "b", "c"]
    assert post.prior.sample(2, 0.0, 0, 6000).y.shape == (2, 1)
    assert post.prior.sample(2, T, 0, 6000).y.shape == (2, 16)
    three: Any = np.int32(3)
    assert madyn.sweep.Probe("stdlib", three).sequences == 3
    assert Recipe().rate(three) == Recipe().rate(3)
    assert madyn.curves.SeparableModel(len, BOX, ["A"], points=[5]).grid_points == (5,)
    assert dataset.select("m").models == ["m"]


@pytest.mark.parametrize("args", [(2, []), (0, T), (2**70, T), (2, T, 0, 4000)])
def test_a_prior_draws_at_least_one_point_within_the_run(post, args):
    with pytest.raises(UsageError):
        post.prior.sample(*args)


def test_the_helpers():
    assert check_range("n", np.uint8(3), 1, 3) == 3
    assert one_of("kind", "a", ("a", "b")) == "a"
    assert listed("names", "a") == ["a"]
    assert listed("names", iter("ab")) == ["a", "b"]
    for given in (3.0, True, "3", [3], None, 4, 0):
        with pytest.raises(UsageError, match=r"n is .*; it is a whole number from 1 to 3"):
            check_range("n", given, 1, 3)
    for given in ("c", 3, np.array(["a", "b"]), None):
        with pytest.raises(UsageError, match="it is one of a, b"):
            one_of("kind", given, ("a", "b"))
    with pytest.raises(UsageError, match="names is 3; expected a list"):
        listed("names", 3)


QUOTED = {
    "an array": np.zeros((3, 4)), "a frame": pd.DataFrame(), "lines": "a\nb", "a long text": "x" * 10**6,
    "a huge number": 10**5000, "one in a list": [10**5000], "escape codes": {1: "\x1b[31m"},
}  # fmt: skip


@pytest.mark.parametrize("value", QUOTED.values(), ids=QUOTED)
def test_a_value_is_quoted_on_one_short_line(value):
    assert len(quoted(value)) <= 83
    assert quoted(value).isprintable()


def test_steps_of_many_axes_are_one_line(tmp_path):
    with pytest.raises(UsageError) as caught:
        madyn.trace("xx", tmp_path / "d", steps=np.zeros((2, 3, 4)), load=str, inputs=[[1, 2, 3]])
    assert "\n" not in str(caught.value)
