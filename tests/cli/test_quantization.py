"""`madyn quantization`, of a model and of a dataset."""

import io
import json

import pandas as pd
import pytest
from PIL import Image

from tiny import TEXT, save_checkpoints, write_dataset


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "text.txt").write_text(TEXT)
    return save_checkpoints(folder / "run", (0,)) / "step0"


def measured(run, checkpoint, *more):
    text = checkpoint.parents[1] / "text.txt"
    return run("quantization", checkpoint, "--probe", text, "--length", 16, "--sequences", 2, *more)


def test_a_model_is_told_layer_by_layer(checkpoint, run, tmp_path):
    code, out, err = measured(run, checkpoint, "--out", tmp_path)
    assert code == 0, err
    assert "each layer in int8" in out
    assert "all layers together, perplexity" in out
    assert "With one scale a tensor layer" in out
    layers = pd.read_csv(tmp_path / "quantization_layers.csv")
    assert layers["layer"].tolist() == [0, 1]
    assert all(5 < bits < 8 for bits in layers["bits_tensor"])
    assert layers["estimated_bits"].tolist() == pytest.approx(layers["bits_tensor"].tolist(), abs=0.6)
    assert len(pd.read_csv(tmp_path / "quantization_rounding.csv")) == 2 * 7 * 3
    assert "| int8 per token |" in (tmp_path / "report.md").read_text()
    assert Image.open(tmp_path / "quantization.png").size[0] > 500
    code, again, _ = measured(run, checkpoint, "--json")
    value = json.loads(again)
    assert code == 0
    assert value["kind"] == "causal"
    assert [row["bits_tensor"] for row in value["layers"]] == pytest.approx(layers["bits_tensor"].tolist())
    assert len(value["together"]) == 7 * 3
    table = pd.read_csv(io.StringIO(measured(run, checkpoint, "--csv", "-")[1]))
    assert table["bits_tensor"].tolist() == layers["bits_tensor"].tolist()


def test_a_dataset_is_told_model_by_model(run, tmp_path):
    root = write_dataset(tmp_path / "data")
    code, out, err = run("quantization", root, "--at", 4000, "--out", tmp_path / "out")
    assert code == 0, err
    assert "pythia_70m" in out
    assert "4,000" in out
    table = pd.read_csv(tmp_path / "out" / "quantization_layers.csv")
    assert len(table) == 6
    assert (tmp_path / "out" / "report.md").read_text().startswith("# Quantization")
    assert (tmp_path / "out" / "quantization.png").exists()
    value = json.loads(run("quantization", root, "--json", "--model", "pythia_14m")[1])
    assert [row["model"] for row in value["models"]] == ["pythia_14m"]
    assert {row["step"] for row in value["layers"]} == {20000}


def test_bad_input_is_said_in_one_line(checkpoint, run, tmp_path):
    root = write_dataset(tmp_path / "data")
    for arguments, said in (
        ([root, "--at", 7], "nothing was measured at step 7"),
        ([root, "--model", "nobody"], "has no model 'nobody'"),
        ([root, "--keep", 2], "is a dataset, of which nothing is run, so that --keep has nothing to say"),
        ([checkpoint, "--at", 7], "is taken for a model and not for a dataset, so that --at has nothing to say"),
        ([checkpoint, "--keep", 0, "--length", 8], "keep"),
        ([checkpoint, "--probe", tmp_path / "none.txt"], "none.txt"),
        ([tmp_path / "typo"], "typo"),
    ):
        code, out, err = run("quantization", *arguments)
        assert code in (1, 2), arguments
        assert out == ""
        assert said in err, (arguments, err)
        assert err.count("\n") == 1, err


def test_weights_that_are_quantized_already_are_refused(run, tmp_path):
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24
    )
    config.save_pretrained(tmp_path)
    value = json.loads((tmp_path / "config.json").read_text())
    value["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(value))
    save_checkpoints(tmp_path / "run", (0,))
    for file in (tmp_path / "run" / "step0").glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "run" / "step0" / "model.safetensors").read_bytes())
    code, out, err = run("quantization", tmp_path, "--length", 8)
    assert code == 1
    assert out == ""
    assert "quanti" in err
