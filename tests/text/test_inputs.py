"""What is measured on: given tokenizers, given token ids, and special tokens that a text spells."""

import json

import numpy as np
import pytest

import madyn
from madyn.checkpoints import find_checkpoint
from madyn.checkpoints.tokenizers import find_tokenizer
from madyn.dataset import layout, manifest
from madyn.errors import CheckpointError, ProbeMismatchError, TextError, UsageError
from madyn.lab.tokenizer import BOS
from madyn.sweep import plan_costs
from madyn.sweep.inputs import read_token_file
from tiny import TEXT, save_checkpoints

OWN = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save_checkpoints(tmp_path_factory.mktemp("whole") / "tiny", (0, 1))


@pytest.fixture
def bare(whole, tmp_path):
    """The same run with no tokenizer in its folders, and the tokenizer in a folder of its own."""
    import shutil

    folder = shutil.copytree(whole, tmp_path / "tiny")
    (tmp_path / "reader").mkdir()
    for name in OWN:
        for checkpoint in folder.iterdir():
            if (checkpoint / name).exists():
                (checkpoint / name).replace(tmp_path / "reader" / name)
    return folder


@pytest.fixture
def text(tmp_path):
    (tmp_path / "t.txt").write_text(TEXT)
    return str(tmp_path / "t.txt")


def ids_file(path, array):
    np.save(path, array)
    return path if path.suffix == ".npy" else path.with_name(path.name + ".npy")


IDS = np.random.default_rng(0).integers(1, 300, size=(2, 12))


def test_a_checkpoint_without_a_tokenizer_says_what_to_do(bare, text, run, tmp_path):
    for command in (("scan", bare / "step0"), ("trace", bare, "--out", tmp_path / "d")):
        code, _, err = run(*command, "--probe", text, "--length", "12")
        assert code == 1
        assert " has no tokenizer; give --tokenizer NAME or FOLDER (tokenizer=), or token ids with --tokens" in err
    assert not (tmp_path / "d").exists()
    with pytest.raises(CheckpointError, match="there is none in it"):
        find_tokenizer(bare / "step0")
    with pytest.raises(CheckpointError, match="tokenizer /nowhere"):
        madyn.trace(bare, tmp_path / "d", probe=madyn.sweep.Probe(text, 2, 12), tokenizer="/nowhere")


@pytest.mark.parametrize("kind", ["t5", "mbart", "deberta-v2", "bert", "splinter"])
def test_what_transformers_makes_of_a_model_s_type_alone_is_no_tokenizer(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(CheckpointError, match="has no tokenizer; give --tokenizer NAME or FOLDER"):
        find_checkpoint(tmp_path).tokenizer()
    with pytest.raises(CheckpointError, match="there is none in it"):
        find_tokenizer(tmp_path)


def test_a_tokenizer_of_characters_needs_no_file(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "perceiver"}))
    assert len(find_checkpoint(tmp_path).tokenizer()("fox", add_special_tokens=False)["input_ids"]) == 3


def test_a_given_tokenizer_reads_the_text_as_the_checkpoint_s_own(whole, bare, text, run, tmp_path):
    reader = tmp_path / "reader"
    probe = ("--probe", text, "--sequences", "2", "--length", "12")
    assert run("trace", whole, "--out", tmp_path / "own", *probe)[0] == 0
    assert run("trace", bare, "--out", tmp_path / "given", "--tokenizer", reader, *probe)[0] == 0
    madyn.trace(bare, tmp_path / "object", probe=madyn.sweep.Probe(text, 2, 12), tokenizer=find_tokenizer(reader))
    own = layout.statistics_path(tmp_path / "own", "tiny", 1).read_bytes()
    for out in ("given", "object"):
        assert layout.statistics_path(tmp_path / out, "tiny", 1).read_bytes() == own
    scanned = [run("scan", folder / "step1", *probe, *more)[1].splitlines()[1:]
               for folder, more in ((whole, ()), (bare, ("--tokenizer", reader)))]  # fmt: skip
    assert scanned[0] == scanned[1]
    costs = plan_costs([bare], probe=madyn.sweep.Probe(text, 2, 12))
    assert "no tokenizer" in costs.start_up.unknown[0]
    assert plan_costs([bare], probe=madyn.sweep.Probe(text, 2, 12), tokenizer=reader).start_up.unknown == []


def test_given_ids_are_measured_and_said(whole, bare, run, tmp_path):
    file = ids_file(tmp_path / "ids.npy", IDS)
    code, out, err = run("trace", bare, "--out", tmp_path / "d", "--tokens", file)
    assert code == 0
    assert "2 sequences of 12 given token ids" in out + err
    assert "stdlib" not in out + err
    data = madyn.open_dataset(tmp_path / "d")
    from madyn.checkpoints import find_checkpoint

    expected = madyn.measure(find_checkpoint(whole / "step1").model(None), IDS)
    assert np.array_equal(data.statistics("tiny").sel(step=1).values.astype(np.float32), expected)
    unit = data.units("tiny")[1]
    assert (unit.sequences, unit.length, unit.first_token, unit.remarks) == (2, 12, "given", [])
    record = manifest.read_probe(tmp_path / "d")
    assert record is not None
    assert (record.text, record.documents) == ("given", 0)
    assert json.loads(layout.locations_path(tmp_path / "d", "tiny", 1).read_text())["token_id"][0][0][0] in IDS[0]

    again = run("trace", bare, "--out", tmp_path / "d", "--tokens", file)
    assert (again[0], "2 already there" in again[1]) == (0, True)
    other = ids_file(tmp_path / "other.npy", IDS[::-1])
    code, _, err = run("trace", bare, "--out", tmp_path / "d", "--tokens", other)
    assert (code, "was measured on given inputs (sha256 " in err) == (1, True)
    with pytest.raises(ProbeMismatchError, match=r"first token: given. than these .*first token: text"):
        madyn.trace(whole, tmp_path / "d", probe=madyn.sweep.Probe("stdlib", 2, 12))

    for folder, shown in ((bare, "id "), (whole, "")):
        code, out, _ = run("scan", folder / "step1", "--tokens", file)
        assert code == 0
        assert "2 sequences of 12 given token ids" in out
        assert ("'id " in out) == (shown == "id ")
    table = madyn.sweep.scan_checkpoint(bare / "step1", inputs=IDS)
    assert np.allclose(table["top1"], expected[:, 0].mean(axis=0))
    assert madyn.sweep.scan_checkpoint(bare / "step1", inputs=IDS[0]).attrs["length"] == 12
    code, out, _ = run("plan", bare, "--tokens", file)
    assert (code, "text" in out.split("before the first checkpoint")[1].splitlines()[0]) == (0, False)


@pytest.mark.parametrize(
    "options", [("--probe", "stdlib"), ("--sequences", "2"), ("--length", "8"), ("--bos",), ("--seed", "1"),
                ("--documents", "5"), ("--tokenizer", "x")],
)  # fmt: skip
def test_ids_stand_in_place_of_text(whole, run, tmp_path, options):
    file = ids_file(tmp_path / "ids.npy", IDS)
    code, _, err = run("trace", whole, "--out", tmp_path / "d", "--tokens", file, *options)
    assert (code, f"so that {options[0]} has nothing to say" in err) == (2, True)
    assert not (tmp_path / "d").exists()


def test_a_token_that_no_model_has_stops_the_trace(whole, run, tmp_path):
    file = ids_file(tmp_path / "ids.npy", np.where(np.arange(12) == 3, 300, IDS))
    code, _, err = run("trace", whole, "--out", tmp_path / "d", "--tokens", file)
    assert (code, "token id 300 at position 3 of sequence 0" in err) == (2, True)
    assert "300 rows" in err


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [(IDS.astype(float), UsageError, "float64; token ids are whole numbers"),
     (IDS[None], UsageError, r"shape \(1, 2, 12\)"),
     (IDS[:0], UsageError, "shape"), (IDS > 5, UsageError, "bool"), (np.array([{}]), TextError, "not an array saved"),
     (b"not an array", TextError, "not an array saved"), (b"", TextError, "not an array saved")],
)  # fmt: skip
def test_files_that_hold_no_ids(tmp_path, content, error, said):
    path = tmp_path / "ids.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(error, match=said):
        read_token_file(path)


def test_files_that_are_several_arrays_or_claim_too_much(tmp_path):
    np.savez(tmp_path / "ids.npz", a=IDS, b=IDS)
    with pytest.raises(UsageError, match="several arrays"):
        read_token_file(tmp_path / "ids.npz")
    whole = ids_file(tmp_path / "a.npy", np.zeros((2, 10**6), dtype=np.int32))
    (tmp_path / "b.npy").write_bytes(whole.read_bytes()[:1000])
    with pytest.raises(TextError, match=r"b\.npy: not an array saved by numpy\.save, or not the whole of one$"):
        read_token_file(tmp_path / "b.npy")
    with pytest.raises(TextError, match=r"none\.npy: no such file$"):
        read_token_file(tmp_path / "none.npy")
    for name, content in (("code.py", b"import madyn\n"), ("zip.npz", b"PK\3\4" + bytes(30)), ("empty.npy", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TextError, match=r": not an array saved by numpy\.save, or not the whole of one$"):
            read_token_file(tmp_path / name)
    assert read_token_file(ids_file(tmp_path / "one.npy", IDS[0].astype(np.uint16))).tolist() == [IDS[0].tolist()]


def test_what_the_text_spells_is_told(whole, run, tmp_path):
    (tmp_path / "spelt.txt").write_text(f"a {BOS} fox and {BOS} b\n" + TEXT)
    (tmp_path / "plain.txt").write_text(TEXT)
    probe = ("--sequences", "2", "--length", "24")
    code, out, _ = run("scan", whole / "step1", "--probe", tmp_path / "spelt.txt", *probe)
    assert (code, "the text spells special tokens 2 times; they were split into ordinary tokens" in out) == (0, True)
    assert "special" not in run("scan", whole / "step1", "--probe", tmp_path / "plain.txt", *probe)[1]
    assert run("trace", whole, "--out", tmp_path / "d", "--probe", tmp_path / "spelt.txt", *probe)[0] == 0
    for unit in manifest.read_units(tmp_path / "d", "tiny").values():
        assert unit.remarks == ["the text spells special tokens 2 times; they were split into ordinary tokens"]
    tokens = json.loads(layout.locations_path(tmp_path / "d", "tiny", 1).read_text())["token_id"]
    assert 0 not in np.array(tokens)  # the BOS token's id
