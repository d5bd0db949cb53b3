"""`madyn intervene` and `madyn scan --features` as a user has them."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from planted import FEATURE, FIRST, LAYER, LAYERS, build, planted, sequences
from tiny import TEXT, save_checkpoints


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with a planted value, and token ids that carry it; it has no tokenizer of its own."""
    folder = tmp_path_factory.mktemp("planted")
    planted().save_pretrained(folder)
    np.save(folder / "ids.npy", sequences())
    return folder


def test_the_table_names_what_was_changed_and_concludes(folder, run, tmp_path):
    code, out, err = run("intervene", folder, "--tokens", folder / "ids.npy", "--out", tmp_path / "report")
    assert (code, err) == (0, "")
    assert f"changed behind layer {LAYER}" in out
    assert f"position 0 ('id {FIRST}'), feature {FEATURE}" in out
    assert "set to zero: nothing much happens" in out
    lines = [line.split()[:3] for line in out.splitlines()]
    assert ["zero", "1", "massive"] in lines
    assert ["mean", "1", "random"] in lines
    names = {path.name for path in (tmp_path / "report").iterdir()}
    both = {f"{name}.{kind}" for name in ("effects", "parts", "attention") for kind in ("csv", "png")}
    assert names == {"report.md", "layers.png", "by_layer.csv", "by_position.csv", "places.csv", *both}
    assert f"layer {LAYER} mlp" in out or f"MLP of layer {LAYER}" in out or f"mlp of layer {LAYER}" in out
    assert "attention to position 0" in out
    report = (tmp_path / "report" / "report.md").read_text()
    assert "| zero | 1 massive |" in report
    assert "![change of the loss](effects.png)" in report


def test_json_holds_the_numbers_of_the_table(folder, run):
    asked = ["--tokens", folder / "ids.npy", "--set", "clip:10", "--no-controls", "--json"]
    code, out, err = run("intervene", folder, *asked)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [(row["set"], row["kind"]) for row in found["effects"]] == [("untouched", ""), ("clip:10", "massive")]
    assert found["effects"][1]["change"] == pytest.approx(found["effects"][1]["loss"] - found["effects"][0]["loss"])
    assert {place["feature"] for place in found["places"]} == {FEATURE}
    assert {row["layer"] for row in found["by_layer"]} == set(range(LAYERS))
    table = pd.read_csv(io.StringIO(run("intervene", folder, *asked[:-1], "--csv", "-")[1]))
    assert table["change"].tolist()[1] == found["effects"][1]["change"]


def test_a_model_with_nothing_massive_is_refused_and_taken_on_request(run, tmp_path):
    build().save_pretrained(tmp_path)
    np.save(tmp_path / "ids.npy", sequences())
    code, _, err = run("intervene", tmp_path, "--tokens", tmp_path / "ids.npy")
    assert code == 2
    assert "no massive activation" in err
    assert "name a layer" in err
    assert run("intervene", tmp_path, "--tokens", tmp_path / "ids.npy", "--layer", 1, "--no-controls")[0] == 0


def test_a_run_is_followed_into_a_dataset(run, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    save_checkpoints(tmp_path / "run", (0, 3))
    asked = ["--probe", tmp_path / "text.txt", "--length", 24, "--layer", 0, "--set", "zero"]
    code, out, _ = run("intervene", tmp_path / "run", "--steps", "all", "--out", tmp_path / "d", *asked)
    assert code == 0
    assert {line.split()[0] for line in out.splitlines() if line.strip()} >= {"0", "3"}
    assert {path.name for path in (tmp_path / "d" / "intervention").iterdir()} == {"run", "run.csv", "run.png"}
    code, out, _ = run("intervene", tmp_path / "run", "--steps", "all", "--out", tmp_path / "d", *asked, "--json")
    assert {row["step"] for row in json.loads(out)["steps"]} == {0, 3}
    code, out, err = run("intervene", tmp_path / "run", "--steps", "all", "--out", tmp_path / "d", *asked, "--csv", "-")
    assert set(pd.read_csv(io.StringIO(out))["step"]) == {0, 3}
    assert "written: " in err
    code, _, err = run("intervene", tmp_path / "run", "--steps", "all", *asked)
    assert code == 2
    assert "--out" in err


def test_features_are_listed(folder, run, tmp_path):
    code, out, err = run("scan", folder, "--tokens", folder / "ids.npy", "--features")
    assert (code, err) == (0, "")
    assert [str(FEATURE), str(LAYER), "to", str(LAYERS - 1)] in [line.split()[:4] for line in out.splitlines()]
    code, out, _ = run("scan", folder, "--tokens", folder / "ids.npy", "--features", "--json")
    found = json.loads(out)
    assert [one["feature"] for one in found["features"]] == [FEATURE]
    assert len(found["dimensions"]) == LAYERS - LAYER
    code, out, _ = run("scan", folder, "--tokens", folder / "ids.npy", "--features", "--csv", "-")
    assert pd.read_csv(io.StringIO(out))["feature"].tolist() == [FEATURE]
    build().save_pretrained(tmp_path)
    code, out, _ = run("scan", tmp_path, "--tokens", folder / "ids.npy", "--features")
    assert code == 0
    assert "no feature is massive" in out
    assert run("scan", folder, "--tokens", folder / "ids.npy", "--features", "--rule", "big")[0] == 2
