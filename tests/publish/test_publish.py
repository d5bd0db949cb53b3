"""Publishing: what is published, the card, the way to a Hub and back, and what stands in the way."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import madyn
from loopback_writes import READER, WRITER
from madyn.dataset import layout, manifest
from madyn.dataset.files import write_json
from madyn.errors import DatasetError, MissingDependencyError, StorageError, UsageError
from madyn.publish import publish_dataset
from madyn.publish.card import is_own, size_category
from tiny import tiny_shape, write_dataset, write_family

pytest.importorskip("pyarrow")

STEPS = (0, 1, 2, 500, *range(1000, 9001, 1000))
PNG = b"\x89PNG\r\n\x1a\nnot really"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two models with fits, pictures, a failed unit, and files that are nobody's business."""
    root = write_dataset(tmp_path_factory.mktemp("data") / "set", ("pythia_14m", "été"), STEPS)
    madyn.fit_dataset(root, hypotheses=["reparam"], quantities=["ratio"])
    for step in (0, 1):
        unit = manifest.Unit(model="été", step=step, source="owner/été", revision=f"step{step}", dtype="float32",
                             architecture=tiny_shape(num_hidden_layers=3).to_dict(),
                             versions={"torch": "2.13.0"})  # fmt: skip
        write_json(layout.manifest_path(root, "été", step), asdict(unit))
    unit = manifest.Unit(model="été", step=7, source="owner/été", failure="no <b>weights</b>")
    manifest.write_failure(root, unit)
    for picture in ("pythia_14m/series/ratio.png", "analysis/final_ratio.png"):
        (root / picture).parent.mkdir(parents=True, exist_ok=True)
        (root / picture).write_bytes(PNG)
    for private in (".lab/tokens.npy", "monitor/inputs.npy", "pythia_14m/stats/notes.txt", "thesis.tex", "été/.env",
                    "checkpoints/été/step0/model.safetensors"):  # fmt: skip
        (root / private).parent.mkdir(parents=True, exist_ok=True)
        (root / private).write_bytes(b"mine")
    return root


@pytest.fixture
def root(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "set"))


@pytest.fixture
def token(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", WRITER)
    return hub


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def front(card):
    from huggingface_hub import DatasetCard

    return DatasetCard(card, ignore_metadata_errors=False).data.to_dict()


def html(card):
    from markdown_it import MarkdownIt

    return MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(card.split("\n---\n", 1)[1])


# What is published ----------------------------------------------------------------------------------------------------


def test_a_dry_run_sends_nothing_and_changes_nothing(root, hub, run):
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    code, out, _ = run("publish", root, "me/dry")
    assert code == 0
    assert "# dry: massive activations" in out
    assert "nothing was uploaded; --upload sends it to me/dry, where a new repository is private" in out
    assert hub.requests == []
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before


def test_the_files_of_the_layout_and_no_others(root, run):
    code, out, _ = run("publish", root, "me/files", "--json")
    found = json.loads(out)
    names = [one["file"] for one in found["files"]]
    stats = [f"{model}/stats/exp2_{model}_step{step}" for model in ("pythia_14m", "été") for step in STEPS]
    params = [f"{model}/params/layer_fit_params{q}.json" for model in ("pythia_14m", "été") for q in ("", "_ratio")]
    manifests = [f"manifest/été/step{step}.json" for step in (0, 1, 7)]
    tables = [f"tables/{name}.parquet" for name in ("statistics", "parameters", "fits", "models")]
    pictures = ["pythia_14m/series/ratio.png", "analysis/final_ratio.png"]
    own = ["README.md", layout.PARAMETER_TABLE]
    assert (code, names) == (0, sorted([*stats, *params, *manifests, *tables, *pictures, *own]))
    assert (found["uploaded"], found["url"], found["out"]) == (False, None, None)
    assert {one["file"]: one["bytes"] for one in found["files"]}["analysis/final_ratio.png"] == len(PNG)
    assert found["bytes"] == sum(one["bytes"] for one in found["files"])
    without = publish_dataset(root, "me/files", pictures=False)
    assert set(names) - set(without.files) == set(pictures)
    assert "there are no pictures; `madyn figures` draws them" in without.notes


def test_a_kept_folder_is_a_dataset_again(root, tmp_path):
    published = publish_dataset(root, "me/kept", out=tmp_path / "out")
    assert published.out == tmp_path / "out"
    files = {p.relative_to(tmp_path / "out").as_posix(): p for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert {name: path.stat().st_size for name, path in files.items()} == published.files
    assert not any(path.is_symlink() for path in files.values())
    again = madyn.open_dataset(tmp_path / "out")
    assert_equal(again, madyn.open_dataset(root))
    second = publish_dataset(tmp_path / "out", "me/kept")  # its card is madyn's own, and written anew
    assert second.files == published.files
    assert second.card == published.card
    third = publish_dataset(root, "me/kept", out=tmp_path / "out")  # in place of the first
    assert (third.files, third.card) == (published.files, published.card)
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"holds 'mine\.txt', which is no part of this publication"):
        publish_dataset(root, "me/kept", out=tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    with pytest.raises(UsageError, match="a folder of this machine"):
        publish_dataset(root, "me/kept", out="memory://somewhere/out")
    for inside in (root, root / "page"):
        with pytest.raises(UsageError, match="lies in the dataset, which stays as it is"):
            publish_dataset(root, "me/kept", out=inside)


def assert_equal(a, b):
    assert a.models == b.models
    for model in a:
        xr.testing.assert_identical(a.statistics(model), b.statistics(model))
        xr.testing.assert_identical(a.fits(model), b.fits(model))
        assert a.units(model) == b.units(model)
    assert a.parameters.equals(b.parameters)


# The card -------------------------------------------------------------------------------------------------------------


def test_what_the_card_says(root):
    card = publish_dataset(root, "me/card").card
    said = front(card)
    assert said["license"] == "mit"
    assert said["pretty_name"] == "card: massive activations"
    assert said["size_categories"] == ["n<1K"]
    assert said["configs"] == [
        {"config_name": "parameters", "default": True,
         "data_files": [{"split": "train", "path": "tables/parameters.parquet"}]},
        {"config_name": "statistics", "data_files": [{"split": "train", "path": "tables/statistics.parquet"}]},
        {"config_name": "fits", "data_files": [{"split": "train", "path": "tables/fits.parquet"}]},
        {"config_name": "models", "data_files": [{"split": "train", "path": "tables/models.parquet"}]},
    ]  # fmt: skip
    page = html(card)
    last = madyn.open_dataset(root).trajectories("pythia_14m", "ratio").isel(step=-1)
    row = next(line for line in card.splitlines() if line.startswith("| `pythia_14m` |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[4:7] == ["4", str(len(STEPS)), "0 to 9000"]
    assert cells[7] == f"{float(last.max()):,.4g}"
    assert cells[8] == str(int(last.values.argmax()))
    assert '<img src="analysis/final_ratio.png"' in page
    assert '<img src="pythia_14m/series/ratio.png"' in page
    assert "| `été` | `owner/été` | `step0` to `step1` | `float32` |  |" in card
    assert "Versions: torch 2.13.0." in card
    assert "été step 7 failed: no &lt;b&gt;weights" in page
    assert "exp(-beta x)" in page
    assert str(root) not in card
    assert "does not say which text" in card
    assert publish_dataset(root, "me/card").card == card


def test_no_name_and_no_text_breaks_the_card(tmp_path):
    evil = (
        'a: "b"\n---\nlicense: x\n# <script>alert(1)</script> ![x](http://x/y.png) | `c` [l](javascript:d) *e* www.f.g'
    )
    root = write_dataset(tmp_path / "set", ("m", "a-b+c.d_e"), (0, 1))
    unit = manifest.Unit(model="m", step=0, source=evil, revision=evil, dtype="`|`", versions={evil: evil})
    write_json(layout.manifest_path(root, "m", 0), asdict(unit))
    manifest.write_failure(root, manifest.Unit(model="m", step=5, source=evil, failure=evil))
    probe = manifest.ProbeRecord(text=evil, sha256="0" * 64, documents=3, seed=0)
    write_json(layout.probe_path(root), asdict(probe))
    card = publish_dataset(root, "me/evil", title=evil).card
    said = front(card)
    assert set(said) == {"license", "pretty_name", "tags", "size_categories", "configs"}
    assert said["license"] == "mit"
    assert said["pretty_name"].startswith('a: "b" --- license: x # <script>')
    page = html(card)
    assert "<script" not in page
    assert "<img" not in page
    assert 'javascript:d"' not in page
    assert "<em>" not in page
    assert "<a href" not in page
    tables = [table.split("</table>")[0] for table in page.split("<table>")[1:]]
    assert len(tables) == 4
    for table in tables:
        rows = [row.count("<td") + row.count("<th>") for row in table.split("<tr>")[1:]]
        assert len(set(rows)) == 1
    assert "a-b+c.d_e" in page
    for title in ("yes", "null", "1e5", "- x", "#", "'", "%", "@a", "\u2028", "é" * 200):
        assert isinstance(front(publish_dataset(root, "me/evil", title=title).card).get("pretty_name"), str)


def test_a_dataset_without_fits_has_the_statistics_first(tmp_path):
    root = write_dataset(tmp_path / "set", ("m",), (0, 1))
    published = publish_dataset(root, "me/young")
    configs = front(published.card)["configs"]
    assert [(one["config_name"], one.get("default")) for one in configs] == [("statistics", True), ("models", None)]
    assert "There is no manifest" in published.card
    assert "Curves" not in published.card
    assert "parameters = " not in published.card
    assert 'statistics = load_dataset("me/young", "statistics")' in published.card
    assert "there is no parameter table; `madyn fit` makes one" in published.notes


def test_the_licence_is_asked_for_and_none_is_guessed(root):
    assert "license: cc-by-4.0\n" in publish_dataset(root, "me/l", license="cc-by-4.0").card
    (root / "LICENSE").write_text("MIT License\n\nCopyright")
    published = publish_dataset(root, "me/l")
    assert "license: mit\n" in published.card
    assert "LICENSE" in published.files
    (root / "LICENSE").write_text("All rights reserved.")
    with pytest.raises(UsageError, match="is not the MIT licence: say with --license which one"):
        publish_dataset(root, "me/l")
    assert "license: other\n" in publish_dataset(root, "me/l", license="other").card
    for wrong in ("MIT", "my own\nx: y", "", "a" * 100):
        with pytest.raises(UsageError, match="the Hub's short name"):
            publish_dataset(root, "me/l", license=wrong)


def test_a_card_of_the_user_s_is_not_written_over_unasked(root, tmp_path):
    (root / "README.md").write_text("# My own words\n")
    with pytest.raises(UsageError, match=r"has a README\.md that madyn did not write, or that was edited: --card keep"):
        publish_dataset(root, "me/own")
    kept = publish_dataset(root, "me/own", card="keep", out=tmp_path / "kept")
    assert (tmp_path / "kept" / "README.md").read_text() == kept.card == "# My own words\n"
    assert any("names no `configs`" in note for note in kept.notes)
    replaced = publish_dataset(root, "me/own", card="replace")
    assert is_own(replaced.card)
    assert (root / "README.md").read_text() == "# My own words\n"
    (root / "README.md").write_text(replaced.card, newline="\r\n")
    assert publish_dataset(root, "me/own").card == replaced.card
    (root / "README.md").write_text(replaced.card.replace("# own", "# My own"))
    with pytest.raises(UsageError, match="was edited"):
        publish_dataset(root, "me/own")


def test_what_the_number_of_rows_is_called():
    assert [size_category(10**k) for k in (2, 3, 5, 6, 8, 9)] == [
        "n<1K", "1K<n<10K", "100K<n<1M", "1M<n<10M", "100M<n<1B", "n>1B"
    ]  # fmt: skip


# The libraries of others ----------------------------------------------------------------------------------------------


def test_the_datasets_library_loads_the_folder(root, tmp_path):
    from datasets import load_dataset

    publish_dataset(root, "me/loaded", out=tmp_path / "out")
    opened, cache = madyn.open_dataset(root), str(tmp_path / "cache")
    parameters: Any = load_dataset(str(tmp_path / "out"), cache_dir=cache)["train"].to_pandas()
    assert list(parameters.columns) == list(opened.parameters.columns)
    np.testing.assert_array_equal(parameters["param_K"], opened.parameters["param_K"])
    statistics = load_dataset(str(tmp_path / "out"), "statistics", cache_dir=cache)["train"]
    assert statistics.num_rows == 2 * len(STEPS) * 4 * 3
    table: Any = statistics.to_pandas()
    one = table.loc[table["model"] == "été", "ratio"].to_numpy().reshape(len(STEPS), 4, 3)
    np.testing.assert_array_equal(one, opened.per_sequence("été", "ratio").values)


# To the Hub and back --------------------------------------------------------------------------------------------------


def test_there_and_back(root, token, run):
    code, out, err = run("publish", root, "me/round", "--upload")
    assert code == 0, err
    assert f"uploaded: {token.url}/datasets/me/round (a new private repository)" in out
    assert token.repository("me/round").private
    assert_equal(madyn.open_dataset("me/round"), madyn.open_dataset(root))
    held = token.repository("me/round").revisions["main"]
    assert set(held) == {".gitattributes", *publish_dataset(root, "me/round").files}
    commits = list(token.writes.commits)
    code, out, _ = run("publish", root, "me/round", "--upload")  # nothing is new
    assert (code, token.writes.commits) == (0, commits)
    assert "(a new" not in out


def test_the_datasets_library_loads_it_from_the_hub(root, token, tmp_path):
    from datasets import load_dataset

    publish_dataset(root, "me/others", send=True, public=True)
    assert not token.repository("me/others").private
    table: Any = load_dataset("me/others", cache_dir=str(tmp_path / "cache"))["train"].to_pandas()
    np.testing.assert_array_equal(table["r2"], madyn.open_dataset(root).parameters["r2"])


def test_large_files_go_beside_git_and_what_arrived_is_not_sent_again(root, token, monkeypatch, no_waiting):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    token.writes.beside_git = (".parquet", ".png")
    one = "tables/models.parquet"
    publish_dataset(root, "me/x", out=root.parent / "sent")
    oid = hashlib.sha256((root.parent / "sent" / one).read_bytes()).hexdigest()
    token.fail(f"PUT /lfs/{oid}", 500)
    with pytest.raises(StorageError, match=r"dataset me/large: .*; run the same command again"):
        publish_dataset(root, "me/large", send=True)
    assert token.writes.commits == []
    stored = set(token.writes.stored)
    assert stored
    assert oid not in stored
    token.mend()
    token.requests.clear()
    publish_dataset(root, "me/large", send=True)
    assert [request for request in token.requests if request.startswith("PUT")] == [f"PUT /lfs/{oid}"]
    assert token.repository("me/large").revisions["main"][one] == (root.parent / "sent" / one).read_bytes()
    assert_equal(madyn.open_dataset("me/large"), madyn.open_dataset(root))


@pytest.mark.parametrize(
    ("text", "status", "body"),
    [
        ("POST /api/repos/create", 503, ""),
        ("POST /api/validate-yaml", 503, ""),
        ("/preupload/", 503, ""),
        ("/commit/", 503, ""),
        ("GET /api/datasets/me/", 503, ""),
        ("/commit/", 200, "dropped"),
        ("/commit/", 200, "cut"),
        ("POST /api/repos/create", 200, "dropped"),
        ("/preupload/", 200, "truncated"),
    ],
)
def test_a_fault_that_passes_costs_nothing(root, token, no_waiting, text, status, body):
    name = f"me/fault-{status}{body}{len(text)}"
    if body:
        token.spoil(text, body)
    else:
        token.fail(text, status, times=1)
    publish_dataset(root, name, send=True)
    assert_equal(madyn.open_dataset(name), madyn.open_dataset(root))


def test_a_large_file_that_breaks_off_is_sent_again(root, token, monkeypatch, no_waiting):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    token.writes.beside_git = (".parquet",)
    token.spoil("PUT /lfs/", "cut")
    publish_dataset(root, "me/broken", send=True)
    assert sum(request.startswith("PUT") for request in token.requests) == 5  # four tables, one of them twice
    assert len(token.writes.stored) == 4


def test_a_hub_that_stays_away(root, token, run, no_waiting):
    token.fail("/commit/", 503)
    code, _, err = run("publish", root, "me/away", "--upload")
    assert code == 1
    line = err.splitlines()[-1]
    assert line.startswith("madyn: dataset me/away: ")
    assert line.endswith("run the same command again: what has arrived is not sent a second time")


@pytest.mark.parametrize(
    ("token_", "said"),
    [
        ("", "there is no token for the Hub: `hf auth login` with one that may write, or set HF_TOKEN"),
        (READER, "`hf auth login` with a token that may write to it"),
        ("hf_unknown", "`hf auth login`"),
    ],
)
def test_a_token_that_will_not_do(root, hub, run, monkeypatch, no_waiting, token_, said):
    monkeypatch.setenv("HF_TOKEN", token_)
    code, _, err = run("publish", root, "me/token", "--upload")
    assert (code, said in err) == (1 if token_ else 2, True), err
    assert len([line for line in err.splitlines() if line.startswith("madyn: ")]) == 1
    with pytest.raises(KeyError):
        hub.repository("me/token")


@pytest.mark.parametrize(
    "name", ["name", "a/b/c", "/b", "a/", "a--b/c", "../x", "me/na me", "hf://datasets/a/b", "me/x.git"]
)
def test_a_name_that_is_none(root, run, name):
    code, _, err = run("publish", root, name)
    assert (code, "is not the name of a dataset on the Hub" in err, len(err.splitlines())) == (2, True, 1)


def test_a_repository_of_somebody_s_keeps_its_card_and_its_files(root, token, run):
    token.add("me/older", {"main": {"README.md": b"# Older\n", "old.csv": b"a,b\n"}}, kind="datasets")
    code, _, err = run("publish", root, "me/older", "--upload")
    assert (code, "has a README.md that madyn did not write" in err) == (2, True)
    assert set(token.repository("me/older").revisions["main"]) == {"README.md", "old.csv"}
    code, _, err = run("publish", root, "me/older", "--upload", "--card", "keep")
    held = token.repository("me/older").revisions["main"]
    assert (code, held["README.md"], held["old.csv"]) == (0, b"# Older\n", b"a,b\n")
    assert "1 file on the Hub are none of this dataset's, and stay: old.csv" in err
    code, _, _ = run("publish", root, "me/older", "--upload", "--card", "replace")
    assert (code, is_own(token.repository("me/older").revisions["main"]["README.md"].decode())) == (0, True)


def test_a_card_that_the_hub_refuses(root, token):
    (root / "README.md").write_text("---\nlicense: [mit\n---\n# x\n")
    with pytest.raises(UsageError, match="dataset me/refused: the Hub refuses the card: Invalid metadata"):
        publish_dataset(root, "me/refused", send=True, card="keep")


# What is not published ------------------------------------------------------------------------------------------------


def test_nothing_damaged_is_published(root, tmp_path):
    layout.statistics_path(root, "été", 500).write_text("[[1, 2")
    with pytest.raises(DatasetError, match=r"exp2_été_step500.*see `madyn check .*: what is damaged is not published"):
        publish_dataset(root, "me/damaged", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_dataset_in_which_nothing_was_measured(tmp_path):
    unit = manifest.Unit(model="m", step=1, source="made up", failure="no weights")
    write_json(layout.manifest_path(tmp_path / "set", "m", 1), asdict(unit))
    with pytest.raises(DatasetError, match="nothing in it was measured"):
        publish_dataset(tmp_path / "set", "me/empty")
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="no model in it"):
        publish_dataset(tmp_path / "none", "me/empty")


def test_a_link_that_leads_out_is_not_followed(root, tmp_path):
    (tmp_path / "secret.png").write_bytes(PNG)
    (root / "analysis" / "secret.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(StorageError, match="leads out of the dataset"):
        publish_dataset(root, "me/link")


def test_paths_of_this_machine_are_told(tmp_path):
    root = write_dataset(tmp_path / "set", ("m",), (0, 1))
    unit = manifest.Unit(model="m", step=0, source="/home/somebody/models/m")
    write_json(layout.manifest_path(root, "m", 0), asdict(unit))
    notes = publish_dataset(root, "me/paths").notes
    assert "the manifests name paths of your machine as sources: /home/somebody/models/m" in notes


def test_the_losses_of_the_lab_s_models(tmp_path):
    family = write_family(tmp_path / "family", count=2, repeated=0)
    published = publish_dataset(family, "me/lab")
    assert "tables/losses.parquet" in published.files
    assert f"training/{family.models[0]}.json" in published.files
    assert "training and held-out loss" in published.card


def test_pyarrow_is_asked_for(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "madyn\[export\]"'):
        publish_dataset(root, "me/no-pyarrow")
