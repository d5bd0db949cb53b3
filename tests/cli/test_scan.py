"""What a scan says, and of what: BOS and no BOS, images, two stacks, values near the end of float16, JSON."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import madyn
from madyn.checkpoints import find_checkpoint
from madyn.errors import TextError, UsageError
from madyn.lab.tokenizer import train_tokenizer
from madyn.text import adds_bos
from tiny import SENTENCES, TEXT, save_checkpoints


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint whose tokenizer puts BOS before a text."""
    folder = save_checkpoints(tmp_path_factory.mktemp("bos") / "tiny", (0,)) / "step0"
    state = json.loads((folder / "tokenizer.json").read_text())
    tokenizer = train_tokenizer(SENTENCES, 300)
    first = {"SpecialToken": {"id": tokenizer.bos_token, "type_id": 0}}
    state["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [first, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            tokenizer.bos_token: {
                "id": tokenizer.bos_token, "ids": [tokenizer.bos_token_id], "tokens": [tokenizer.bos_token]
            }
        },
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(state))
    return folder


@pytest.fixture
def probe(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    return ["--probe", tmp_path / "text.txt", "--sequences", "3", "--length", "12"]


def push(folder, value):
    """One feature of the first layer's output pushed far out."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights[next(k for k in weights if k.endswith("layers.0.mlp.dense_4h_to_h.bias"))][5] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_scan_says_what_it_measured_and_in_how_many_sequences(folder, probe, run, tmp_path):
    pushed = shutil.copytree(folder, tmp_path / "step0")
    push(pushed, 5000.0)
    code, out, _ = run("scan", pushed, *probe, "--seed", "7")
    assert code == 0
    assert "3 sequences of 12 tokens of " in out.splitlines()[0]
    assert "seed 7, without BOS" in out.splitlines()[0]
    assert "means over 3 sequences" in out
    assert out.splitlines()[2].rstrip().endswith("3 of 3      3 of 3")  # layer 0 by both rules
    assert "massive: in how many of 3 sequences |h| is above 100 and at least 1000 times the median" in out
    assert "in layers 0-1" in out


def test_the_shown_ratio_is_the_one_that_the_rule_was_applied_to(folder, probe, tmp_path):
    """The mean ratio of a layer may be below 1000 where one sequence's is not: then that one is shown and counted."""
    from madyn.summaries.scanning import _share
    from madyn.sweep.scanning import _table

    rng = np.random.default_rng(0)
    hidden = np.abs(rng.standard_normal((4, 16, 32)))
    hidden[2, 3, 9] = 3000
    from madyn.massive import tail_ranks
    from madyn.measurement.reducing import Measurement, Tails

    top = -np.sort(-hidden.reshape(4, -1), axis=1)[:, :3]
    statistics = np.concatenate([top, np.median(hidden.reshape(4, -1), axis=1)[:, None]], axis=1)[:, :, None]
    ranks = tail_ranks(512, 32)
    flat, maxima = -np.sort(-hidden.reshape(4, -1), axis=1), -np.sort(-hidden.max(axis=1), axis=1)
    tails = np.stack(
        [flat[:, ranks[0] - 1], flat[:, ranks[1] - 1], maxima[:, ranks[2] - 1], maxima[:, ranks[3] - 1]], 1
    )
    places = np.full((4, 3, 1), 3), np.full((4, 3, 1), 9)
    measured = Measurement(
        statistics,
        *places,
        statistics[:, 0],
        np.array([16]),
        {"layers": 1},
        {},
        Tails(tails[:, None], np.array([512]), np.array([32])),
    )
    table = _table(measured, np.zeros((4, 16), int), None)
    table.attrs["sequences"] = 4
    row = table.loc[0]
    assert row["ratio"] < 1500
    assert row["own_ratio"] == pytest.approx(3000 / np.median(hidden[2]))
    assert (row["published"], row["tail"]) == (1, 1)
    assert _share(row["published"], table) == "1 of 4"


def test_bos_is_told_and_both_ways_are_shown(folder, probe, run):
    code, out, _ = run("scan", folder, *probe)
    assert code == 0
    assert "these sequences start without it" in out
    for flags in (["--bos"], ["--bos", "start"], ["--bos=start"]):
        code, started, _ = run("scan", *flags, folder, *probe)
        assert code == 0
        assert "each after a BOS token" in started
        assert "start without it" not in started
    code, both, _ = run("scan", folder, *probe, "--bos", "both")
    assert code == 0
    assert "largest +BOS" in both
    alone = [
        madyn.sweep.scan_checkpoint(folder, probe=madyn.sweep.Probe(str(probe[1]), 3, 12, bos)) for bos in (False, True)
    ]
    assert (
        json.loads(run("scan", folder, *probe, "--bos", "both", "--json")[1])["scans"][0]["layers"]
        == json.loads(run("scan", folder, *probe, "--json")[1])["scans"][0]["layers"]
    )
    for line, (_, without), (_, after) in zip(both.splitlines()[2:4], *(t.iterrows() for t in alone), strict=True):
        assert line.split()[1:7] == [
            f"{value:.4g}" for row in (without, after) for value in (row["largest"], row["own_ratio"], row["position"])
        ]


def test_bos_as_words_that_mean_nothing(folder, probe, run, tmp_path):
    code, _, err = run("scan", folder, *probe, "--bos=first")
    assert (code, "--bos is 'first'; it is one of none, start, both" in err) == (2, True)
    code, _, err = run("trace", folder, "--out", tmp_path / "d", *probe, "--bos", "both")
    assert (code, "--bos both goes with madyn scan" in err) == (2, True)


def test_a_trace_says_what_it_starts_without_and_records_it(folder, probe, run, tmp_path):
    code, _, err = run("trace", folder.parent, "--out", tmp_path / "d", *probe)
    assert code == 0
    assert err.count("these sequences start without it") == 1
    assert any("start without it" in r for r in madyn.open_dataset(tmp_path / "d").units("tiny")[0].remarks)
    code, _, err = run("trace", "--bos", folder.parent, "--out", tmp_path / "e", *probe)
    assert (code, "start without it" in err) == (0, False)
    assert madyn.open_dataset(tmp_path / "e").units("tiny")[0].first_token == "bos"


def test_which_tokenizers_add_bos(folder):
    assert adds_bos(find_checkpoint(folder).tokenizer())
    assert not adds_bos(train_tokenizer(SENTENCES, 300))


@pytest.mark.parametrize(
    ("value", "said"), [(9000.0, None), (20000.0, "within a factor of 4"), (70000.0, "more than float16 holds")]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values_near_the_end_of_float16_are_told_whatever_was_measured(
    folder, probe, run, tmp_path, value, said, dtype
):
    run_folder = tmp_path / "tiny"
    pushed = shutil.copytree(folder, run_folder / "step0")
    shutil.copytree(pushed, run_folder / "step1")
    push(pushed, value)
    push(run_folder / "step1", value)
    code, out, _ = run("scan", pushed, *probe, "--dtype", dtype)
    assert (code, "float16" in out) == (0, said is not None)
    code, _, err = run("trace", run_folder, "--out", tmp_path / "d", *probe, "--dtype", dtype, "--allow-duplicates")
    assert code == 0
    units = madyn.open_dataset(tmp_path / "d").units("tiny")
    if said is None:
        assert "float16" not in err
        return
    assert said in out
    assert err.count("float16 holds") == 1  # said once, recorded of each
    assert all(any(said in remark for remark in unit.remarks) for unit in units.values())


@pytest.mark.parametrize("value", [20000.0, 70000.0])
def test_positions_left_out_are_looked_at_for_float16(folder, probe, run, tmp_path, value):
    """A value of one token alone, at the position that is left out."""
    from safetensors.torch import load_file, save_file

    run_folder = tmp_path / "tiny"
    pushed = shutil.copytree(folder, run_folder / "step0")
    weights = load_file(pushed / "model.safetensors")
    bos = find_checkpoint(folder).tokenizer().bos_token_id
    weights[next(k for k in weights if k.endswith("embed_in.weight"))][bos, 5] = value
    save_file(weights, pushed / "model.safetensors", metadata={"format": "pt"})
    options = (*probe, "--bos", "--exclude-positions", "0")
    code, _, err = run("trace", run_folder, "--out", tmp_path / "d", *options)
    dataset = madyn.open_dataset(tmp_path / "d")
    assert (code, dataset.statistics("tiny").max() < 1000) == (0, True)
    said = f"|h| reaches {value:,.0f} after layer"
    assert said in err
    assert any(said in remark for remark in dataset.units("tiny")[0].remarks)
    scan_probe = madyn.sweep.Probe(str(probe[1]), 3, 12, True, exclude_positions="0")
    table = madyn.sweep.scan_checkpoint(pushed, probe=scan_probe)
    assert (table["largest"].max() < 1000, any(said in r for r in table.attrs["remarks"])) == (True, True)


def test_json_of_a_scan(folder, probe, run):
    code, out, _ = run("scan", folder, *probe, "--json", "--bos", "both")
    found = json.loads(out)
    assert code == 0
    assert set(found) == {"model", "revision", "false_alarms", "scans"}
    assert [scan["bos"] for scan in found["scans"]] == [False, True]
    table = madyn.sweep.scan_checkpoint(folder, probe=madyn.sweep.Probe(str(probe[1]), 3, 12))
    layers = found["scans"][0]["layers"]
    assert [layer["top1"] for layer in layers] == pytest.approx(table["top1"].tolist())
    assert set(layers[0]) == {"layer", *table.columns}
    code, out, _ = run("scan", folder, *probe, "--csv", "-", "--bos", "both")
    written = pd.read_csv(io.StringIO(out))
    assert code == 0
    assert list(written.columns) == ["layer", *table.columns, "bos"]
    assert written["bos"].tolist() == [False] * len(table) + [True] * len(table)
    assert written["top1"].tolist()[: len(table)] == table["top1"].tolist()


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    root = tmp_path_factory.mktemp("vision")
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4
    )
    ViTModel(config).save_pretrained(root / "vit")
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(root / "vit")
    (root / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.jpg", "c.PNG"):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(root / "pictures" / name)
    (root / "pictures" / "notes.txt").write_text("no image")
    return root


def test_a_vision_model_says_what_it_is(vision, folder, run, tmp_path):
    shutil.copytree(vision / "vit", tmp_path / "run" / "step0")
    for command in (["scan", vision / "vit"], ["trace", tmp_path / "run", "--out", tmp_path / "d"]):
        code, _, err = run(*command)
        said = "is a vision model (vit), which reads images and no text: madyn scan --images"
        assert (code, said in err, len(err.splitlines())) == (2, True, 1)
    code, _, err = run("scan", folder, "--images", vision / "pictures")
    assert (code, "reads no images" in err) == (2, True)
    code, _, err = run("scan", vision / "vit", "--images", vision / "pictures", "--probe", "stdlib")
    assert (code, "--probe has nothing to say" in err) == (2, True)


def test_images_of_a_folder(vision, run):
    from transformers import AutoImageProcessor, AutoModel

    code, out, _ = run("scan", vision / "vit", "--images", vision / "pictures", "--sequences", "2")
    assert code == 0
    assert "2 given images of 8 x 8" in out
    assert "means over 2 images" in out
    processor = AutoImageProcessor.from_pretrained(vision / "vit", backend="pil")
    files = [vision / "pictures" / name for name in ("a.jpg", "b.png")]
    pixels = processor(images=[Image.open(f).convert("RGB") for f in files], return_tensors="pt")["pixel_values"]
    found = madyn.measure(AutoModel.from_pretrained(vision / "vit"), pixels)
    table = madyn.sweep.scan_checkpoint(
        vision / "vit", images=vision / "pictures", probe=madyn.sweep.Probe(sequences=2)
    )
    np.testing.assert_allclose(table["top1"], found[:, 0].mean(axis=0), rtol=1e-5)
    assert len(madyn.sweep.scan_checkpoint(vision / "vit", images=vision / "pictures")) == 2
    assert table.attrs["length"] == 5  # four patches and the class token


def test_the_length_of_an_image_is_that_of_the_layers_positions(vision, tmp_path):
    from transformers import SwinConfig, SwinModel

    from madyn.massive import massive_by_start

    pixels = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    for step in (0, 1):
        shutil.copytree(vision / "vit", tmp_path / "run" / f"step{step}")
    settings = madyn.sweep.Settings(allow_duplicates=True)
    dataset = madyn.trace(tmp_path / "run", tmp_path / "d", inputs=pixels, settings=settings).open()
    assert {unit.length for unit in dataset.units("run").values()} == {5}
    top1, median = (dataset.per_sequence("run", name).values for name in ("top1", "median"))
    by_start = massive_by_start(top1[1], median[1], top1[0], median[0], 5 * 24).massive.sum(axis=0)
    assert dataset.massive("run")["start"].sel(step=1).values.tolist() == by_start.tolist()

    torch.manual_seed(0)
    swin = SwinModel(
        SwinConfig(image_size=16, patch_size=2, window_size=2, embed_dim=8, depths=[1, 1, 1], num_heads=[1, 2, 2])
    )
    larger = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    lengths = madyn.measurement.measure_with_locations(swin, larger).lengths.tolist()
    dataset = madyn.trace("swin", tmp_path / "e", load=lambda step: swin, steps=[0], inputs=larger).open()
    assert dataset.units("swin")[0].length is None
    assert lengths == [16, 4, 4]


def test_folders_that_hold_no_images(vision, tmp_path):
    with pytest.raises(TextError, match="no images in it"):
        madyn.sweep.scan_checkpoint(vision / "vit", images=tmp_path)
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(TextError, match=r"a\.png: cannot be read as an image"):
        madyn.sweep.scan_checkpoint(vision / "vit", images=tmp_path)
    with pytest.raises(TextError, match="cannot be read as a folder"):
        madyn.sweep.scan_checkpoint(vision / "vit", images=tmp_path / "none")


def test_inputs_of_another_kind_are_one_line(vision):
    from transformers import AutoConfig, AutoModel, T5Config, T5Model

    vit = AutoModel.from_pretrained(vision / "vit")
    t5 = T5Model(T5Config(vocab_size=97, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=2))
    llama = AutoModel.from_config(
        AutoConfig.for_model("llama", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    )
    ids, pixels = np.ones((2, 5), int), np.zeros((2, 3, 8, 8), np.float32)
    with pytest.raises(UsageError, match=r"ViTModel reads pixel values.*these are token ids"):
        madyn.measure(vit, ids)
    for model in (t5, llama):
        with pytest.raises(UsageError, match=r"reads token ids.*these are pixel values"):
            madyn.measure(model, pixels)
    for shape in ((2, 1, 8, 8), (2, 3, 12, 12)):
        with pytest.raises(UsageError, match="ViTModel does not take images of"):
            madyn.measure(vit, np.zeros(shape, np.float32))


def test_labelled_statistics_say_whose_layer_is_which():
    from transformers import T5Config, T5Model

    model = T5Model(
        T5Config(vocab_size=97, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_decoder_layers=3, num_heads=2)
    )
    ids = np.random.default_rng(0).integers(0, 97, (2, 6))
    found = madyn.measure(model, ids, 2, labelled=True)
    assert found.dims == ("sequence", "quantity", "layer")
    assert found["quantity"].values.tolist() == ["top1", "top2", "median"]
    np.testing.assert_array_equal(found.values, madyn.measure(model, ids, 2))
    decoder = found.where(found["stack"] == "decoder.block", drop=True)
    assert decoder["layer_in_stack"].values.tolist() == [0, 1, 2]
    assert decoder["layer"].values.tolist() == [2, 3, 4]


def test_a_run_in_place_of_a_checkpoint_leads_to_what_it_holds(tmp_path, run):
    save_checkpoints(tmp_path / "tr0", (100, 200, 1000, 400))
    code, _, err = run("scan", tmp_path / "tr0")
    tr0 = tmp_path / "tr0"
    assert code == 1
    assert f"it holds step100 ... step1000: `madyn scan {tr0}/step100`, or `madyn trace {tr0}`" in err
    (tmp_path / "other").mkdir()
    assert "it holds" not in run("scan", tmp_path / "other")[2]
