"""GGUF files: read once, read again when they change, and measured as the same weights in a folder are."""

import json

import gguf
import numpy as np
import pytest
import torch
from gguf.gguf_reader import GGUFReader

import madyn
from gguf_files import LAYERS, write_gguf
from madyn.checkpoints import find_checkpoint
from tiny import TEXT


@pytest.fixture
def readings(monkeypatch):
    """How often a file's metadata is parsed."""
    found = []
    build = GGUFReader._build_fields
    monkeypatch.setattr(GGUFReader, "_build_fields", lambda self, *a: (found.append(1), build(self, *a))[1])
    return found


def test_a_file_is_parsed_once_and_gives_what_the_folder_gives(tmp_path, readings):
    write_gguf(tmp_path / "a.gguf", tmp_path / "a", seed=1)
    (tmp_path / "text.txt").write_text(TEXT)
    probe = madyn.sweep.Probe(str(tmp_path / "text.txt"), sequences=2, length=16)
    table = madyn.sweep.scan_checkpoint(tmp_path / "a.gguf", probe=probe)
    assert len(readings) == 1
    whole = madyn.sweep.scan_checkpoint(tmp_path / "a", probe=probe)
    np.testing.assert_allclose(table[["top1", "median"]], whole[["top1", "median"]], rtol=1e-6)


def test_a_file_that_has_changed_is_read_again(tmp_path, readings):
    write_gguf(tmp_path / "a.gguf", tmp_path / "a", seed=1)
    checkpoint = find_checkpoint(tmp_path / "a.gguf")
    checkpoint.config()
    write_gguf(tmp_path / "a.gguf", tmp_path / "b", seed=2)
    found, wanted = (c.model(torch.float32).embed_tokens.weight for c in (checkpoint, find_checkpoint(tmp_path / "b")))
    assert torch.equal(found, wanted)
    assert len(readings) == 2


def test_a_probe_or_tokenizer_that_is_none_is_refused_before_the_file_is_read(tmp_path, readings):
    write_gguf(tmp_path / "a.gguf", tmp_path / "a", seed=1)
    (tmp_path / "typo").mkdir()
    for text, said in (
        (str(tmp_path / "typo.txt"), r"typo\.txt: no such folder or file"),
        (str(tmp_path / "typo"), "a folder, or no regular file"),
        ("stdlib#trian", "'trian' is no part of a text"),
        ("stdlob", "neither a known text source"),
        ("owner/name?colum=x", "neither a known text source"),
    ):
        with pytest.raises(madyn.MadynError, match=said):
            madyn.sweep.scan_checkpoint(tmp_path / "a.gguf", probe=madyn.sweep.Probe(text))
    with pytest.raises(madyn.MadynError, match=r"tokenizer .*typo\.gguf: no such folder or file"):
        madyn.sweep.scan_checkpoint(tmp_path / "a.gguf", tokenizer=tmp_path / "typo.gguf")
    assert readings == []


def test_the_package_is_left_as_it_was(tmp_path):
    write_gguf(tmp_path / "a.gguf", tmp_path / "a", seed=1)
    own = gguf.GGUFReader, gguf.get_tensor_name_map
    find_checkpoint(tmp_path / "a.gguf").config()
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(madyn.MadynError, match=r"broken\.gguf"):
        find_checkpoint(tmp_path / "broken.gguf").config()
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == own


def test_a_file_that_is_cut_short_is_said_to_be(tmp_path):
    write_gguf(tmp_path / "a.gguf", tmp_path / "a", seed=1)
    content = (tmp_path / "a.gguf").read_bytes()
    for size in (0, 20, 40, 1500, len(content) // 2, len(content) - 1):  # in its head, its words and its tensors
        (tmp_path / "part.gguf").write_bytes(content[:size])
        with pytest.raises(madyn.MadynError, match=rf"part\.gguf: the file is cut short: its {size} bytes end before"):
            find_checkpoint(tmp_path / "part.gguf").config()


def test_json_is_not_in_the_company_of_a_bar(tmp_path, run):
    write_gguf(tmp_path / "a.gguf", tmp_path / "a", seed=1)
    (tmp_path / "text.txt").write_text(TEXT)
    run("--version")  # what was said so far is not of the command
    code, out, err = run(
        "scan", tmp_path / "a.gguf", "--sequences", "2", "--probe", tmp_path / "text.txt", "--length", "16", "--json"
    )
    assert (code, err) == (0, "")
    assert len(json.loads(out)["scans"][0]["layers"]) == LAYERS
