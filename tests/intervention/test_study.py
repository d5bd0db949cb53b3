"""A study over checkpoints: one place followed, each step a file, resumed, and what is wrong with one step told."""

import json
from typing import Any

import pytest

from madyn.errors import CheckpointError, UsageError
from madyn.intervention import follow_effects, read_study
from madyn.settings import Probe
from tiny import TEXT, save_checkpoints


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "text.txt").write_text(TEXT)
    return save_checkpoints(folder / "run", (0, 10, 20))


def follow(folder: Any, out: Any, **changes: Any) -> Any:
    probe = Probe(str(folder.parent / "text.txt"), sequences=3, length=24)
    return follow_effects(folder, out, **{"probe": probe, "layer": 1, "settings": ["zero"], **changes})


def test_one_place_is_followed_through_all_steps(run_folder, tmp_path):
    table = follow(run_folder, tmp_path)
    assert table["step"].unique().tolist() == [0, 10, 20]
    site = json.loads((tmp_path / "intervention" / "run" / "site.json").read_text())
    assert site["layer"] == table.attrs["layer"] == 1
    assert site["chosen_at"] == 20
    assert len(site["positions"]) == 3
    massive = table[table["kind"] == "massive"]
    assert len(massive) == 3
    assert (massive["change_low"] <= massive["change_high"]).all()
    assert massive["sink"].between(0, 1).all()
    # At the last step it is the largest; there it was chosen.
    assert massive["value"].iloc[-1] == massive["value"].max()
    assert read_study(tmp_path, "run").equals(table)


def test_a_study_goes_on_where_it_was(run_folder, tmp_path):
    whole = follow(run_folder, tmp_path / "whole")
    told = []
    follow(run_folder, tmp_path / "parts", steps="0,20")
    path = tmp_path / "parts" / "intervention" / "run" / "step0.json"
    before = path.stat().st_mtime_ns
    parts = follow(run_folder, tmp_path / "parts", advance=lambda *now: told.append(now))
    assert path.stat().st_mtime_ns == before
    assert told == [(0, 1, 3), (10, 2, 3), (20, 3, 3)]
    assert parts.equals(whole)
    with pytest.raises(UsageError, match="other sequences or settings"):
        follow(run_folder, tmp_path / "parts", settings=["mean"])


def test_a_checkpoint_that_cannot_be_read_costs_no_other(run_folder, tmp_path):
    import shutil

    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "step10" / "model.safetensors").write_bytes(b"no weights")
    (tmp_path / "text.txt").write_text(TEXT)
    table = follow(tmp_path / "run", tmp_path / "out")
    failed = table[table["failure"].notna()]
    assert failed["step"].tolist() == [10]
    assert set(table.loc[table["kind"] == "massive", "step"]) == {0, 20}
    shutil.copy(run_folder / "step10" / "model.safetensors", tmp_path / "run" / "step10")
    assert follow(tmp_path / "run", tmp_path / "out")["failure"].isna().all()


def test_what_cannot_be_followed_is_said(run_folder, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint of step 5; it has 0, 10, 20"):
        follow(run_folder, tmp_path, steps="0,5")
    with pytest.raises(UsageError, match="no massive activation"):
        follow(run_folder, tmp_path, layer="auto")
