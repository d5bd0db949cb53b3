"""tiny-suite as it is shipped: that it is what its suite file declares, and what was promised of it."""

from collections import Counter

import numpy as np
import pytest

import madyn
from madyn.dataset import layout
from madyn.dataset.shipped import _ARCHIVE, _data
from madyn.effects import model_responses
from madyn.lab import read_suite
from madyn.lab.suites import design_correlation


@pytest.fixture(scope="module")
def suite():
    return read_suite("tiny-suite")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("madyn.dataset.shipped._cache", lambda: tmp_path_factory.mktemp("cache"))
        yield madyn.open_dataset("tiny-suite")


def test_it_is_a_few_megabytes():
    assert len((_data() / f"tiny-suite{_ARCHIVE}").read_bytes()) < 8e6


def test_every_model_of_the_suite_file_is_there_and_complete(tiny, suite):
    assert sorted(tiny.models) == sorted(run.name for run in suite.runs())
    for run in suite.runs():
        record = tiny.training(run.name)
        assert record.complete
        assert record.failure is None
        assert record.plan["blueprint"] == run.blueprint.to_dict()
        assert record.plan["seed"] == run.seed
        assert record.plan["recipe"]["steps"] == suite.recipe.steps
        assert list(record.losses) == suite.measured_steps == tiny.steps(run.name)
        assert tiny.statistics(run.name).shape[1:] == (10, 4, run.blueprint.num_hidden_layers)


def test_it_keeps_its_promises(tiny, suite):
    shapes = {
        (a.hidden_size, a.num_hidden_layers, a.num_attention_heads, a.intermediate_size)
        for a in map(tiny.architecture, tiny)
    }
    assert len(shapes) >= 40
    seeds = Counter(tiny.architecture(model) for model in tiny)
    assert sum(count >= 3 for count in seeds.values()) >= 6
    assert design_correlation(suite.runs()) < 0.2
    assert len(suite.measured_steps) >= 30
    growth = model_responses(tiny)["growth of the ratio"]
    assert np.median(growth) >= 3


def test_it_passes_its_check(tiny):
    report = madyn.checking.check_dataset(tiny.path)
    assert report.faults == []
    assert any("not fitted yet" in absence for absence in report.absences)  # params/ are made by `madyn fit`
    assert not any(layout.PARAMETER_TABLE in absence for absence in report.absences)


def test_its_table_is_that_of_its_layers(tiny):
    table = tiny.parameters
    assert len(table) == sum(tiny.statistics(model).sizes["layer"] for model in tiny)
    assert np.isfinite(table["param_K"]).mean() > 0.99


def test_its_text_and_licence_are_told(tiny):
    assert "MIT" in (tiny.path / "LICENSE").read_text()
    record = tiny.training(tiny.models[0])
    assert record.plan["text"]["source"] == "stdlib#train"
    assert len(record.plan["text"]["sha256"]) == 64
    unit = tiny.units(tiny.models[0])[0]
    assert unit.versions["torch"]
    assert unit.threads == 1
