"""Datasets as tables for other programs: what is in them, in every format, and what is left out."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import madyn
from madyn.dataset import layout, manifest
from madyn.dataset.exporting import FORMATS, export_dataset
from madyn.dataset.files import write_json
from madyn.dataset.statistics import write_statistics
from madyn.dataset.tidy import STATISTICS, statistics_blocks
from madyn.errors import DatasetError, MissingDependencyError, StorageError, UsageError
from tiny import tiny_shape, write_dataset, write_family

STEPS = (0, 1, 2, 500)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Two models with fits, one of them of another shape than the other's, and nobody knows it."""
    root = write_dataset(
        tmp_path_factory.mktemp("data") / "set", ("pythia_14m", "été"), (*STEPS, *range(1000, 9001, 1000))
    )
    madyn.fit_dataset(root, hypotheses=["reparam"], quantities=["ratio"])
    return madyn.open_dataset(root)


def read(folder, format, model):
    """Statistics as written: a table by model, step, sequence, layer."""
    if format == "parquet":
        table = pd.read_parquet(folder / "statistics.parquet")
    elif format == "csv":
        table = pd.read_csv(folder / "statistics.csv.gz")
    else:
        pytest.importorskip("zarr")
        arrays = xr.open_zarr(folder / "statistics.zarr", group=model)
        table = arrays.to_dataframe().reset_index().assign(model=model)
    return table.loc[table["model"] == model].set_index(["step", "sequence", "layer"]).sort_index()


@pytest.mark.parametrize("format", FORMATS)
def test_every_value_stands_in_its_row(fitted, tmp_path, format):
    if format == "zarr":
        pytest.importorskip("zarr")
    export = export_dataset(fitted, tmp_path / "out", format)
    assert export.path == tmp_path / "out"
    assert next(iter(export.rows.values())) == 2 * 13 * 4 * 3
    for model in fitted:
        table = read(export.path, format, model)
        assert len(table) == 13 * 4 * 3
        for quantity in (*layout.QUANTITIES, "ratio"):
            known = fitted.per_sequence(model, quantity).transpose("step", "sequence", "layer")
            np.testing.assert_array_equal(table[quantity].to_numpy().reshape(known.shape), known.values)
        assert table.index[0] == (0, 0, 0)
        assert table.index[-1] == (9000, 3, 2)


def test_types_and_words_of_parquet(fitted, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    export_dataset(fitted, tmp_path / "out")
    schema = pq.read_schema(tmp_path / "out" / "statistics.parquet")
    assert schema.names == list(STATISTICS)
    kinds = ["dictionary<values=string, indices=int32, ordered=0>", "int64", "int32", "int32", *["double"] * 5]
    assert [str(kind) for kind in schema.types] == kinds
    assert schema.field("top1").metadata[b"description"] == b"largest |h| over positions and features of the sequence"
    table = pd.read_parquet(tmp_path / "out" / "parameters.parquet")
    known = fitted.parameters
    assert list(table.columns) == list(known.columns)
    assert table["layer_index"].tolist() == known["layer_index"].tolist()
    np.testing.assert_array_equal(table["param_K"], known["param_K"])


def test_large_models_come_in_blocks_of_whole_steps(fitted):
    blocks = list(statistics_blocks(fitted, {}, rows=30))  # two steps of 12 rows
    assert [len(block) for block in blocks] == [*[24] * 6, 12] * 2
    assert [set(block["model"]) for block in blocks] == [*[{"pythia_14m"}] * 7, *[{"été"}] * 7]
    assert sorted(set(blocks[1]["step"])) == [2, 500]
    assert all(list(block.columns) == list(STATISTICS) for block in blocks)


def test_the_models_are_described(tmp_path):
    root = tmp_path / "set"
    family = write_family(root, count=2, repeated=0)
    write_statistics(layout.statistics_path(root, "unknown", 7), np.ones((3, 4, 5)))
    manifest.write_failure(
        root, manifest.Unit(model=family.models[0], step=999, source="made up", failure="no weights")
    )
    export_dataset(root, tmp_path / "out", "csv")
    models = pd.read_csv(tmp_path / "out" / "models.csv").set_index("model")
    shape = family.architecture(family.models[0])
    one = models.loc[family.models[0]]
    assert (one["hidden_size"], one["num_hidden_layers"]) == (shape.hidden_size, shape.num_hidden_layers)
    assert (one["layers"], one["sequences"], one["steps"], one["last_step"]) == (shape.num_hidden_layers, 2, 15, 100)
    assert (one["failed_steps"], one["source"]) == (1, "made up")
    lone = models.loc["unknown"]
    assert np.isnan(float(models["hidden_size"].loc["unknown"]))
    assert (lone["layers"], lone["sequences"], lone["first_step"]) == (5, 3, 7)
    losses = pd.read_csv(tmp_path / "out" / "losses.csv")
    record = family.training(family.models[1])
    assert record is not None
    known = record.losses[100]["held_out"]
    assert losses.query("model == @family.models[1] and step == 100")["held_out"].item() == pytest.approx(
        known, rel=1e-15
    )


def test_whole_numbers_stay_whole_where_one_is_missing(tmp_path):
    pytest.importorskip("pyarrow")
    root = write_family(tmp_path / "set", count=2, repeated=0).path
    write_statistics(layout.statistics_path(root, "unknown", 7), np.ones((3, 4, 5)))
    export_dataset(root, tmp_path / "out")
    models = pd.read_parquet(tmp_path / "out" / "models.parquet", dtype_backend="numpy_nullable")
    assert str(models["hidden_size"].dtype) == "Int64"
    assert str(models["dtype"].dtype) == "string"
    assert models["hidden_size"].isna().tolist().count(True) == 1


def test_every_parameter_of_every_fit(fitted, tmp_path):
    root = Path(shutil.copytree(fitted.path, tmp_path / "set"))
    path = layout.params_path(root, "été", "ratio")
    records = json.loads(path.read_text())
    failed = {"param_names": ["A"], "popt": None, "pcov": None, "r2": None, "aic": None, "message": "=no"}
    records[2] = {"step1": failed}
    path.write_text(json.dumps(records))
    export_dataset(root, tmp_path / "out", "csv")
    table = pd.read_csv(tmp_path / "out" / "fits.csv").set_index(["model", "layer", "hypothesis", "parameter"])
    known = fitted.fits("pythia_14m")
    for parameter in ("A1", "A2", "K", "beta", "tau0"):
        row = table.loc[("pythia_14m", 1, "reparam", parameter)]
        one = known.sel(hypothesis="reparam", layer=1, parameter=parameter)
        assert row["value"] == float(one["popt"])
        assert row["standard_error"] == pytest.approx(float(one["pcov"].sel(parameter_2=parameter)) ** 0.5, rel=1e-15)
        assert row["r2"] == float(one["r2"])
    last = table.loc[("été", 2)]
    assert (len(last), last["message"].item(), bool(last["value"].isna().all())) == (1, "'=no", True)


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_the_same_dataset_gives_the_same_bytes(fitted, tmp_path, format):
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b", tmp_path / "a"):  # the last one is replaced
        export_dataset(fitted, folder, format)
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1] == contents[2]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_damaged_file_costs_its_step_and_is_said(fitted, tmp_path, run):
    root = shutil.copytree(fitted.path, tmp_path / "set")
    layout.statistics_path(root, "été", 500).write_text("[[1, 2")
    code, out, err = run("export", root, "--out", tmp_path / "out", "--format", "csv", "--json")
    assert code == 1
    assert "exp2_été_step500" in err
    found = json.loads(out)
    assert [(one["file"], one["rows"]) for one in found["files"]] == [
        ("statistics.csv.gz", 13 * 12 + 12 * 12), ("models.csv", 2), ("parameters.csv", 6), ("fits.csv", 6 * 5)
    ]  # fmt: skip
    assert found["absent"] == {"losses": "no model was trained by the lab"}
    with gzip.open(tmp_path / "out" / "statistics.csv.gz", "rt", encoding="utf-8") as file:
        table = pd.read_csv(file)
    assert sorted(set(table.loc[table["model"] == "été", "step"])) == [0, 1, 2, *range(1000, 9001, 1000)]


def test_some_models_alone(fitted, tmp_path, run):
    code, out, _ = run("export", fitted.path, "--out", tmp_path / "out", "--format", "csv", "--model", "été")
    assert (code, "statistics.csv.gz" in out, "no losses: no model was trained by the lab" in out) == (0, True, True)
    for name in ("models", "parameters"):
        assert set(pd.read_csv(tmp_path / "out" / f"{name}.csv")["model"]) == {"été"}


def test_nothing_of_somebody_else_s_is_replaced(fitted, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("all of it")
    with pytest.raises(StorageError, match=r"holds 'thesis.tex', which is no part of an export"):
        export_dataset(fitted, folder, "csv")
    assert (folder / "thesis.tex").read_text() == "all of it"
    with pytest.raises(StorageError, match="is a file"):
        export_dataset(fitted, folder / "thesis.tex", "csv")
    with pytest.raises(StorageError, match="is no part of an export"):
        export_dataset(fitted, fitted.path, "csv")
    assert fitted.steps("été") == [*STEPS, *range(1000, 9001, 1000)]


def test_a_dataset_without_fits_or_statistics(tmp_path, run):
    write_dataset(tmp_path / "young", ("pythia_14m",), STEPS)
    code, out, _ = run("export", tmp_path / "young", "--out", tmp_path / "out", "--format", "csv")
    assert (code, "no parameters: nothing was fitted yet; `madyn fit` does it" in out) == (0, True)
    root = tmp_path / "failed"
    unit = manifest.Unit(model="m", step=1, source="made up", architecture=tiny_shape().to_dict(), failure="no weights")
    write_json(layout.manifest_path(root, "m", 1), asdict(unit))
    with pytest.raises(DatasetError, match="no statistics in it are sound"):
        export_dataset(root, tmp_path / "none", "csv")
    assert not (tmp_path / "none").exists()


def test_text_is_no_formula_to_a_spreadsheet(tmp_path):
    root = write_dataset(tmp_path / "set", ("m",), STEPS)
    unit = manifest.Unit(model="m", step=0, source='=HYPERLINK("http://x","y")')
    write_json(layout.manifest_path(root, "m", 0), asdict(unit))
    export_dataset(root, tmp_path / "out", "csv")
    assert pd.read_csv(tmp_path / "out" / "models.csv")["source"].item() == '\'=HYPERLINK("http://x","y")'


@pytest.mark.parametrize(("format", "package"), [("parquet", "pyarrow"), ("zarr", "zarr")])
def test_a_missing_package_says_which_extra_to_install(fitted, tmp_path, monkeypatch, format, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf'{package} is not installed: pip install "madyn\[export\]"'):
        export_dataset(fitted, tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_is_none(fitted, tmp_path, run):
    with pytest.raises(UsageError, match="format is 'xls'; it is one of parquet, csv, zarr"):
        export_dataset(fitted, tmp_path / "out", "xls")
    assert run("export", fitted.path, "--out", tmp_path / "out", "--format", "xls")[0] == 2
    with pytest.raises(UsageError, match="a folder of this machine"):
        export_dataset(fitted, "memory://bucket/out", "csv")
