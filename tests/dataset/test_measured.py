"""What counts as measured, which `trace`, `show` and `check` agree on, and what a failure to measure again leaves."""

from __future__ import annotations

import json
import shutil

import pytest

import madyn
from madyn.dataset import layout, manifest, seals
from madyn.dataset.files import write_json
from madyn.summaries import dataset_contents
from tiny import TEXT, save_checkpoints

MODEL = "tiny_net"


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A folder with a run of two checkpoints, the text, and the dataset that was measured of them."""
    folder = tmp_path_factory.mktemp("traced")
    save_checkpoints(folder / "tiny-net", (0, 1))
    (folder / "book.txt").write_text(TEXT)
    madyn.trace(folder / "tiny-net", folder / "data", probe=probe(folder))
    return folder


@pytest.fixture
def here(traced, tmp_path):
    return shutil.copytree(traced, tmp_path / "here")


def probe(folder):
    return madyn.sweep.Probe(str(folder / "book.txt"), sequences=2, length=12)


def trace(folder):
    return madyn.trace(folder / "tiny-net", folder / "data", probe=probe(folder))


def step_1(folder):
    root = folder / "data"
    return layout.statistics_path(root, MODEL, 1), layout.manifest_path(root, MODEL, 1)


def faults(folder):
    return madyn.checking.check_dataset(folder / "data").faults


def is_complete(folder):
    return dataset_contents(madyn.open_dataset(folder / "data"))["models"][0]["complete"]


def change_a_digit(path):
    path.write_text(path.read_text().replace("1", "2", 1))


def cut_weights(folder):
    path = folder / "tiny-net" / "step1" / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    return lambda: path.write_bytes(whole)


def test_a_failure_to_measure_again_keeps_what_is_known(here):
    statistics, _ = step_1(here)
    whole, known = statistics.read_bytes(), manifest.read_units(here / "data", MODEL)[1]
    change_a_digit(statistics)
    changed = statistics.read_bytes()
    mend = cut_weights(here)
    assert [unit.step for unit in trace(here).failures] == [1]
    unit = manifest.read_units(here / "data", MODEL)[1]
    assert unit.failure is not None
    assert "model.safetensors" in unit.failure
    assert (unit.statistics_sha256, unit.architecture) == (known.statistics_sha256, known.architecture)
    assert statistics.read_bytes() == changed
    assert not is_complete(here)
    assert any(f"{statistics}: not what was measured" in fault for fault in faults(here))
    mend()
    assert trace(here).measured == [(MODEL, 1)]
    assert statistics.read_bytes() == whole
    assert manifest.read_units(here / "data", MODEL)[1].failure is None
    assert faults(here) == []
    assert is_complete(here)


def test_statistics_that_are_put_back_are_measured_whatever_failed_since(here):
    statistics, record = step_1(here)
    whole = statistics.read_bytes()
    change_a_digit(statistics)
    cut_weights(here)
    trace(here)
    statistics.write_bytes(whole)
    assert trace(here).already == [(MODEL, 0), (MODEL, 1)]
    report = madyn.checking.check_dataset(here / "data")
    assert report.faults == []
    assert any(f"{record}: measuring the step again failed" in remark for remark in report.remarks)


def test_a_failure_leaves_a_damaged_manifest_and_the_statistics_beside_it(here):
    statistics, record = step_1(here)
    whole = statistics.read_bytes()
    record.write_text(record.read_text()[:-10])
    left = record.read_bytes()
    mend = cut_weights(here)
    assert [unit.step for unit in trace(here).failures] == [1]
    assert (statistics.read_bytes(), record.read_bytes()) == (whole, left)
    assert not is_complete(here)
    mend()
    assert trace(here).measured == [(MODEL, 1)]
    assert statistics.read_bytes() == whole
    assert faults(here) == []


def seal_anew(record, *, drop=(), **changes):
    value = {key: v for key, v in json.loads(record.read_text()).items() if key not in (*drop, "seal")}
    write_json(record, seals.sealed({**value, **changes}, MODEL, 1))


def fail_alone(here):
    """As a version before this one left it: a failure in place of all that was known."""
    seal_anew(step_1(here)[1], drop=("statistics_sha256",), failure="x")


def unseal(here):
    record = step_1(here)[1]
    write_json(record, {**json.loads(record.read_text()), "failure": "x"})


DAMAGES = {
    "a failure and no hash": fail_alone,
    "a record that was edited": unseal,
    "the record of another step": lambda here: seal_anew(step_1(here)[1], step=2),
    "no record that can be read": lambda here: step_1(here)[1].write_text("{"),
    "other statistics": lambda here: change_a_digit(step_1(here)[0]),
    "other locations": lambda here: change_a_digit(layout.locations_path(here / "data", MODEL, 1)),
    "no locations": lambda here: layout.locations_path(here / "data", MODEL, 1).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_check_says_to_measure_again_is_measured_again(here, damage):
    DAMAGES[damage](here)
    assert not is_complete(here)
    said = faults(here)
    assert said
    assert all("measures the step again" in fault for fault in said)
    assert trace(here).measured == [(MODEL, 1)]
    assert faults(here) == []
    assert is_complete(here)
    assert trace(here).measured == []


def test_damage_to_a_step_without_a_checkpoint_is_said_and_nothing_is_to_be_deleted(here, capsys):
    statistics, _ = step_1(here)
    change_a_digit(statistics)
    changed = statistics.read_bytes()
    shutil.rmtree(here / "tiny-net" / "step1")
    assert trace(here).already == [(MODEL, 0)]
    said = capsys.readouterr().err
    assert "step 1 are damaged, and" in said
    assert "has no checkpoint of them" in said
    assert statistics.read_bytes() == changed
    assert not any("delete" in fault for fault in faults(here))
