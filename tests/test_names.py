"""Models and folders that are called as nothing else is, from the statistics to the pictures."""

from dataclasses import asdict

import numpy as np
import pytest

import madyn
from madyn.dataset import layout, manifest
from madyn.dataset.files import root_path, write_json
from madyn.errors import MadynError, UsageError
from tiny import tiny_shape, write_dataset

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
    with pytest.raises(UsageError, match="of any script"):
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
