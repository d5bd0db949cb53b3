"""Models and folders that are called as nothing else is, from the statistics to the pictures."""

import tarfile
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import madyn
from madyn.dataset import layout, manifest
from madyn.dataset.copying import bring
from madyn.dataset.files import root_path, write_json
from madyn.dataset.fit_files import read_fit_records, read_table_rows
from madyn.dataset.shipped import pack_dataset
from madyn.dataset.statistics import write_statistics
from madyn.dataset.training import TrainingRecord, read_record, write_record
from madyn.errors import MadynError, StorageError, UsageError
from madyn.lab.suites import suite_from_dict
from tiny import save_checkpoints, tiny_shape, write_dataset

NAMES = ("007", "NA", "nan", "1e5", "True", "null", "模型", "été")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = write_dataset(tmp_path_factory.mktemp("names"), models=NAMES, steps=(0, 1, 4, 16, 64, 256, 1024))
    for number, model in enumerate(NAMES):
        shape = tiny_shape(num_hidden_layers=3, hidden_size=16 * (1 + number % 4), num_attention_heads=1 + number % 2)
        for step in layout.statistics_files(root, model):
            unit = manifest.Unit(model=model, step=step, source="made up", architecture=shape.to_dict(), parameters=1)
            write_json(layout.manifest_path(root, model, step), asdict(unit))
    madyn.fit_dataset(root, hypotheses=["reparam"], quantities=["ratio"])
    return madyn.open_dataset(root)


def test_the_parameter_table_has_names_as_text_and_numbers_as_numbers(dataset):
    table = dataset.parameters
    assert sorted(set(table["model"])) == sorted(NAMES)
    assert table["model"].map(type).eq(str).all()
    for column in ("param_A", "param_K", "layer_index_norm", "r2", "rotary_pct"):
        assert table[column].dtype == np.float64, column
    for column in ("layer_index", "hidden_size", "last_step"):
        assert table[column].dtype == np.int64, column
    for model in NAMES:
        assert table.loc[table["model"] == model, "layer_index"].tolist() == [0, 1, 2]
        assert dataset.architecture(model).num_hidden_layers == 3


def test_the_table_alone_tells_the_architecture(dataset, tmp_path):
    write_dataset(tmp_path, models=("007", "NA"), steps=(0, 1))
    (tmp_path / layout.PARAMETER_TABLE).write_bytes((dataset.path / layout.PARAMETER_TABLE).read_bytes())
    assert madyn.open_dataset(tmp_path).architecture("NA").hidden_size == dataset.architecture("NA").hidden_size == 32


def test_a_model_fitted_again_leaves_the_rows_of_the_others(dataset):
    before = dataset.parameters
    madyn.fit_dataset(dataset.select("nan"), hypotheses=["reparam"], quantities=["ratio"])
    assert dataset.parameters.equals(before)


def test_check_and_figures_take_every_name(dataset, run, tmp_path):
    code, out, err = run("check", dataset.path)
    assert "Traceback" not in err
    assert not [line for line in (out + err).splitlines() if "rows of" in line]
    code, _, err = run(
        "figures", dataset.path, "--out", tmp_path.as_uri() + "/a%20b", "--only", "*/series/*", "--jobs", "1"
    )
    assert (code, err) == (0, "")
    assert {p.name for p in (tmp_path / "a b").iterdir()} >= set(NAMES)


def test_predictions_take_every_name(dataset):
    predictor = madyn.Predictor("ridge").fit(dataset)
    curve = predictor.predict(tiny_shape(num_hidden_layers=3, hidden_size=32), [0, 16, 1024])
    assert np.isfinite(curve.values).all()


@pytest.mark.parametrize(
    ("source", "name"),
    [("owner/模型-7b", "模型_7b"), ("été", "été"), ("e\u0301te\u0301", "été"), ("मॉडल", "मॉडल"), ("a..b", "a..b"),
     ("./x/007.gguf", "007")],
)  # fmt: skip
def test_names_of_any_script(source, name):
    assert layout.directory_name(source) == name


@pytest.mark.parametrize(
    "source", ["..", "a/..", ".hidden", "_x", "-", "a\\..", "a b", "a\0", "x" * 300, "模" * 70, ""]
)
def test_names_that_could_lead_elsewhere(source):
    with pytest.raises(UsageError, match="no usable directory name"):
        layout.directory_name(source)


def test_a_file_url_is_a_folder(dataset, tmp_path):
    assert root_path("file:///tmp/a%20b#c?d") == root_path("/tmp/a b#c?d")
    assert root_path("file://localhost/tmp/x") == root_path("/tmp/x")
    with pytest.raises(UsageError, match="names another machine, tmp"):
        root_path("file://tmp/x")
    assert madyn.open_dataset(dataset.path.as_uri()).models == dataset.models
    with pytest.raises(MadynError, match="no such folder"):
        madyn.open_dataset((tmp_path / "none").as_uri())


def test_a_folder_option_takes_no_other_url(run, dataset):
    code, _, err = run("figures", dataset.path, "--out", "s3://bucket/x")
    assert code != 0
    assert "a folder or a file of this machine is needed here" in err


# Every name and step that is accepted is read back; every other is refused, by every way in.

TAKEN = ("manifest", "Locations", "POSITIONS", "training", "analysis", "checkpoints", "stats", "params", "series",
         "metrics", "example_fits", "per_layer_evolution", "probe.json", "LICENSE", "readme.md",
         "fitted_param_dataset_reparam.csv", "con", "NUL", "aux.txt", "com1", "a.", "e\u0301t\u00e9", "a/b", "..",
         ".locks", "a b", "a\n", "x" * 201, "")  # fmt: skip
NAMED = st.text(st.characters(categories=("L", "M", "N"), include_characters="_.+-"), min_size=1, max_size=60)


@settings(max_examples=25, deadline=None)
@given(
    NAMED.filter(layout.is_directory_name),
    st.sets(st.integers(0, layout.MAX_STEP), min_size=1, max_size=3).map(lambda steps: {*steps, layout.MAX_STEP}),
)
@example("step5", {0, 1})
@example("exp2_a_step3", {3})
@example("x" * 200, {layout.MAX_STEP})
@example("a.json", {7})
@example("fits.csv", {7})
@example("tokenizer", {7})
@example("probe", {7})
def test_what_is_accepted_is_read_back(model, steps):
    with TemporaryDirectory() as folder:
        root = Path(folder) / "d"
        shape = tiny_shape()
        for step in steps:
            write_statistics(layout.statistics_path(root, model, step), np.full((1, 4, 2), 1.0 + len(str(step))))
            manifest.write_unit(root, manifest.Unit(model=model, step=step, source="x", architecture=shape.to_dict()))
            write_json(layout.locations_path(root, model, step), {})
        write_record(root, model, TrainingRecord(plan={}, parameters=1))
        manifest.claim_probe(root, manifest.ProbeRecord(text="t", sha256="0" * 64, documents=1, seed=0))
        pack_dataset(root, root.parent / "packed.tar.xz")
        with tarfile.open(root.parent / "packed.tar.xz") as archive:
            archive.extractall(root.parent / "unpacked", filter="data")
        for place in (root, root.parent / "unpacked", bring(root, root.parent / "copy")):
            dataset = madyn.open_dataset(place)
            assert dataset.models == [model] == layout.manifest_models(place)
            assert dataset.steps(model) == sorted(steps) == list(manifest.read_units(place, model))
            for step in steps:
                assert (dataset.statistics(model).sel(step=step) == 1 + len(str(step))).all()
                assert layout.locations_path(place, model, step).is_file()
            assert read_record(place, model) is not None
            assert manifest.read_probe(place) is not None
            assert layout.unread(place) == []


@pytest.mark.parametrize("model", ["x" * 200, "模" * 66, "a.json", "step5"])
def test_fits_table_and_figures_of_any_name_are_read_back(model, tmp_path):
    root = write_dataset(tmp_path / "d", models=(model,), steps=(0, 1, 2, 4, 8, 16, 32, 1000))
    madyn.fit_dataset(root, hypotheses=["reparam"], quantities=["ratio"])
    assert len(read_fit_records(root, model, "ratio")) == 3
    assert {row["model"] for row in read_table_rows(root)} == {model}
    drawing = madyn.draw_figures(root, only="*/series/*top1*", jobs=1)
    assert drawing.drawn
    assert not drawing.failed
    assert all((root / name).is_file() for name in drawing.drawn)


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_that_would_not_be_read_back_is_refused_by_every_way_in(name, tmp_path):
    for path in (layout.statistics_path, layout.manifest_path, layout.locations_path, layout.positions_path):
        with pytest.raises(UsageError, match="cannot be a model's directory"):
            path(tmp_path, name, 0)
    for path in (layout.params_path, layout.training_path, layout.statistics_folder):
        with pytest.raises(UsageError):
            path(tmp_path, name)
    with pytest.raises(UsageError):
        manifest.write_unit(tmp_path, manifest.Unit(model=name, step=0, source="x"))
    entry = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "name": name}
    with pytest.raises(UsageError):
        suite_from_dict({"name": "s", "model": [entry]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [-5, -1, layout.MAX_STEP + 1, 10**30, 1.5, "3", True, None])
def test_a_step_that_would_not_be_read_back_is_refused_by_every_way_in(step, tmp_path):
    for path in (layout.statistics_path, layout.manifest_path, layout.locations_path, layout.positions_path):
        with pytest.raises(UsageError, match="a step is"):
            path(tmp_path, "m", step)
    with pytest.raises(UsageError):
        manifest.write_unit(tmp_path, manifest.Unit(model="m", step=step, source="x"))
    with pytest.raises(UsageError):
        madyn.trace("m", tmp_path / "d", steps=[step], load=lambda s: None)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return save_checkpoints(tmp_path_factory.mktemp("names") / "run", steps=(3,))


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--name", "manifest"], "of the layout's own"), (["--name", "Training"], "of the layout's own"),
     (["--name", "nul"], "on Windows"), (["--name", "../x/.."], "letter or digit"), (["--steps", "-5"], "a step is -5"),
     (["--steps", str(2**53 + 1)], "from 0 to 2^53"), (["--steps", "9" * 5000], "steps '9")],
)  # fmt: skip
def test_trace_refuses_them_before_it_measures(checkpoints, tmp_path, run, options, said):
    code, _, err = run("trace", checkpoints, "--out", tmp_path / "d", "--length", "8", *options)
    assert (code, err.count("\n")) == (2, 1)
    assert said in err
    assert len(err) < 400
    assert not (tmp_path / "d").exists()


def test_folders_at_steps_that_are_none_are_left_out(checkpoints, tmp_path, run):
    for name in ("step9999999999999999", "checkpoint-100000000000000000000000"):
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "config.json").write_bytes((checkpoints / "step3/config.json").read_bytes())
    (tmp_path / "run/step3").symlink_to(checkpoints / "step3")
    code, out, err = run("trace", tmp_path / "run", "--out", tmp_path / "d", "--length", "8", "--sequences", "1")
    assert (code, "1 measured" in out) == (0, True)
    assert "step9999999999999999" in err


def test_names_that_only_some_file_systems_tell_apart(checkpoints, tmp_path, run):
    write_dataset(tmp_path / "d", models=("Pythia",), steps=(0,))
    code, _, err = run("trace", checkpoints, "--out", tmp_path / "d", "--length", "8", "--name", "pythia")
    assert code == 2
    assert "Pythia, which many file systems do not tell from pythia" in err
    entry = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "rotary_pct": 0.5}
    suite = {"name": "s", "model": [{**entry, "name": "Ab"}, {**entry, "name": "aB"}]}
    with pytest.raises(UsageError, match="two models of s are called"):
        suite_from_dict(suite).runs()


def test_check_says_what_others_named_so_that_it_is_not_read(tmp_path):
    root = write_dataset(tmp_path, models=("m",), steps=(0, 1))
    one = layout.statistics_path(root, "m", 0).read_bytes()
    units = ("step-5", "step99999999999999999999", "step01", "step\u0663")
    for path in ("my model/stats/exp2_m_step0", "Manifest/stats/exp2_m_step0", *(f"m/stats/exp2_m_{u}" for u in units)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(one)
    assert madyn.open_dataset(root).models == ["m"]
    assert madyn.open_dataset(root).steps("m") == [0, 1]
    faults = [fault for fault in madyn.checking.check_dataset(root).faults if "not read" in fault]
    assert len(faults) == 6


def test_a_path_that_cannot_be_looked_at_is_an_error_of_storage(tmp_path):
    with pytest.raises(StorageError, match="File name too long"):
        layout.inside(tmp_path, tmp_path / ("x" * 300) / "y")
