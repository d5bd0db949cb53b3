"""The published layout: read back as the card says, as labelled arrays, and checked."""

import hashlib
import json
import math

import numpy as np
import pandas as pd
import pytest

import madyn
from madyn.dataset import fit_files, layout, manifest
from madyn.dataset.files import write_json
from madyn.errors import ArchitectureError, DatasetError, ProbeMismatchError, UsageError
from tiny import write_dataset


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return madyn.fit_dataset(write_dataset(tmp_path_factory.mktemp("fitted")))


@pytest.mark.parametrize(
    ("name", "directory"),
    [("EleutherAI/pythia-1.4b", "pythia_1.4b"), ("run/my-model", "my_model"), ("a-b.Q4_1.gguf", "a_b.Q4_1"),
     ("C:\\models\\a-b", "a_b")],
)  # fmt: skip
def test_directory_names(name, directory):
    assert layout.directory_name(name) == directory


@pytest.mark.parametrize("name", ["..", "/", "", "-"])
def test_names_that_would_be_no_directory(name):
    with pytest.raises(UsageError):
        layout.directory_name(name)


def test_labelled_arrays(fitted):
    statistics = fitted.statistics("pythia_14m")
    assert statistics.dims == ("step", "sequence", "quantity", "layer")
    assert list(statistics["quantity"].values) == ["top1", "top2", "top3", "median"]
    assert list(statistics["step"].values) == sorted(statistics["step"].values)
    raw = json.loads((fitted.path / "pythia_14m/stats/exp2_pythia_14m_step1000").read_text())
    assert statistics.sel(step=1000).values.tolist() == raw
    ratio = fitted.trajectories("pythia_14m", "ratio")
    assert ratio.dims == ("step", "layer")
    by_hand = np.mean([np.array(s[0]) / np.array(s[3]) for s in raw], axis=0)
    assert np.allclose(ratio.sel(step=1000), by_hand, rtol=1e-15)
    means = np.mean([s[0] for s in raw], axis=0) / np.mean([s[3] for s in raw], axis=0)
    assert np.allclose(fitted.trajectories("pythia_14m", "ratio", ratio_of="means").sel(step=1000), means, rtol=1e-15)
    assert not np.allclose(means, by_hand, rtol=1e-9)


def test_the_card_s_three_examples(fitted, monkeypatch):
    """The card's code with only model, step and layer changed (and the list made an array)."""
    monkeypatch.chdir(fitted.path)
    df = pd.read_csv("fitted_param_dataset_reparam.csv")
    pythia_data = df[df["model"] == "pythia_70m"]
    assert len(pythia_data) == 3
    assert len(df["layer_index_norm"]) == len(df["param_A"]) == 6
    with open("pythia_14m/stats/exp2_pythia_14m_step1000") as f:  # noqa: PTH123
        stats = np.array(eval(f.read()))
    top1_activations = stats[:, 0, :]
    assert top1_activations.shape == (4, 3)
    with open("pythia_14m/params/layer_fit_params.json") as f:  # noqa: PTH123
        fit_results = json.load(f)
    layer_2_reparam = fit_results[2]["reparam"]
    assert len(layer_2_reparam["popt"]) == 5
    assert layer_2_reparam["r2"] > 0.9


def test_the_parameter_table(fitted):
    table = fitted.parameters
    card = ["model", "layer_index", "layer_index_norm", "num_hidden_layers", "hidden_size", "intermediate_size",
            "num_attention_heads", "rotary_pct", "rotary_emb_base", "vocab_size", "max_position_embeddings", "param_A",
            "param_λ", "param_γ", "param_t0", "param_K"]  # fmt: skip
    assert list(table.columns[: len(card)]) == card
    assert table["layer_index_norm"].tolist() == [0, 0.5, 1] * 2
    assert table.loc[0, "hidden_size"] == 128  # known from the name pythia_14m
    record = fitted.fit_records("pythia_14m", "ratio")[0]["reparam"]
    row = table.iloc[0]
    assert record["param_names"] == ["beta", "tau0", "A1", "A2", "K"]
    found = row[["param_γ", "param_t0", "param_A", "param_λ", "param_K"]].tolist()
    assert np.allclose(found, record["popt"], rtol=1e-12)
    assert row["statistics_sha256"] == fitted.statistics_hash("pythia_14m")
    assert row["r2"] == pytest.approx(record["r2"])


def test_a_failed_fit_keeps_its_row_and_its_record(tmp_path):
    root = write_dataset(tmp_path, models=("m",), steps=(0, 1, 2, 3))
    with pytest.raises(madyn.MadynError, match=r"m: ratio: too few points: 4 finite, for the 5 parameters of original"):
        madyn.fit_dataset(root)
    dataset = madyn.open_dataset(root)
    assert dataset.parameters["param_A"].isna().tolist() == [True] * 3
    layers = dataset.fit_records("m", "ratio")
    for record in layers[0].values():
        assert all(key in record for key in fit_files.RECORD_KEYS)
    assert layers[0]["original"]["popt"] == [None] * 5
    assert "too few points" in layers[0]["original"]["message"]
    assert None not in layers[0]["step1"]["popt"]
    assert "NaN" not in (root / "m/params/layer_fit_params.json").read_text()


@pytest.mark.parametrize(
    "order", [(("median", "ratio", "top1"),), (("ratio",), ("median",)), (("top1",), ("top1", "ratio"))]
)
def test_the_file_for_all_quantities_has_every_one_that_was_fitted(tmp_path, order):
    root = write_dataset(tmp_path, models=("m",))
    for quantities in order:
        madyn.fit_dataset(root, quantities=quantities, hypotheses=["step1", "reparam"])
    params = root / "m/params"
    own = {q: json.loads((params / f"layer_fit_params_{q}.json").read_text()) for part in order for q in part}
    text = (params / "layer_fit_params.json").read_text()
    expected = [
        {**own.get("ratio", [{}] * 3)[layer], **{q: own[q][layer] for q in layout.FITTED_QUANTITIES if q in own}}
        for layer in range(3)
    ]
    assert json.loads(text) == expected
    assert text == json.dumps(expected, indent=1, ensure_ascii=False) + "\n"


def test_a_constant_series_is_a_record_that_says_so(tmp_path):
    root = write_dataset(tmp_path, models=("m",))
    files = layout.statistics_files(root, "m")
    for path in files.values():
        values = np.array(json.loads(path.read_text()))
        values[:, :, 1] = [[4.0], [3.0], [2.0], [1.0]] if values.shape[1] == 1 else [4.0, 3.0, 2.0, 1.0]
        path.write_text(json.dumps(values.tolist()))
    dataset = madyn.fit_dataset(root, quantities=["ratio"])
    layers = dataset.fit_records("m", "ratio")
    assert "constant" in layers[1]["reparam"]["message"]
    assert layers[0]["reparam"]["r2"] > 0.9


def test_fits_as_labels(fitted):
    fits = fitted.fits("pythia_14m", "ratio")
    assert list(fits["hypothesis"].values[:2]) == ["original", "reparam"]
    beta = fits["popt"].sel(hypothesis="reparam", parameter="beta")
    assert beta.sizes["layer"] == 3
    assert np.isnan(fits["popt"].sel(hypothesis="step1", parameter="beta")).all()
    assert fits["residuals"].sizes["step"] == len(fitted.steps("pythia_14m"))
    curve = fitted.trajectories("pythia_14m", "ratio") - fits["residuals"].sel(hypothesis="reparam")
    assert float(fits["r2"].sel(hypothesis="reparam").min()) > 0.9
    assert curve.dims == ("step", "layer")
    with pytest.raises(DatasetError, match="no such file"):
        madyn.open_dataset(write_dataset(fitted.path.parent / "unfitted_data")).fits("pythia_14m", "ratio")


def test_fitting_less_keeps_the_rest_unless_the_statistics_changed(tmp_path):
    root = write_dataset(tmp_path, models=("m",))
    madyn.fit_dataset(root, hypotheses=["step1", "reparam"], quantities=["ratio", "median"])
    dataset = madyn.fit_dataset(root, hypotheses=["step2"], quantities=["ratio"])
    assert list(dataset.fit_records("m", "ratio")[0]) == ["reparam", "step1", "step2"]
    combined = json.loads(layout.params_path(root, "m").read_text())
    assert set(combined[0]) == {"reparam", "step1", "step2", "ratio", "median"}
    assert combined[0]["median"].keys() == {"reparam", "step1"}
    means = madyn.fit_dataset(root, hypotheses=["step1"], quantities=["ratio"], ratio_of="means")
    assert list(means.fit_records("m", "ratio")[0]) == ["step1"]  # the others were fitted to the other ratio
    layout.statistics_files(root, "m")[1000].unlink()
    assert any("fitted to other statistics" in fault for fault in madyn.checking.check_dataset(root).faults)
    dataset = madyn.fit_dataset(root, hypotheses=["step2"], quantities=["ratio"])
    assert list(dataset.fit_records("m", "ratio")[0]) == ["step2"]


def test_suspects_are_flagged_and_dropped_only_when_asked(tmp_path):
    root = write_dataset(tmp_path, models=("m",))
    path = layout.statistics_path(root, "m", 8000)
    values = np.array(json.loads(path.read_text()))
    values[:, 0] *= 1.5
    path.write_text(json.dumps(values.tolist()))
    kept = madyn.fit_dataset(root, quantities=["ratio"]).fit_records("m", "ratio")[0]["reparam"]
    assert 8000 in kept["suspects"]
    dropped = madyn.fit_dataset(root, quantities=["ratio"], drop_suspects=True).fit_records("m", "ratio")[0]["reparam"]
    assert dropped["r2"] > kept["r2"]
    position = list(madyn.open_dataset(root).steps("m")).index(8000)
    assert kept["residuals"][position] is not None
    assert dropped["residuals"][position] is None
    assert dropped["provenance"]["suspects_dropped"]


def test_reads_what_others_published(tmp_path, fitted):
    """Other spellings of the Greek, unknown columns, NaN in JSON, fits nested by quantity only, no manifest."""
    root = write_dataset(tmp_path, models=("pythia_14m",))
    table = fitted.parameters.query("model == 'pythia_14m'")
    table = table[table.columns[:16]].rename(columns={"param_λ": "param_𝜆", "param_γ": "param_gamma"})
    table.assign(theirs=1).to_csv(root / layout.PARAMETER_TABLE, index=False)
    nested = [{"ratio": layer, "top1": layer} for layer in fitted.fit_records("pythia_14m", "ratio")]
    nested[0]["ratio"]["reparam"]["pcov"][0][0] = float("nan")
    path = layout.params_path(root, "pythia_14m")
    path.parent.mkdir()
    path.write_text(json.dumps(nested))
    dataset = madyn.open_dataset(root)
    assert {"param_λ", "param_γ", "theirs"} <= set(dataset.parameters.columns)
    pcov = dataset.fits("pythia_14m", "ratio")["pcov"].sel(hypothesis="reparam", layer=0)
    assert math.isnan(pcov.sel(parameter="beta", parameter_2="beta"))
    assert pcov.sel(parameter="beta", parameter_2="tau0") != 0
    assert dataset.fits("pythia_14m", "top1")["r2"].sizes["layer"] == 3
    with pytest.raises(DatasetError, match="no fits of the median"):
        dataset.fit_records("pythia_14m", "median")
    assert dataset.architecture("pythia_14m").num_attention_heads == 4
    assert dataset.parameter_count("pythia_14m") == 14067712


def test_select_and_iterate(fitted):
    assert list(fitted) == ["pythia_14m", "pythia_70m"]
    some = fitted.select(["pythia_70m"])
    assert some.models == ["pythia_70m"]
    assert set(some.parameters["model"]) == {"pythia_70m"}
    with pytest.raises(UsageError, match="no model 'gpt'"):
        fitted.select(["gpt"])
    with pytest.raises(UsageError, match="no model"):
        some.statistics("pythia_14m")
    with pytest.raises(UsageError, match="quantity is 'speed'; it is one of top1"):
        fitted.trajectories("pythia_14m", "speed")


def test_the_spread_over_the_sequences(fitted):
    spread = fitted.sequence_spread("pythia_14m", "ratio")
    values = fitted.per_sequence("pythia_14m", "ratio").isel(step=-1).values
    assert spread.loc[1, "cv"] == pytest.approx(values[:, 1].std(ddof=1) / values[:, 1].mean())
    assert spread.loc[1, "sem"] == pytest.approx(spread.loc[1, "cv"] / 2)
    assert spread.loc[1, "ci95"] == pytest.approx(3.182446 * spread.loc[1, "sem"], rel=1e-6)  # Student's t, 3 degrees


def test_no_dataset(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        madyn.open_dataset(tmp_path / "nothing")
    with pytest.raises(DatasetError, match="no model in it"):
        madyn.open_dataset(tmp_path)
    with pytest.raises(DatasetError, match="not a dataset's address"):
        madyn.open_dataset("hf://models/a/b")


def test_an_unknown_architecture(tmp_path):
    dataset = madyn.open_dataset(write_dataset(tmp_path, models=("somebody_s",)))
    with pytest.raises(ArchitectureError, match="neither in a manifest nor in the table"):
        dataset.architecture("somebody_s")


def test_one_malformed_file_does_not_cost_the_other_models(tmp_path):
    root = write_dataset(tmp_path)
    layout.statistics_path(root, "pythia_14m", 4).write_text("[[[1, 2")
    with pytest.raises(DatasetError, match=r"exp2_pythia_14m_step4: character 7.*truncated"):
        madyn.fit_dataset(root, quantities=["ratio"], hypotheses=["reparam"])
    assert len(madyn.open_dataset(root).fit_records("pythia_70m", "ratio")) == 3


def test_check_finds_everything(tmp_path):
    root = madyn.fit_dataset(write_dataset(tmp_path), quantities=["ratio"], hypotheses=["reparam"]).path
    report = madyn.checking.check_dataset(root)
    assert report.faults == []
    assert any("no fits of the top1" in absence for absence in report.absences)
    layout.statistics_path(root, "pythia_14m", 1).write_text("[[[1], [1], [1], [1]]]")
    layout.statistics_path(root, "pythia_14m", 2).write_text("__import__('os')")
    layout.statistics_path(root, "pythia_14m", 4).write_text(str([[[1.0] * 3, [2.0] * 3, [0.5] * 3, [0.1] * 3]] * 4))
    layout.statistics_path(root, "pythia_14m", 8).write_text(str([[[float("nan")] * 3] * 4] * 4).replace("nan", "NaN"))
    (root / "pythia_14m/stats/notes.txt").write_text("hello")
    (root / "pythia_70m/params/layer_fit_params_ratio.json").write_text("[{}")
    unit = manifest.Unit(model="pythia_70m", step=77, source="x", failure="it broke")
    manifest.write_unit(root, unit)
    faults = "\n".join(madyn.checking.check_dataset(root).faults)
    for expected in ("step1: shape (1, 4, 1)", "step2: character 0", "step4: not in the order", "step8: 48 values",
                     "notes.txt: not a statistics file's name", "layer_fit_params_ratio.json: not JSON",
                     "step 77 failed: it broke"):  # fmt: skip
        assert expected in faults


def test_check_reads_what_the_fits_say(tmp_path):
    root = madyn.fit_dataset(write_dataset(tmp_path, models=("m",)), hypotheses=["reparam", "step1"]).path
    assert madyn.checking.check_dataset(root).faults == []
    good = layout.params_path(root, "m", "ratio").read_text()

    path = layout.params_path(root, "m", "ratio")

    def faults_of(change):
        layers = json.loads(good)
        change(layers)
        path.write_text(json.dumps(layers))
        found = "\n".join(madyn.checking.check_dataset(root).faults)
        path.write_text(good)
        return found

    assert "layer 1, step1: r2 is 0.5" in faults_of(lambda layers: layers[1]["step1"].update(r2=0.5))
    assert "layer 0, hypothesis 'step1': 3 values in popt for 2 parameters" in faults_of(
        lambda layers: layers[0]["step1"].update(popt=[1, 2, 3])
    )
    assert "no aic" in faults_of(lambda layers: layers[0]["step1"].pop("aic"))
    assert "2 layers where the statistics have 3" in faults_of(lambda layers: layers.pop())
    assert faults_of(lambda layers: layers[0]["step1"].update(provenance=None))
    layout.params_path(root, "m").write_text("[]")
    assert "are not those of layer_fit_params_ratio.json" in "\n".join(madyn.checking.check_dataset(root).faults)
    layout.params_path(root, "m").unlink()
    assert "layer_fit_params.json: cannot be read" in "\n".join(madyn.checking.check_dataset(root).faults)
    table = root / layout.PARAMETER_TABLE
    table.write_text(table.read_text().replace("hidden_size", "width"))
    assert "no column hidden_size" in "\n".join(madyn.checking.check_dataset(root).faults)


def test_check_compares_files_with_what_was_measured(tmp_path):
    root = write_dataset(tmp_path, models=("m",), steps=(0, 1))
    for step, path in layout.statistics_files(root, "m").items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest.write_unit(root, manifest.Unit(model="m", step=step, source="s", statistics_sha256=digest))
    assert madyn.checking.check_dataset(root).faults == []
    path = layout.statistics_path(root, "m", 1)
    path.write_text(path.read_text().replace(".", ".0", 1))
    layout.manifest_path(root, "m", 0).unlink()
    path.rename(path.with_name("exp2_other_step1"))
    faults = "\n".join(madyn.checking.check_dataset(root).faults)
    for expected in (
        "exp2_other_step1: not a statistics file's name",
        "not what was measured",
        "step0.json: no such file",
    ):
        assert expected in faults


def test_a_model_of_which_nothing_was_measured_is_shown_and_checked(tmp_path, capsys):
    from madyn.summaries import print_contents

    manifest.write_unit(tmp_path, manifest.Unit(model="m", step=5, source="s", failure="it [broke] badly"))
    assert "m step 5 failed: it [broke] badly" in madyn.checking.check_dataset(tmp_path).faults[0]
    print_contents(madyn.open_dataset(tmp_path))
    assert "m step 5 failed: it [broke] badly" in capsys.readouterr().out
    with pytest.raises(DatasetError, match="nothing in it was measured"):
        madyn.fit_dataset(tmp_path)


def test_fitting_some_models_leaves_the_rows_of_the_others(tmp_path):
    root = madyn.fit_dataset(write_dataset(tmp_path), hypotheses=["reparam"]).path
    table = root / layout.PARAMETER_TABLE
    before = [row for row in table.read_text().splitlines() if row.startswith("pythia_70m")]
    (root / "pythia_70m/params/layer_fit_params_ratio.json").unlink()
    (root / "pythia_70m/params/layer_fit_params.json").unlink()
    madyn.fit_dataset(madyn.open_dataset(root).select("pythia_14m"), hypotheses=["step1"])
    assert [row for row in table.read_text().splitlines() if row.startswith("pythia_70m")] == before
    assert len(madyn.open_dataset(root).parameters) == 6


def test_one_damaged_file_costs_show_one_step(tmp_path, capsys):
    from madyn.summaries import dataset_contents, print_contents

    root = write_dataset(tmp_path, models=("m",), steps=(0, 1, 2))
    for step in (0, 1, 2):
        manifest.write_unit(root, manifest.Unit(model="m", step=step, source="s"))
    sound = madyn.open_dataset(root).trajectories("m", "ratio").sel(step=1).max().item()
    layout.statistics_path(root, "m", 2).write_text("[[[1")
    layout.manifest_path(root, "m", 0).write_text("{")
    (model,) = dataset_contents(madyn.open_dataset(root))["models"]
    assert (model["layers"], model["steps"], model["complete"]) == (3, [0, 1], False)
    assert model["largest_ratio"] == sound
    print_contents(madyn.open_dataset(root))
    shown = capsys.readouterr().out
    assert f"{layout.statistics_path(root, 'm', 2)}: character" in shown
    assert f"{layout.manifest_path(root, 'm', 0)}: not JSON" in shown
    damaged = layout.statistics_path(root, "m", 2)
    faults = madyn.checking.check_dataset(root).faults
    assert any(str(damaged) in fault and "put it back, or run `madyn trace` again" in fault for fault in faults)
    assert sum("step0.json: not JSON" in fault for fault in faults) == 1
    assert not any("no such file" in fault for fault in faults)
    for step in (0, 1):
        layout.statistics_path(root, "m", step).write_text("")
    (model,) = dataset_contents(madyn.open_dataset(root))["models"]
    assert (model["layers"], model["steps"], len(model["missing"])) == (None, [], 4)


def test_the_probe_is_claimed_once(tmp_path):
    probe = manifest.ProbeRecord(text="stdlib", sha256="a" * 64, documents=3, seed=0)
    manifest.claim_probe(tmp_path, probe)
    manifest.claim_probe(tmp_path, probe)
    other = manifest.ProbeRecord(text="book.txt", sha256="b" * 64, documents=1, seed=0)
    with pytest.raises(ProbeMismatchError, match=r"measured on the text 'stdlib'"):
        manifest.claim_probe(tmp_path, other)
    manifest.write_unit(tmp_path, manifest.Unit(model="m", step=5, source="s", failure="it broke"))
    assert len(madyn.checking.check_dataset(tmp_path).faults) == 1
    for garbage, why in (("{", "not JSON"), ('{"text": "stdlib"}', "not a manifest")):
        layout.probe_path(tmp_path).write_text(garbage)
        fault = madyn.checking.check_dataset(tmp_path).faults[0]
        assert f"probe.json: {why}" in fault
        assert "delete it and run `madyn trace`" in fault
        with pytest.raises(DatasetError, match=f"probe.json: {why}"):
            manifest.claim_probe(tmp_path, probe)
    layout.probe_path(tmp_path).unlink()
    write_json(layout.manifest_path(tmp_path, "m", 3), {"model": "m"})
    with pytest.raises(DatasetError, match="not a manifest"):
        manifest.read_units(tmp_path, "m")


def test_what_others_wrote_as_not_available_is_kept_as_null_when_fits_are_added(tmp_path):
    write_dataset(tmp_path, models=("m",))
    madyn.fit_dataset(tmp_path, quantities=["ratio"], hypotheses=["step1"])
    path = layout.params_path(tmp_path, "m", "ratio")
    layers = json.loads(path.read_text())
    layers[1]["theirs"] = {**layers[1]["step1"], "pcov": [[math.inf] * 2] * 2, "bic": math.nan, "more": [-math.inf]}
    path.write_text(json.dumps(layers))
    madyn.fit_dataset(tmp_path, quantities=["ratio"], hypotheses=["step2"])
    found = json.loads(path.read_text(), parse_constant=pytest.fail)[1]
    assert {"step1", "step2", "theirs"} <= found.keys()
    theirs = found["theirs"]
    assert (theirs["popt"], theirs["pcov"]) == (found["step1"]["popt"], [[None] * 2] * 2)
    assert (theirs["bic"], theirs["more"]) == (None, [None])
