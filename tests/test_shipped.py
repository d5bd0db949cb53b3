"""Datasets that come with madyn: packed, opened by their name, and never written to where they lie."""

import io
import shutil
import tarfile

import pytest

import madyn
from madyn.dataset import layout, shipped
from madyn.errors import DatasetError, StorageError
from test_effects import write_family


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """A dataset packed under the name `made-up`, and an empty cache."""
    data = tmp_path / "data"
    data.mkdir()
    root = write_family(tmp_path / "family", count=5, repeated=1).path
    (root / "LICENSE").write_text("MIT")
    (root / "analysis").mkdir()
    (root / "analysis" / "picture.png").write_bytes(b"not packed")
    (root / "training" / ".m.json.half").write_bytes(b"not packed: a process was killed as it wrote")
    monkeypatch.setattr(shipped, "_data", lambda: data)
    monkeypatch.setattr(shipped, "_cache", lambda: tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    shipped.pack_dataset(root, data / "made-up.tar.xz")
    return root


def contents(root):
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_opens_by_its_name_what_was_packed(packed, tmp_path):
    dataset = madyn.open_dataset("made-up")
    assert tmp_path / "cache" in dataset.path.parents
    expected = {path: data for path, data in contents(packed).items() if path.suffix in ("", ".json")}
    assert contents(dataset.path) == expected
    assert dataset.training(dataset.models[0]) is not None
    before = {p: p.stat().st_mtime_ns for p in dataset.path.rglob("*")}
    assert madyn.open_dataset("made-up").path == dataset.path
    assert {p: p.stat().st_mtime_ns for p in dataset.path.rglob("*")} == before


def test_the_same_dataset_gives_the_same_archive(packed, tmp_path):
    shipped.pack_dataset(packed, tmp_path / "again.tar.xz")
    assert (tmp_path / "again.tar.xz").read_bytes() == (tmp_path / "data" / "made-up.tar.xz").read_bytes()


def test_it_is_written_to_in_a_folder_of_the_user_s(packed, tmp_path, run):
    path = madyn.open_dataset("made-up").path
    before = contents(path)
    code, _, _ = run("fit", "made-up", "--hypothesis", "step1", "--out", tmp_path / "mine")
    assert code == 0
    model = madyn.open_dataset(tmp_path / "mine").models[0]
    assert layout.params_path(tmp_path / "mine", model, "ratio").exists()
    assert contents(path) == before
    with pytest.raises(DatasetError, match="a cache, which is not written to"):
        madyn.draw_figures(madyn.open_dataset("made-up"))
    code, _, err = run("fit", "made-up", "--out", tmp_path / "mine")
    assert (code, "is there already" in err) == (1, True)


def test_a_folder_of_that_name_comes_first(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "made-up")
    assert str(madyn.open_dataset("made-up").path) == "made-up"


def test_an_unknown_name_says_which_there_are(packed):
    with pytest.raises(DatasetError, match=r"none that comes with madyn \(made-up\)"):
        madyn.open_dataset("made-down")


def test_a_cache_that_cannot_be_written(packed, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageError, match="a part of this path is a file"):
        madyn.open_dataset("made-up")


def test_nothing_is_unpacked_outside_its_folder(packed, tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as tar:
        info = tarfile.TarInfo("../outside")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    (tmp_path / "data" / "bad.tar.xz").write_bytes(content.getvalue())
    with pytest.raises(tarfile.FilterError):
        madyn.open_dataset("bad")
    assert not (tmp_path / "cache" / "outside").exists()
