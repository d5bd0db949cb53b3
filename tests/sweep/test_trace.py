"""Checkpoints in folders -> dataset: found, measured once, resumed, refused, and failures recorded."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

import madyn
from madyn.checkpoints import find_checkpoint, find_checkpoints
from madyn.dataset import layout, manifest
from madyn.errors import CheckpointError, ProbeMismatchError, StorageError, TextError, UsageError
from madyn.sweep import plan_costs
from madyn.text import read_text, token_sequences
from tiny import SENTENCES, TEXT, save_checkpoints, tiny_shape


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return save_checkpoints(tmp_path_factory.mktemp("run") / "tiny-net", steps=(0, 1, 2, 1000))


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture
def probe(book):
    return madyn.sweep.Probe(book, sequences=3, length=12)


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copied" / "tiny-net")


def test_a_probe_that_is_not_there_is_said_before_anything_is_looked_at(run, tmp_path):
    probe = madyn.sweep.Probe(str(tmp_path / "typo.txt"))
    with pytest.raises(TextError, match=r"typo\.txt: no such folder or file"):
        madyn.trace(run, tmp_path / "d", probe=probe, steps=[12345])
    with pytest.raises(TextError, match=r"typo\.txt: no such folder or file"):
        plan_costs([run], probe=probe)
    with pytest.raises(CheckpointError, match=r"tokenizer .*typo: no such folder or file"):
        madyn.trace(run, tmp_path / "d", tokenizer=tmp_path / "typo", steps=[12345])
    assert plan_costs([run], probe=probe, inputs=[[1, 2, 3]]).models[0].checkpoints == 4


def test_finds_checkpoints_by_the_names_in_use(run, tmp_path):
    assert list(find_checkpoints(run).by_step) == [0, 1, 2, 1000]
    for name, step in (
        ("checkpoint-500", 500),
        ("global_step7", 7),
        ("iter_0000012", 12),
        ("stage1-step9-tokens4B", 9),
    ):
        folder = tmp_path / name / name
        shutil.copytree(run / "step1", folder)
        assert list(find_checkpoints(folder.parent).by_step) == [step]
        assert find_checkpoint(folder).step == step
    one = find_checkpoints(run / "step1000")
    assert (one.name, list(one.by_step)) == ("tiny-net", [1000])


def test_a_trainer_s_folder_says_its_own_step(run, tmp_path):
    folder = shutil.copytree(run / "step1", tmp_path / "my-run")
    with pytest.raises(CheckpointError, match="for one checkpoint use `madyn scan`"):
        find_checkpoints(folder)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 321}))
    assert list(find_checkpoints(folder).by_step) == [321]
    (folder / "trainer_state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="does not give the training step"):
        find_checkpoints(folder)


def test_what_is_no_checkpoint(tmp_path, run):
    for name in ("no/such/folder", "what is this?"):
        with pytest.raises(CheckpointError, match="no such folder or file"):
            find_checkpoint(name)
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"a \.gguf file"):
        find_checkpoint(tmp_path / "weights.bin")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        find_checkpoint(tmp_path)
    with pytest.raises(UsageError, match="--revision goes with"):
        find_checkpoint(run / "step1", "main")
    with pytest.raises(CheckpointError, match=r"no checkpoint at steps 3 and 5; it has steps 0, 1, 2 and 1000"):
        find_checkpoints(run).at([5, 1, 3])


def test_traces_what_measure_measures(run, probe, tmp_path):
    report = madyn.trace(run, tmp_path / "d", probe=probe, steps=[0, 1000])
    assert report.measured == [("tiny_net", 0), ("tiny_net", 1000)]
    dataset = report.open()
    assert dataset.steps("tiny_net") == [0, 1000]
    checkpoint = find_checkpoint(run / "step1000")
    sequences = token_sequences(read_text(probe.text), checkpoint.tokenizer(), 3, 12)
    expected = madyn.measure(checkpoint.model(torch.float32), sequences)
    assert np.array_equal(dataset.statistics("tiny_net").sel(step=1000), expected)
    unit = dataset.units("tiny_net")[1000]
    path = layout.statistics_path(dataset.path, "tiny_net", 1000)
    assert unit.statistics_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert unit.weights_xxh3 != dataset.units("tiny_net")[0].weights_xxh3
    assert (unit.sequences, unit.length, unit.first_token, unit.dtype, unit.device) == (3, 12, "text", "float32", "cpu")
    assert unit.versions["torch"].startswith(torch.__version__.split("+")[0])
    assert dataset.architecture("tiny_net") == tiny_shape()
    assert dataset.parameter_count("tiny_net") == tiny_shape().num_parameters
    places = json.loads(layout.locations_path(dataset.path, "tiny_net", 1000).read_text())
    position, token = np.array(places["position"]), np.array(places["token_id"])
    assert position.shape == token.shape == np.array(places["feature"]).shape == (3, 3, 2)
    assert token[1, 0, 0] == sequences[1, position[1, 0, 0]]
    assert madyn.checking.check_dataset(dataset.path).faults == []


def test_bos_in_place_of_text(run, book, tmp_path):
    report = madyn.trace(run, tmp_path, steps=0, probe=madyn.sweep.Probe(book, sequences=2, length=8, bos=True))
    assert report.open().units("tiny_net")[0].first_token == "bos"
    assert json.loads((tmp_path / "manifest/probe.json").read_text())["text"] == book


def test_a_unit_is_measured_once_and_the_same_bytes_each_time(run, probe, tmp_path):
    first = madyn.trace(run, tmp_path / "a", probe=probe, steps="0,1")
    again = madyn.trace(run, tmp_path / "a", probe=probe)
    assert first.measured == again.already
    assert again.measured == [("tiny_net", 2), ("tiny_net", 1000)]
    madyn.trace(run, tmp_path / "b", probe=probe)
    for step, path in layout.statistics_files(tmp_path / "a", "tiny_net").items():
        assert path.read_bytes() == layout.statistics_path(tmp_path / "b", "tiny_net", step).read_bytes()


def test_steps_in_words(run, probe, tmp_path):
    paper = madyn.trace(run, tmp_path, probe=probe, steps="paper")
    assert [step for _, step in paper.measured] == [0, 1, 2, 1000]
    for steps in ("some", "", "1,x", "-1", [], [1.5, "a"]):
        with pytest.raises(UsageError):
            madyn.trace(run, tmp_path, probe=probe, steps=steps)
    with pytest.raises(CheckpointError, match="no checkpoint at step 77"):
        madyn.trace(run, tmp_path / "never", probe=probe, steps=[0, 77])
    assert not (tmp_path / "never" / "tiny_net").exists()


def test_other_text_or_other_tokens_are_refused(run, probe, tmp_path, book):
    madyn.trace(run, tmp_path / "d", probe=probe, steps=0)
    other = tmp_path / "other.txt"
    other.write_text(TEXT[5:])
    with pytest.raises(ProbeMismatchError, match="measured on the text"):
        madyn.trace(run, tmp_path / "d", probe=madyn.sweep.Probe(str(other), sequences=3, length=12))
    with pytest.raises(ProbeMismatchError, match=r"3 sequences of 12.*than these \(2 of 12"):
        madyn.trace(run, tmp_path / "d", probe=madyn.sweep.Probe(book, sequences=2, length=12))
    assert madyn.open_dataset(tmp_path / "d").steps("tiny_net") == [0]


def test_text_too_short_and_windows_too_long(run, tmp_path):
    (tmp_path / "short.txt").write_text("the quick fox")
    with pytest.raises(TextError, match="fill 0 sequences of 12"):
        madyn.trace(run, tmp_path / "d", probe=madyn.sweep.Probe(str(tmp_path / "short.txt"), sequences=1, length=12))
    with pytest.raises(UsageError, match="the model's context is 32"):
        madyn.trace(run, tmp_path / "d", probe=madyn.sweep.Probe("stdlib", length=33))


def break_truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def break_missing_weights(folder):
    (folder / "model.safetensors").unlink()


def break_missing_layer(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {k: v for k, v in weights.items() if ".layers.1." not in k}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def break_shapes(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 8}))


def break_values(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    next(v for k, v in weights.items() if "layers.0" in k and "dense" in k)[:] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def break_with_code(folder):
    import pickle

    class Payload:
        def __reduce__(self):
            return (open, (str(folder / "owned"), "w"))

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"gpt_neox.embed_in.weight": Payload()}))


def break_config(folder):
    (folder / "config.json").write_text("{")


BREAKS = {name.removeprefix("break_"): function for name, function in globals().items() if name.startswith("break_")}


@pytest.mark.parametrize("name", BREAKS)
def test_one_bad_checkpoint_is_recorded_and_the_sweep_goes_on(copy, run, probe, tmp_path, name):
    BREAKS[name](copy / "step1")
    report = madyn.trace(copy, tmp_path / "d", probe=probe)
    assert [step for _, step in report.measured] == [0, 2, 1000]
    (failure,) = report.failures
    assert failure.step == 1
    assert str(copy / "step1") in (failure.failure or "") or "after layer 0 is not finite" in (failure.failure or "")
    assert not (copy / "step1" / "owned").exists()
    dataset = report.open()
    assert dataset.units("tiny_net")[1].failure == failure.failure
    assert any("step 1 failed" in fault for fault in madyn.checking.check_dataset(dataset.path).faults)
    # Mended, it is measured, and alone.
    shutil.rmtree(copy / "step1")
    shutil.copytree(run / "step1", copy / "step1")
    again = madyn.trace(copy, tmp_path / "d", probe=probe)
    assert again.measured == [("tiny_net", 1)]
    assert madyn.checking.check_dataset(dataset.path).faults == []


def test_a_model_that_cannot_be_measured_at_all_does_not_cost_the_others(copy, run, probe, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    for step in (0, 1, 2, 1000):
        break_config(copy / f"step{step}")
    report = madyn.trace([copy, other], tmp_path / "d", probe=probe)
    assert [unit.step for unit in report.failures] == [0, 1, 2, 1000]
    assert [model for model, _ in report.measured] == ["other"] * 4
    assert "tiny_net" in "".join(madyn.checking.check_dataset(tmp_path / "d").faults)


def test_a_broken_checkpoint_that_is_alone_left_does_not_stop_anything(copy, run, probe, tmp_path):
    madyn.trace(copy, tmp_path / "d", probe=probe, steps=0)
    break_config(copy / "step1")
    other = shutil.copytree(run, tmp_path / "other")
    report = madyn.trace([copy, other], tmp_path / "d", probe=probe, steps=[0, 1])
    assert [unit.step for unit in report.failures] == [1]
    assert report.measured == [("other", 0), ("other", 1)]


@pytest.mark.parametrize("change", [{"hidden_size": "abc"}, {"num_attention_heads": 0}, {"num_attention_heads": 5}])
def test_a_config_of_nonsense_is_a_failure_like_any_other(copy, probe, tmp_path, change):
    path = copy / "step1" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    report = madyn.trace(copy, tmp_path / "d", probe=probe)
    assert [unit.step for unit in report.failures] == [1]
    assert len(report.measured) == 3


def test_other_tokens_are_refused_when_all_is_measured_too(run, probe, tmp_path, book):
    madyn.trace(run, tmp_path, probe=probe, steps=0)
    for other in (
        madyn.sweep.Probe(book, sequences=3, length=11),
        madyn.sweep.Probe(book, sequences=3, length=12, bos=True),
    ):
        with pytest.raises(ProbeMismatchError, match="other tokens"):
            madyn.trace(run, tmp_path, probe=other, steps=0)


def test_half_precision_is_asked_for_and_recorded(run, probe, tmp_path):
    report = madyn.trace(run, tmp_path, probe=probe, steps=0, settings=madyn.sweep.Settings(dtype="bfloat16"))
    assert report.open().units("tiny_net")[0].dtype == "bfloat16"
    with pytest.raises(UsageError):
        madyn.sweep.Settings(dtype="int8")
    with pytest.raises(UsageError):
        madyn.sweep.Settings(batch_size=0)
    with pytest.raises(UsageError, match="cannot be used here"):
        madyn.trace(run, tmp_path / "e", probe=probe, settings=madyn.sweep.Settings(device="cuda:99"))


def test_names(run, copy, probe, tmp_path):
    with pytest.raises(UsageError, match="would both be tiny_net"):
        madyn.trace([run, copy], tmp_path, probe=probe)
    with pytest.raises(UsageError, match="goes with one model"):
        madyn.trace([run, copy], tmp_path, probe=probe, name="x")
    with pytest.raises(UsageError, match="no model"):
        madyn.trace([], tmp_path, probe=probe)
    madyn.trace(run, tmp_path, probe=probe, steps=0, name="my-name")
    assert madyn.open_dataset(tmp_path).models == ["my_name"]


def test_an_unwritable_folder(run, probe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        madyn.trace(run, tmp_path / "file" / "d", probe=probe)


def test_encoder_decoders_are_traced_with_both_stacks(tmp_path, probe):
    from transformers import T5Config, T5Model

    from madyn.lab.tokenizer import train_tokenizer

    config = T5Config(vocab_size=300, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
    folder = tmp_path / "t5" / "step0"
    T5Model(config).save_pretrained(folder)
    train_tokenizer(SENTENCES, 300).save_pretrained(folder)
    dataset = madyn.trace(tmp_path / "t5", tmp_path / "d", probe=probe).open()
    assert dataset.statistics("t5").sizes["layer"] == 4
    assert dataset.units("t5")[0].stacks == {"encoder.block": 2, "decoder.block": 2}
    table = madyn.sweep.scan_checkpoint(folder, probe=probe)
    assert table["stack"].tolist() == ["encoder.block"] * 2 + ["decoder.block"] * 2
    assert table["layer_in_stack"].tolist() == [0, 1, 0, 1]


def test_scan(run, probe):
    table = madyn.sweep.scan_checkpoint(run / "step2", probe=probe)
    assert list(table.columns) == [
        "stack", "layer_in_stack", "top1", "top2", "top3", "median", "ratio", "largest", "own_ratio", "position",
        "token", "feature", "published", "tail",
    ]  # fmt: skip
    checkpoint = find_checkpoint(run / "step2")
    sequences = token_sequences(read_text(probe.text), checkpoint.tokenizer(), 3, 12)
    found = madyn.measure(checkpoint.model(torch.float32), sequences)
    assert np.allclose(table["top1"], found[:, 0].mean(axis=0))
    assert np.allclose(table["ratio"], (found[:, 0] / found[:, 3]).mean(axis=0))
    assert np.allclose(table["largest"], found[:, 0].max(axis=0))
    own = found[:, 0].argmax(axis=0), np.arange(2)
    assert np.allclose(table["own_ratio"], (found[:, 0] / found[:, 3])[own])
    assert table["published"].tolist() == table["tail"].tolist() == [0, 0]
    assert table["stack"].tolist() == ["layers", "layers"]


def test_scan_takes_what_the_context_allows(run):
    assert madyn.sweep.scan_checkpoint(run / "step1").attrs["length"] == 32


def test_scan_knows_what_is_massive(copy, probe):
    """One feature of the first layer's output is pushed far out; the rule is 100, and 1000 times the median."""
    from safetensors.torch import load_file, save_file

    path = copy / "step2" / "model.safetensors"
    weights = load_file(path)
    bias = next(k for k in weights if k.endswith("layers.1.mlp.dense_4h_to_h.bias"))
    weights[bias][5] = 5000.0
    save_file(weights, path, metadata={"format": "pt"})
    table = madyn.sweep.scan_checkpoint(copy / "step2", probe=probe)
    assert table["published"].tolist() == [0, 3]
    assert table["tail"].tolist() == [0, 3]
    assert table.loc[1, "feature"] == 5
    assert table.loc[1, "top1"] == pytest.approx(5000, rel=1e-3)


def test_units_of_an_older_version_are_read(tmp_path):
    manifest.write_unit(tmp_path, manifest.Unit(model="m", step=1, source="s"))
    path = layout.manifest_path(tmp_path, "m", 1)
    path.write_text(json.dumps({**json.loads(path.read_text()), "a field of a later version": 1}))
    assert manifest.read_units(tmp_path, "m")[1].source == "s"
