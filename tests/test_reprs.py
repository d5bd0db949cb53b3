"""What an object says of itself at a prompt: three lines, and what to call next."""

import re

import numpy as np
import pytest

import madyn
from madyn.curves.hypotheses.registry import HYPOTHESES
from tiny import write_dataset, write_family

T = np.arange(0, 30_000, 1000.0)
RISE = 7 * (1 - np.exp(-T / 5000)) + 0.1 * np.sin(T)


def check_repr(value):
    said = repr(value)
    assert said.startswith(f"<madyn {type(value).__name__}")
    assert said.endswith(">")
    assert len(said) < 500
    assert said.count("\n") < 3
    assert " at 0x" not in said
    return said


def test_of_fits():
    several = madyn.fit_curves(T, np.stack([RISE, 2 * RISE, np.full_like(RISE, np.nan)]), hypothesis="step1")
    said = check_repr(several)
    assert "Fits of step1 by varpro\n 3 series of 0 to 30 points, 2 fitted, 0 on an edge of the box; R2 0.99" in said
    assert "one series of 30 to 30 points, 1 fitted" in check_repr(madyn.fit_curves(T, RISE, hypothesis="step1"))
    assert "0 fitted, 0 on an edge of the box; no R2" in check_repr(madyn.fit_curves(T, np.full_like(T, np.nan)))
    empty = madyn.fit_curves(T, np.empty((0, len(T))), hypothesis="step1")
    assert "0 series of no points, 0 fitted" in check_repr(empty)


def test_of_posteriors_and_priors():
    found = madyn.posterior(T, np.stack([RISE, RISE]), hypothesis="step1")
    assert "Posterior of step1, prior: default\n 2 series, 2 with a posterior" in check_repr(found)
    assert "Prior of step1: default" in check_repr(found.prior)


@pytest.mark.parametrize("name", sorted(HYPOTHESES))
def test_of_curves(name):
    said = check_repr(HYPOTHESES[name])
    for parameter in HYPOTHESES[name].param_names:
        assert re.search(rf"\b{parameter}\b", said)


def test_of_datasets_and_what_is_made_of_them(tmp_path):
    names = tuple(f"net_{number}" for number in range(30))
    dataset = madyn.open_dataset(write_dataset(tmp_path / "d", models=names, steps=(0, 1, 2, 4, 8, 16)))
    said = check_repr(dataset)
    assert "30 models: net_0, net_1, net_10, net_11, net_12, ... (24 more), net_9" in said
    with pytest.raises(madyn.MadynError, match=r"no model 'x'; it has net_0, .* \(24 more\), net_9$"):
        dataset.select("x")
    compared = madyn.compare(dataset.select("net_1"), hypotheses=["step1"])
    assert "Comparison of the ratio: 3 layers of 1 models\n step1" in check_repr(compared)
    assert "0 faults, 0 remarks, 181 absences" in check_repr(madyn.checking.check_dataset(dataset.path))
    drawing = madyn.draw_figures(dataset, models="net_1", only="*/series/ratio.png", out=tmp_path / "o", jobs=1, dpi=20)
    assert "Drawing: 1 drawn, 0 unchanged, 0 left out, 0 failed" in check_repr(drawing)


def test_of_predictors_and_designs(tmp_path):
    assert "not fitted" in check_repr(madyn.Predictor())
    dataset = write_family(tmp_path, count=8, repeated=0)
    predictor = madyn.Predictor().fit(dataset)
    assert "layers of 8 architectures that differ in hidden size, layers" in check_repr(predictor)
    assert "lowest max ratio against held-out loss" in check_repr(madyn.design(predictor, minimize="max ratio"))
    evaluation = madyn.evaluate(dataset, approaches=["nearest"], jobs=1)
    assert "on 8 architectures\n architecture left out" in check_repr(evaluation)


def test_of_suites_and_reports(tmp_path):
    assert "Suite pythia: 9 models of EleutherAI, pythia-14m to pythia-12b" in check_repr(madyn.PYTHIA)
    assert "LabSuite tiny-suite: 162 models" in check_repr(madyn.lab.read_suite("tiny-suite"))
    assert "1 measured, 0 already there, 0 failed: net" in check_repr(
        madyn.sweep.TraceReport(tmp_path, measured=[("net", 3)])
    )
    assert "1 trained, 0 complete before, 1 failed: a, b" in check_repr(
        madyn.lab.LabReport(tmp_path, trained=["a"], failures={"b": "it diverged"})
    )
