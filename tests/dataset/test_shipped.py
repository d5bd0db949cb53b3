"""Datasets that come with madyn: packed, opened by their name, and never written to where they lie."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest

import madyn
from madyn.dataset import layout, shipped
from madyn.errors import DatasetError, StorageError
from tiny import write_family


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
    assert run("fit", "made-up", "--hypothesis", "step2", "--out", tmp_path / "mine")[0] == 0  # goes on there
    assert set(madyn.open_dataset(tmp_path / "mine").fit_records(model, "ratio")[0]) == {"step1", "step2"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("not a dataset")
    code, _, err = run("fit", "made-up", "--out", tmp_path / "other")
    assert (code, "is there already and holds something else" in err) == (1, True)


@pytest.mark.parametrize("command", [["fit"], ["figures"]])
def test_what_adds_to_a_dataset_asks_for_a_folder(packed, tmp_path, run, command):
    there = set(tmp_path.iterdir())
    code, out, err = run(*command, "made-up")
    assert (code, out) == (2, "")
    assert "made-up comes with madyn and is not written to: say with --out (out=) which folder to copy it into" in err
    assert set(tmp_path.iterdir()) == there


@pytest.mark.parametrize(
    "command",
    [["show"], ["check"], ["compare", "--hypothesis", "step1"], ["effects"], ["show", "--locations"],
     ["forecast", "--at", "50", "--prior", "default"],
     ["predict", "--layers", "2", "--hidden-size", "64", "--heads", "2", "--mlp-ratio", "2"]],
)  # fmt: skip
def test_what_reads_writes_nothing(packed, tmp_path, run, command):
    path = madyn.open_dataset("made-up").path
    model = ["--model", madyn.open_dataset("made-up").models[0]] if command[0] == "forecast" else []
    before = contents(tmp_path)
    code, out, err = run(command[0], "made-up", *command[1:], *model)
    assert (code, out != "") == (0, True), err
    assert contents(tmp_path) == before
    assert tmp_path / "cache" in path.parents


def test_the_bare_name_is_always_the_one_that_is_shipped(packed, tmp_path, run):
    """The same command gives the same answer in any directory; a folder is told by its path, and by a `Path`."""
    folder = tmp_path / "made-up"
    shutil.copytree(packed, folder)
    one = sorted(p.name for p in packed.glob("neox*"))[0]
    shutil.rmtree(folder / one)
    shutil.rmtree(folder / "manifest" / one)
    count = len(madyn.open_dataset(packed))
    assert len(madyn.open_dataset("made-up")) == count
    for path in ("./made-up", "made-up/", Path("made-up"), str(folder)):
        assert len(madyn.open_dataset(path)) == count - 1
    code, out, err = run("show", "made-up")
    assert (code, f": {count} models" in out) == (0, True)
    assert "note: made-up is the dataset that comes with madyn; the folder of that name here is ./made-up" in err
    assert run("show", "made-up", "-q")[2] == ""
    assert "note" not in run("show", "./made-up")[2]


def test_fits_of_a_folder_may_lie_elsewhere(packed, tmp_path, run):
    before = contents(packed)
    fit = ("fit", packed, "--quantity", "ratio", "--out", tmp_path / "mine")
    assert run(*fit, "--hypothesis", "reparam")[0] == 0
    assert contents(packed) == before
    mine = madyn.open_dataset(tmp_path / "mine")
    assert mine.models == madyn.open_dataset(packed).models
    assert len(mine.parameters) > 0
    # What was measured since comes after, and the fits made before stay.
    file = layout.statistics_path(packed, mine.models[0], 100)
    file.write_bytes(file.read_bytes().replace(b"]", b" ]", 1))
    assert run(*fit, "--hypothesis", "step1", "--model", mine.models[1])[0] == 0
    assert layout.statistics_path(mine.path, mine.models[0], 100).read_bytes() == file.read_bytes()
    assert set(mine.fit_records(mine.models[1], "ratio")[0]) == {"reparam", "step1"}
    assert run("fit", packed, "--out", packed, "--hypothesis", "step1", "--quantity", "ratio")[0] == 0  # its own


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
