"""What `check` notices: every file of a dataset against its hash, fits against their curves, the table against fits."""

import csv
import json
import os
import shutil

import pytest

import madyn
from fuzz_targets import MODELS, make_dataset, remove_kept
from madyn.checking import monitors
from madyn.dataset import fit_files, layout, manifest, seals
from madyn.dataset.files import read_bytes, write_json
from madyn.dataset.statistics import read_statistics
from madyn.errors import DatasetError

A, B = MODELS


@pytest.fixture(scope="module", autouse=True)
def kept_samples():
    yield
    remove_kept()


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "data")


def faults(root):
    return madyn.checking.check_dataset(root).faults


def change(path, edit, *place):
    """Change JSON, and seal it anew where a place is given, as somebody would who knows how."""
    value = json.loads(path.read_text())
    edit(value)
    if place:
        value.pop("seal")
        value = seals.sealed(value, *place)
    write_json(path, value)


def test_what_madyn_writes_has_no_faults(root):
    assert faults(root) == []


@pytest.mark.parametrize("kind", ["locations", "positions"])
def test_what_stands_beside_the_statistics_is_hashed(root, kind):
    path = root / kind / A / "step64.json"
    whole = path.read_text()
    path.write_text(whole.replace("1", "2", 1))
    assert any(f"{path}: not what was measured" in fault for fault in faults(root))
    path.unlink()
    assert any(f"{path}: no such file" in fault for fault in faults(root))


def test_a_manifest_is_sealed_and_is_its_unit_s(root):
    path = layout.manifest_path(root, A, 64)
    change(path, lambda unit: unit.update(threads=2))
    assert any(f"{path}: not what madyn wrote" in fault for fault in faults(root))
    shutil.copy(layout.manifest_path(root, B, 8), path)
    assert any(f"{path}: is the manifest of {B} at step 8" in fault for fault in faults(root))


@pytest.mark.parametrize("key", ["statistics_sha256", "locations_sha256", "probe_sha256", "seal", "format"])
def test_a_hash_that_was_taken_out_is_missed(root, key):
    change(layout.manifest_path(root, A, 64), lambda unit: unit.pop(key))
    assert faults(root)


def test_a_statistics_hash_is_missed_where_its_siblings_have_one(root):
    """Also of manifests from before there were seals."""
    for step in (0, 64):
        change(layout.manifest_path(root, A, step), lambda unit: [unit.pop(key) for key in ("seal", "format")])
    assert faults(root) == []
    change(layout.manifest_path(root, A, 64), lambda unit: unit.pop("statistics_sha256"))
    assert any("has no hash of the statistics, which the other steps have" in fault for fault in faults(root))


def test_the_probe_is_that_of_the_units(root):
    change(layout.probe_path(root), lambda probe: probe.update(sha256="0" * 64), "probe")
    assert any("measured on a probe whose record" in fault and "of another text" in fault for fault in faults(root))
    layout.probe_path(root).unlink()
    assert any("is not there, or is damaged" in fault for fault in faults(root))


def test_a_training_record_is_sealed(root):
    path = layout.training_path(root, A)
    change(path, lambda record: record["losses"]["64"].update(held_out=1.0))
    assert any(f"{path}: not what madyn wrote: its seal is not that" in fault for fault in faults(root))


def both_files(root, edit):
    """Change the same record in the file of the ratio and in that of all quantities."""
    for quantity in ("ratio", None):
        change(layout.params_path(root, A, quantity), lambda layers: edit(layers[1]["reparam"]))
    change(layout.params_path(root, A), lambda layers: edit(layers[1]["ratio"]["reparam"]))


def test_parameters_are_put_into_their_curve_again(root):
    def double(record):
        record["popt"] = [2 * value for value in record["popt"]]
        record.update(seals.sealed({k: v for k, v in record.items() if k != "seal"}, A, "ratio", 1, "reparam"))

    both_files(root, double)
    said = faults(root)
    assert any("layer 1, reparam: its parameters do not give its residuals, at step 0 first" in f for f in said)
    assert any("fitted_param_dataset_reparam.csv: pythia_14m: layer 1: param_A is" in f for f in said)


def test_every_hypothesis_gives_its_residuals(tmp_path):
    from madyn.curves.hypotheses.registry import HYPOTHESES

    root = make_dataset(tmp_path / "data")
    madyn.fit_dataset(root, hypotheses=list(HYPOTHESES), ratio_of="means")
    assert faults(root) == []
    madyn.fit_dataset(root, method="trf", quantities=["top1"], drop_suspects=True)
    assert faults(root) == []


def test_parameters_too_large_for_their_formula_are_no_fault(tmp_path):
    """In this layer the rate is on the edge of its box, and original's t0 is 5e307."""
    model = "neox_4x48_h6_m144_s1"
    shutil.copytree(madyn.open_dataset("tiny-suite").path / model / "stats", tmp_path / model / "stats")
    madyn.fit_dataset(tmp_path, hypotheses=["original"], quantities=["ratio"])
    record = fit_files.read_fit_records(tmp_path, model, "ratio")[1]["original"]
    assert max(record["popt"]) > 1e300
    assert faults(tmp_path) == []


@pytest.mark.parametrize("hypothesis", ["original", "reparam", "step1", "step2"])
def test_a_fit_s_seal_covers_it_and_its_place(root, hypothesis):
    both = layout.params_path(root, A, "top1"), layout.params_path(root, A)
    for path in both:
        change(path, lambda layers: [layer.get("top1", layer)[hypothesis].update(method="trf") for layer in layers])
    assert sum(f"{hypothesis}: not what madyn wrote" in fault for fault in faults(root)) == 2


def test_layers_that_changed_places_are_noticed(root):
    for quantity in (None, "median"):
        change(layout.params_path(root, A, quantity), lambda layers: layers.reverse())
    assert any("layer_fit_params_median.json: layer 0" in fault for fault in faults(root))


@pytest.mark.parametrize(
    ("column", "value"), [("param_K", "3.5"), ("hidden_size", "17"), ("r2", "0.5"), ("peak_step", "3"), ("madyn", "x"),
                          ("statistics_sha256", "0" * 64), ("layer_index_norm", "0.5"), ("message", "fine"),
                          ("last_step", "2000"), ("bounds", "{}")]
)  # fmt: skip
def test_the_table_says_what_the_fits_say(root, column, value):
    rows = fit_files.read_table_rows(root)
    rows[0][column] = value
    fit_files.write_parameter_table(root, rows)
    assert any(layout.PARAMETER_TABLE in fault for fault in faults(root))


@pytest.mark.parametrize(("column", "value"), [("param_K", "3.5"), ("param_t0", "1"), ("peak_height", "3")])
def test_a_table_without_its_fits_is_held_against_the_statistics(root, column, value):
    shutil.rmtree(root / B / "params")
    assert faults(root) == []
    rows = fit_files.read_table_rows(root)
    assert rows[0]["model"] == B
    rows[0][column] = value
    fit_files.write_parameter_table(root, rows)
    assert any(layout.PARAMETER_TABLE in fault for fault in faults(root))


def test_rows_that_are_gone_are_missed(root):
    fit_files.write_parameter_table(root, [row for row in fit_files.read_table_rows(root) if row["model"] != A])
    assert any(f"no rows of {A}, whose ratio is fitted" in fault for fault in faults(root))


def test_what_an_earlier_version_wrote_has_no_faults(root):
    """Without formats, seals, and hashes beside that of the statistics."""

    def older(path):
        value = json.loads(path.read_text())

        def strip(value):
            if isinstance(value, dict):
                new = ("seal", "format", "locations_sha256", "positions_sha256", "probe_sha256")
                return {key: strip(item) for key, item in value.items() if key not in new}
            return [strip(item) for item in value] if isinstance(value, list) else value

        write_json(path, strip(value))

    for path in [*root.glob("*/params/*.json"), *root.glob("manifest/**/*.json"), *root.glob("training/*.json")]:
        older(path)
    assert faults(root) == []
    assert madyn.fit_dataset(root, hypotheses=["power_law"]).path == root
    assert faults(root) == []


def test_all_faults_are_listed_and_none_stops_the_rest(root, monkeypatch):
    layout.statistics_path(root, A, 64).write_text("[")
    layout.manifest_path(root, B, 8).write_text("[]")
    layout.training_path(root, B).write_text("{}")
    layout.params_path(root, B, "top1").write_text("null")
    (root / layout.PARAMETER_TABLE).write_text("model\n")
    said = "\n".join(faults(root))
    for what in ("exp2_pythia_14m_step64", "m_1/step8.json", "training/m_1.json", "layer_fit_params_top1.json", ".csv"):
        assert what in said
    monkeypatch.setattr("madyn.checking.reports.statistics_faults", lambda records: 1 / 0)
    broken = faults(root)
    assert f"{root / A / 'stats'}: cannot be checked: ZeroDivisionError: division by zero" in broken
    assert any("m_1/step8.json" in fault for fault in broken)


def test_a_monitor_s_record_is_sealed_readable_and_of_a_model_that_is_there(root):
    path, other = layout.monitor_path(root, A), layout.monitor_path(root, "m_9")
    whole = path.read_text()
    path.write_text(whole.replace("12.5", "12.6"))
    assert [fault for fault in faults(root) if "its seal is not that of what it says" in fault] == faults(root)
    assert faults(root)[0].startswith(f"{path}: not what madyn wrote")
    path.write_text(whole[:-20])
    (said,) = faults(root)
    assert said.startswith(f"{path}: not JSON")
    shutil.copy(layout.monitor_path(root, B), path)  # its seal is that of another place
    assert len(faults(root)) == 1
    path.write_text(whole)
    change(path, lambda record: record.update(model=B), A)
    assert faults(root) == [f"{path}: is the record of {B}; {monitors._AGAIN}"]
    path.write_text(whole)
    other.write_text(whole)
    change(other, lambda record: record.update(model="m_9"), "m_9")
    assert faults(root) == [f"{other}: tells of m_9 at step 3000, and the dataset has no measurement of it"]
    change(other, lambda record: record.update(step=None), "m_9")  # its first step is to come
    assert faults(root) == []
    other.rename(root / "monitor" / "notes.txt")
    assert len(faults(root)) == 1
    assert "notes.txt: not read" in faults(root)[0]


def test_one_model_s_damaged_files_cost_the_others_nothing(root, run):
    layout.statistics_path(root, B, 64).write_text("[")
    shutil.rmtree(root / A / "params")
    code, _, err = run("fit", root, "--hypothesis", "step1")
    assert code == 1
    assert "exp2_m_1_step64" in err
    assert madyn.open_dataset(root).has_fits(A, "ratio")
    for command, what in ((["show"], A), (["compare", "--hypothesis", "step1"], "ratio: 2 layers of 1 model")):
        code, out, err = run(command[0], root, *command[1:])
        assert code == 1, command
        assert what in out, command
        assert "exp2_m_1_step64" in out + err, command
    code, _, err = run("figures", root, "--only", "series", "--jobs", 1)
    assert code == 1
    assert f"{B} is left out" in err
    assert (root / A / "series" / "ratio.png").exists()
    assert not (root / B / "series" / "ratio.png").exists()
    assert run("show", make_dataset(root.parent / "whole"))[0] == 0


def test_a_damaged_record_of_training_costs_its_model_alone(root, run):
    layout.training_path(root, B).write_text('{"plan": 3}')
    code, out, _ = run("show", root)
    assert code == 1
    assert "training/m_1.json: not a training record of madyn" in out
    assert A in out


def test_a_damaged_manifest_costs_its_unit_alone(root):
    layout.manifest_path(root, B, 0).write_text("{")
    dataset = madyn.open_dataset(root)
    assert dataset.architecture(B).hidden_size == 16
    assert dataset.parameter_count(B) == 1000
    madyn.fit_dataset(root, hypotheses=["step1"])


def test_a_unit_is_measured_if_its_files_are_whole(root):
    assert manifest.is_measured(root, A, 64)
    assert not manifest.is_measured(root, A, 65)
    path = layout.statistics_path(root, A, 64)
    whole = path.read_text()
    path.write_text(whole.replace("1", "2", 1))
    assert read_statistics(path).shape == (2, 4, 2)  # it can be read, and is not what was measured
    assert not manifest.is_measured(root, A, 64)
    path.write_text(whole)
    layout.manifest_path(root, A, 64).write_text("{")
    assert not manifest.is_measured(root, A, 64)
    layout.manifest_path(root, A, 64).unlink()
    assert manifest.is_measured(root, A, 64)
    path.write_text("[")
    assert not manifest.is_measured(root, A, 64)


def test_only_regular_files_are_read_and_no_more_than_they_may_have(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "large").write_bytes(b"1" * 100)
    for name, why in [("pipe", "not a regular file"), ("endless", "not a regular file"), (".", "directory"),
                      ("none", "No such file"), ("a\0b", "null"), ("n" * 300, "too long")]:  # fmt: skip
        with pytest.raises(DatasetError, match=why):
            read_bytes(tmp_path / name)
    with pytest.raises(DatasetError, match="100 bytes, where at most 99 are read"):
        read_bytes(tmp_path / "large", 99)
    assert read_bytes(tmp_path / "large", 100) == b"1" * 100
    assert read_bytes(__import__("pathlib").Path("/proc/self/status")).startswith(b"Name:")  # says that it has 0 bytes


def test_an_empty_table_is_written_anew(root):
    path = root / layout.PARAMETER_TABLE
    whole = path.read_text()
    path.write_text("\n")
    with pytest.raises(DatasetError, match="is empty; `madyn fit` writes it anew"):
        _ = madyn.open_dataset(root).parameters
    madyn.fit_dataset(root)
    assert path.read_text() == whole


def test_a_cell_too_many_is_named_by_its_line(root):
    path = root / layout.PARAMETER_TABLE
    lines = path.read_text().splitlines()
    lines[2] += ",1"
    path.write_text("\n".join(lines))
    count = len(lines[0].split(","))
    with pytest.raises(DatasetError, match=f"line 3: {count + 1} cells where the header names {count} columns"):
        _ = madyn.open_dataset(root).parameters


@pytest.mark.parametrize(("column", "cell", "why"), [
    ("param_A", "1e999", "not a number"), ("param_K", "x", "not a number"), ("layer_index", "1.5", "no layer's number"),
    ("model", "", "no model's name"), ("hidden_size", "-1", "not positive"), ("r2", "１", "not a number"),
])  # fmt: skip
def test_cells_are_of_their_column_s_kind(root, column, cell, why):
    rows = fit_files.read_table_rows(root)
    rows[3][column] = cell
    fit_files.write_parameter_table(root, rows)
    with pytest.raises(DatasetError, match=f"line 5, column {column}: .* is {why}"):
        _ = madyn.open_dataset(root).parameters


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "'=1", "''=", "'a", "a,b", 'a"b', "1e5", "NA"])
def test_text_that_a_spreadsheet_would_run_is_written_as_text(root, text):
    rows = fit_files.read_table_rows(root)
    rows[0]["message"] = text
    fit_files.write_parameter_table(root, rows)
    cells = list(csv.DictReader((root / layout.PARAMETER_TABLE).open(newline="")))
    assert not cells[0]["message"].startswith(("=", "+", "-", "@", "\t"))
    assert fit_files.read_table_rows(root)[0]["message"] == text
    assert madyn.open_dataset(root).parameters["message"].iloc[0] == text


def test_bounds_hold_before_anything_is_allocated(root):
    names = [f"p{i}" for i in range(20_000)]
    record = {"step1": {"param_names": names, "popt": None}}
    write_json(layout.params_path(root, A, "ratio"), [record, record])
    with pytest.raises(DatasetError, match="at most 32 items"):
        madyn.open_dataset(root).fits(A, "ratio")
    many = {f"h{i}": {"param_names": [f"h{i}p{j}" for j in range(32)], "popt": [1.0] * 32} for i in range(64)}
    write_json(layout.params_path(root, A, "ratio"), [many])
    with pytest.raises(DatasetError, match="are more than any model has fits of"):
        madyn.open_dataset(root).fits(A, "ratio")
    (root / layout.PARAMETER_TABLE).write_text(",".join(f"c{i}" for i in range(1_000_000)) + "\n")
    with pytest.raises(DatasetError, match="1000000 columns; a table has 1000 at most"):
        _ = madyn.open_dataset(root).parameters


def test_links_are_told_and_folders_that_are_none(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (root / A / "params").rename(tmp_path / "elsewhere" / "params")
    (root / A / "params").symlink_to(tmp_path / "elsewhere" / "params")
    (root / "another").symlink_to(A)
    remarks = madyn.checking.check_dataset(root).remarks
    assert any(f"{root / A / 'params'}: a link that leads out of the dataset" in said for said in remarks)
    assert any(f"{root / 'another'}: a link to the model {A}" in said for said in remarks)
    (root / "another").unlink()
    shutil.rmtree(root / "locations")
    (root / "locations").write_text("")
    assert f"{root / 'locations'}: not a folder; move it away" in faults(root)


def test_fits_that_no_longer_say_what_they_are_of(root):
    """All of them, in both files, and a parameter changed in both: the table's rows still say whose they are."""
    for path in (layout.params_path(root, A, "ratio"), layout.params_path(root, A)):
        layers = json.loads(path.read_text())
        for layer in layers:
            for record in [*layer.values(), *layer.get("ratio", {}).values()]:
                for key in ("seal", "format", "provenance"):
                    record.pop(key, None)
        path.write_text(json.dumps(layers))
    assert any("its rows say what they were made from, and its fits do not" in said for said in faults(root))


def test_a_broken_fit_file_is_one_fault(root):
    layout.params_path(root, A, "ratio").write_text("[" * 100_000)
    assert sum("layer_fit_params_ratio.json: not JSON" in said for said in faults(root)) == 1


def test_an_overlong_name_is_cut():
    with pytest.raises(DatasetError) as caught:
        madyn.open_dataset("./" + "x" * 5000)
    assert len(str(caught.value)) < 700
