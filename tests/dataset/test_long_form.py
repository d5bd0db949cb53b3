"""All models of a dataset as one table and as one labelled array, and what the names in labelled arrays mean."""

import numpy as np
import pytest

import madyn
from madyn.dataset import layout, long_form
from madyn.dataset.statistics import write_statistics

RNG = np.random.default_rng(0)
MODELS = {"deep": ((0, 2, 8), (3, 4, 5)), "flat": ((0, 4), (2, 4, 2))}


def written(root):
    values = {}
    for model, (steps, shape) in MODELS.items():
        for step in steps:
            values[model, step] = -np.sort(-RNG.uniform(1, 9, shape), axis=1)
            write_statistics(layout.statistics_path(root, model, step), values[model, step])
    return madyn.open_dataset(root), values


def test_a_row_a_model_step_sequence_and_layer(tmp_path):
    dataset, values = written(tmp_path)
    table = dataset.to_dataframe()
    assert tuple(table.columns) == long_form.COLUMNS
    assert len(table) == 3 * 3 * 5 + 2 * 2 * 2
    assert list(table.index) == list(range(len(table)))
    assert not table.duplicated(list(long_form.KEYS)).any()
    for row in table.sample(20, random_state=0).to_dict("records"):
        measured = values[row["model"], row["step"]][row["sequence"], :, row["layer"]]
        assert [row[name] for name in layout.QUANTITIES] == measured.tolist()
        assert row["ratio"] == measured[0] / measured[3]
    ordered = table.sort_values(list(long_form.KEYS), kind="stable")
    assert list(ordered.index) == list(table.index)
    assert table.dtypes["step"].kind == table.dtypes["layer"].kind == "i"


def test_of_no_model_there_is_a_table_without_rows(tmp_path):
    dataset, _ = written(tmp_path)
    assert tuple(dataset.select([]).to_dataframe().columns) == long_form.COLUMNS


def test_models_of_different_depth_and_steps_are_joined_by_their_labels(tmp_path):
    dataset, values = written(tmp_path)
    joined = dataset.to_xarray()
    assert dict(joined.sizes) == {"model": 2, "step": 4, "sequence": 3, "layer": 5}
    assert joined["step"].values.tolist() == [0, 2, 4, 8]
    assert joined["layers"].values.tolist() == [5, 2]
    one = joined.sel(model="flat", step=4, sequence=1, layer=1)
    assert one["top2"] == values["flat", 4][1, 1, 1]
    assert one["ratio"] == values["flat", 4][1, 0, 1] / values["flat", 4][1, 3, 1]
    assert np.isnan(joined["top1"].sel(model="flat", step=2)).all()
    assert int(np.isfinite(joined["median"]).sum()) == len(dataset.to_dataframe())
    back = joined[["top1", "ratio"]].to_dataframe().dropna().reset_index()
    table = dataset.to_dataframe()
    assert (back["top1"].to_numpy() == table["top1"].to_numpy()).all()


def test_what_joined_would_not_fit_into_memory_is_refused_before_it_is_made(tmp_path, monkeypatch):
    dataset, _ = written(tmp_path)
    monkeypatch.setattr(long_form, "_MOST_CELLS", 100)
    with pytest.raises(madyn.MadynError, match=r"2 models joined over 4 steps, .* take to_dataframe\(\)"):
        dataset.to_xarray()


def test_labelled_arrays_say_what_their_names_mean(tmp_path):
    dataset, _ = written(tmp_path)
    madyn.fit_dataset(dataset.path, models="deep", hypotheses=["step1"])
    dataset = madyn.open_dataset(dataset.path)
    arrays = {
        "statistics": dataset.statistics("deep"),
        "ratio": dataset.trajectories("deep", "ratio"),
        "means": dataset.trajectories("deep", "ratio", ratio_of="means"),
        "median": dataset.per_sequence("deep", "median"),
        "fits": dataset.fits("deep"),
        "all": dataset.to_xarray(),
        "massive": dataset.massive("deep"),
    }
    for name, array in arrays.items():
        parts = {**array.coords, **(array.data_vars if hasattr(array, "data_vars") else {array.name: array})}
        for key, part in parts.items():
            assert part.attrs["long_name"], (name, key)
            assert part.attrs["units"], (name, key)
    assert arrays["ratio"].attrs["long_name"] == arrays["means"].attrs["long_name"] == "largest |h| / median of |h|"
    assert arrays["median"].attrs["long_name"] == "median of |h|"
    assert arrays["ratio"]["step"].attrs == {"long_name": "training step", "units": "step"}
