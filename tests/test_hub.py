"""Models, datasets and texts of the Hub, through the real client against a Hub on the loopback interface.

Each test uses repositories of its own, since the client's cache outlives a test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest

import madyn
from loopback_hub import Files
from madyn.checkpoints import find_checkpoints
from madyn.checkpoints.fetching import is_cached, list_files
from madyn.cli import main
from madyn.dataset import layout, manifest
from madyn.errors import DatasetError, StorageError, TextError
from madyn.hub import ATTEMPTS
from madyn.text import REDPAJAMA, read_text
from tiny import SENTENCES, TEXT, save_checkpoints, write_dataset

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `tiny` with the checkpoints step0, step1 and step1000."""
    return save_checkpoints(tmp_path_factory.mktemp("checkpoints") / "tiny", (0, 1, 1000))


@pytest.fixture
def revisions(checkpoints: Path) -> dict[str, Files]:
    """The same as a repository: a branch a step, and main at the last."""
    steps = {
        folder.name: {p.name: p.read_bytes() for p in folder.iterdir()} for folder in sorted(checkpoints.iterdir())
    }
    return {"main": steps["step1000"], **steps}


@pytest.fixture
def probe(tmp_path: Path) -> list[str]:
    """The options of a small probe."""
    (tmp_path / "probe.txt").write_text(TEXT)
    return ["--probe", str(tmp_path / "probe.txt"), "--length", "16", "--sequences", "3"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: exit code, standard output, standard error."""

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["madyn", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return command


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits 23 seconds in all between its attempts."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def error_line(result: tuple[int, str, str]) -> str:
    """The one line in which a command said why it failed."""
    code, _, err = result
    lines = [line for line in err.splitlines() if line.startswith("madyn: ")]
    assert code == 1
    assert err.splitlines()[-1:] == lines
    assert "Traceback" not in err
    return lines[0]


# Checkpoints


def test_the_revisions_of_a_repository_are_its_steps(hub, revisions):
    repository = hub.add("owner/steps", revisions)
    found = find_checkpoints("owner/steps")
    assert list(found.by_step) == [0, 1, 1000]
    assert [c.revision for c in found.by_step.values()] == ["step0", "step1", "step1000"]
    assert [c.commit for c in found.by_step.values()] == [repository.commit(f"step{s}") for s in (0, 1, 1000)]
    assert found.by_step[1].weight_bytes() == len(revisions["step1"][WEIGHTS])


def test_a_trace_from_the_hub_is_the_trace_from_folders(hub, checkpoints, revisions, probe, run, tmp_path):
    repository = hub.add("owner/tiny", revisions)
    code, out, _ = run("trace", "owner/tiny", "--steps", "0,1000", "--out", tmp_path / "hub", *probe)
    assert (code, "2 measured" in out) == (0, True)
    assert run("trace", checkpoints, "--steps", "0,1000", "--out", tmp_path / "folder", *probe)[0] == 0
    for step in (0, 1000):
        paths = [layout.statistics_path(tmp_path / root, "tiny", step) for root in ("hub", "folder")]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    units = manifest.read_units(tmp_path / "hub", "tiny")
    assert list(units) == [0, 1000]
    for step, unit in units.items():
        assert (unit.source, unit.revision) == ("owner/tiny", f"step{step}")
        assert unit.commit == repository.commit(f"step{step}")
    # The step between is listed, to compare with, and nothing of it is fetched.
    of_other = [request for request in hub.requests if "step1/" in request or repository.commit("step1") in request]
    assert of_other == [f"GET /api/models/owner/tiny/tree/{repository.commit('step1')}"]

    hub.requests.clear()
    code, out, _ = run("trace", "owner/tiny", "--steps", "0,1000", "--out", tmp_path / "hub", *probe)
    assert (code, "0 measured, 2 already there" in out) == (0, True)
    assert hub.requests == ["GET /api/models/owner/tiny/refs"]


def test_a_sweep_measures_the_commits_that_it_found(hub, revisions, tmp_path):
    """A branch that moves between the listing and the loading does not change what is measured."""
    before = hub.add("owner/moving", {"step0": revisions["step0"]}).commit("step0")
    found = find_checkpoints("owner/moving")
    hub.add("owner/moving", {"step0": revisions["step1"], "old": revisions["step0"]})
    found.by_step[0].config()
    assert [request for request in hub.requests if f"/{before}/config.json" in request]


def test_scan_at_a_revision(hub, checkpoints, revisions, probe, run):
    hub.add("owner/scanned", revisions)
    code, out, _ = run("scan", "owner/scanned", "--revision", "step1", *probe)
    assert (code, "owner/scanned at step1" in out) == (0, True)
    settings = madyn.sweep.Probe(probe[1], sequences=3, length=16)
    one = madyn.sweep.scan_checkpoint("owner/scanned", "step1", probe=settings)
    assert one.equals(madyn.sweep.scan_checkpoint(checkpoints / "step1", probe=settings))
    assert not one.equals(madyn.sweep.scan_checkpoint("owner/scanned", probe=settings))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("scan", "owner/fine", "--revision", "nope"), "owner/fine at nope: the repository has no such revision"),
        (("trace", "owner/fine", "--steps", "0,5"), "no checkpoint at step 5; it has steps 0, 1 and 1000"),
        (("scan", "owner/none"), "owner/none at main: no such repository"),
        (("trace", "owner/none"), "owner/none: no such repository"),
        (("trace", "owner/alone"), "owner/alone: no training checkpoints"),
        (("scan", "owner/gated"), "hf auth login"),
        (("trace", "owner/gated"), "hf auth login"),
        (("scan", "owner/refused"), "the Hub refused access"),
        (("trace", "owner/refused"), "the Hub refused access"),
        (("scan", "owner/empty"), "config.json"),
        (("trace", "owner/unwell"), "owner/unwell: the Hub could not be reached (Server error '503"),
        (("scan", "owner/unwell"), "owner/unwell at main: the Hub could not be reached (Server error '503"),
        (("scan", "nosuchmodel"), "nosuchmodel at main: no such repository or file on the Hub; check the name"),
        (("scan", "owner/weightless", "--revision", "step512"), "checkpoint owner/weightless at step512: no weights"),
    ],
)
@pytest.mark.usefixtures("no_waiting")
def test_what_a_repository_cannot_give_is_said_in_a_line(hub, revisions, probe, run, tmp_path, arguments, said):
    for name in ("fine", "refused", "unwell"):
        hub.add(f"owner/{name}", revisions)
    hub.add("owner/gated", revisions, gated=True)
    hub.add("owner/alone", {"main": revisions["main"]})
    hub.add("owner/empty", {"main": {}})
    hub.fail("owner/refused", 403)
    hub.fail("owner/unwell", 503)
    hub.fail("nosuchmodel", 404)  # with no word on what was not found
    hub.add("owner/weightless", {"step512": {n: c for n, c in revisions["main"].items() if n != WEIGHTS}})
    out = ["--out", tmp_path / "out"] if arguments[0] == "trace" else []
    assert said in error_line(run(*arguments, *out, *probe))
    assert not list(tmp_path.rglob("*step*"))


def test_no_hub_at_all_is_said_in_a_line(checkpoints, tmp_path):
    # A process of its own: the client knows one address and one cache from its import on. Nothing listens on port 1.
    script = """
import json, sys, time
from madyn.cli import main
time.sleep = lambda seconds: None
codes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["madyn", *arguments]
    try:
        main()
    except SystemExit as e:
        codes.append(e.code)
print(json.dumps(codes))
"""
    commands = [
        ["show", "owner/data"],
        ["trace", "owner/tiny", "--out", "out"],
        ["scan", "owner/tiny"],
        ["scan", str(checkpoints / "step0"), "--probe", "redpajama", "--length", "16"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(commands)],
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path / "cache")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "[1, 1, 1, 1]\n")
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("madyn: ")]
    assert len(said) == len(commands)
    assert all("the Hub could not be reached" in line and "try again later" in line for line in said)


@pytest.mark.parametrize("fault", ["missing", "truncated", "503"])
@pytest.mark.usefixtures("no_waiting")
def test_a_bad_checkpoint_fails_alone_and_is_measured_when_mended(hub, revisions, probe, run, tmp_path, fault):
    name, out = f"owner/bad-{fault}", tmp_path / "out"
    bad = dict(revisions["step1"])
    if fault == "missing":
        del bad[WEIGHTS]
    elif fault == "truncated":
        bad[WEIGHTS] = bad[WEIGHTS][:-100]
    repository = hub.add(name, {**revisions, "step1": bad})
    if fault == "503":
        hub.fail(f"GET /{name}/resolve/{repository.commit('step1')}/{WEIGHTS}", 503, times=ATTEMPTS)
    code, printed, err = run("trace", name, "--out", out, *probe)
    assert (code, "Traceback" in err) == (1, False)
    assert ("step 1: no weights in it" if fault == "missing" else "step 1 failed: checkpoint") in err
    assert "2 measured" in printed
    model = layout.directory_name(name)
    assert list(layout.statistics_files(out, model)) == [0, 1000]
    failures = {step: unit.failure for step, unit in manifest.read_units(out, model).items()}
    assert (failures[0], failures[1000]) == (None, None)
    assert f"{name} at step1" in str(failures[1])

    mended = hub.add(name, revisions)
    hub.requests.clear()
    assert run("trace", name, "--out", out, *probe)[0] == 0
    weights = [request for request in hub.requests if request.endswith(WEIGHTS) and request.startswith("GET")]
    assert weights == [f"GET /{name}/resolve/{mended.commit('step1')}/{WEIGHTS}"]
    unit = manifest.read_units(out, model)[1]
    assert (unit.failure, unit.commit) == (None, mended.commit("step1"))
    assert list(layout.statistics_files(out, model)) == [0, 1, 1000]


@pytest.mark.parametrize("body", ["dropped", "truncated", "corrupt", "slow"])
@pytest.mark.usefixtures("no_waiting")
def test_a_spoilt_download_is_fetched_again(hub, revisions, checkpoints, probe, run, tmp_path, body):
    name = f"owner/{body}"
    hub.add(name, revisions)
    hub.spoil(f"GET /{name}/resolve/{hub.add(name, revisions).commit('step1')}/{WEIGHTS}", body)
    assert run("trace", name, "--steps", "0,1", "--out", tmp_path / "hub", *probe)[0] == 0
    run("trace", checkpoints, "--steps", "0,1", "--out", tmp_path / "folder", *probe)
    for step in (0, 1):
        expected = layout.statistics_path(tmp_path / "folder", "tiny", step).read_bytes()
        assert layout.statistics_path(tmp_path / "hub", body, step).read_bytes() == expected


@pytest.mark.usefixtures("no_waiting")
def test_bytes_that_stay_wrong_are_refused(hub, revisions, probe, run, tmp_path):
    """The client compares sizes; nothing but the hash shows one flipped bit."""
    commit = hub.add("owner/flipped", revisions).commit("step1")
    hub.spoil(f"GET /owner/flipped/resolve/{commit}/{WEIGHTS}", "corrupt", times=100)
    code, printed, err = run("trace", "owner/flipped", "--out", tmp_path / "d", *probe)
    assert (code, "2 measured, 0 already there, 1 failed" in printed) == (1, True)
    assert "model.safetensors was downloaded twice, and its bytes do not have the hash that the Hub lists" in err
    hub.clear()
    hub.add("owner/flipped", revisions)
    assert run("trace", "owner/flipped", "--out", tmp_path / "d", *probe)[0] == 0  # nothing of it is left in the cache


def test_a_busy_hub_is_waited_for(hub, revisions, probe, run, tmp_path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    commit = hub.add("owner/busy", revisions).commit("step0")
    hub.fail("GET /api/models/owner/busy/refs", 429, times=2, Retry_After="7")
    hub.fail("GET /api/models/owner/busy/tree", 502, times=3)
    hub.fail(f"GET /owner/busy/resolve/{commit}/{WEIGHTS}", 503, times=2, Retry_After="3600")
    assert run("trace", "owner/busy", "--steps", "0", "--out", tmp_path / "d", *probe)[0] == 0
    assert sum(wait >= 7 for wait in waits) >= 2
    assert max(waits) <= 60  # an hour is not waited for in one go


def test_the_oldest_downloads_are_removed(hub, revisions, probe, run, tmp_path):
    repository = hub.add("owner/many", revisions)
    assert run("trace", "owner/many", "--out", tmp_path / "d", "--keep-cache", "1", *probe)[0] == 0
    kept = {step: is_cached(list_files("owner/many", repository.commit(f"step{step}"))) for step in (0, 1, 1000)}
    assert kept == {0: False, 1: False, 1000: True}


@pytest.mark.parametrize("shards", [False, True])
def test_weights_that_the_decoder_does_not_need_stay_on_the_hub(hub, probe, run, tmp_path, shards):
    from transformers import AutoConfig, GPTNeoXForCausalLM

    name = f"owner/headed-{shards}"
    source = save_checkpoints(tmp_path / "source" / "net", (0, 1))
    for folder in source.iterdir():
        config: Any = AutoConfig.from_pretrained(folder)
        (folder / WEIGHTS).unlink()
        GPTNeoXForCausalLM(config).save_pretrained(folder, max_shard_size="20KB" if shards else "5GB")
    hub.add(name, {folder.name: folder for folder in source.iterdir()})
    options = ("--out", tmp_path / "d", *probe)
    assert run("trace", name, *options, "--decoder-only")[0] == 0
    units = manifest.read_units(tmp_path / "d", layout.directory_name(name))
    assert [unit.bytes_left_out for unit in units.values()] == [300 * 16 * 4] * 2  # the head, float32
    assert run("trace", source, "--name", layout.directory_name(name), "--out", tmp_path / "e", *probe)[0] == 0
    for step in (0, 1):
        paths = [layout.statistics_path(tmp_path / root, layout.directory_name(name), step) for root in "de"]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_plan_for_a_repository_downloads_only_its_config(hub, revisions, run):
    hub.add("owner/planned", revisions)
    code, out, _ = run("plan", "owner/planned", "--keep-cache", "0", "--length", "16")
    assert code == 0
    size = len(revisions["step0"][WEIGHTS])
    row = next(line.split() for line in out.splitlines() if line.startswith("planned"))
    assert row[1:3] == ["3", "3"]
    assert row[3:7] == [f"{3 * size / 1000:.0f}", "kB", f"{2 * size / 1000:.0f}", "kB"]
    assert not [request for request in hub.requests if WEIGHTS in request]


def test_a_plan_goes_on_past_a_model_whose_files_cannot_be_listed(hub, revisions, run):
    hub.add("owner/planned", revisions)
    hub.add("owner/unlisted", revisions)
    hub.fail("GET /api/models/owner/unlisted/tree", 404)
    code, out, _ = run("plan", "owner/unlisted", "owner/planned", "--length", "16")
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert code == 0
    assert rows["unlisted"].split()[1:5] == ["3", "3", "-", "-"]
    assert "not calibrated: " in rows["unlisted"]
    assert float(rows["planned"].split()[3]) > 0
    assert "not calibrated" not in rows["planned"]


def test_a_gated_repository_is_one_line(hub, revisions, probe, run, tmp_path):
    hub.add("owner/locked", revisions, gated=True)
    said = error_line(run("trace", "owner/locked", "--out", tmp_path / "d", *probe))
    assert "accept its terms on its page, then `hf auth login`" in said


# Datasets


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset with one model, a picture, and a file that is none of a dataset's."""
    root = write_dataset(tmp_path / "source", models=("pythia_14m",))
    for other in ("pythia_14m/series/ratio.png", "pythia_14m/notes.bin"):
        (root / other).parent.mkdir(exist_ok=True)
        (root / other).write_bytes(b"large")
    return root


@pytest.mark.parametrize("name", ["owner/data", "hf://datasets/owner/data", "hf://datasets/owner/data@main"])
def test_a_dataset_of_the_hub_opens_by_name(hub, dataset, name):
    hub.add("owner/data", {"main": dataset}, kind="datasets")
    opened, local = madyn.open_dataset(name), madyn.open_dataset(dataset)
    assert opened.models == ["pythia_14m"]
    assert opened.statistics("pythia_14m").equals(local.statistics("pythia_14m"))
    assert not [request for request in hub.requests if "ratio.png" in request or "notes.bin" in request]


def test_a_revision_of_a_dataset(hub, dataset, tmp_path):
    older = write_dataset(tmp_path / "older", models=("pythia_70m",), seed=1)
    hub.add("owner/versions", {"main": dataset, "v1": older}, kind="datasets")
    assert madyn.open_dataset("owner/versions").models == ["pythia_14m"]
    assert madyn.open_dataset("hf://datasets/owner/versions@v1").models == ["pythia_70m"]
    with pytest.raises(DatasetError, match="owner/versions: the repository has no such revision"):
        madyn.open_dataset("hf://datasets/owner/versions@v2")
    with pytest.raises(DatasetError, match="not a dataset's address"):
        madyn.open_dataset("hf://models/owner/versions")


def test_show_reads_the_hub_and_then_its_cache(hub, dataset, run):
    hub.add("owner/shown", {"main": dataset}, kind="datasets")
    code, out, _ = run("show", "owner/shown")
    assert (code, "pythia_14m" in out) == (0, True)
    hub.fail("owner/shown", 503)
    assert run("show", "owner/shown")[0] == 0


def test_a_dataset_that_cannot_be_had_is_said_in_a_line(hub, dataset, run):
    hub.add("owner/closed", {"main": dataset}, kind="datasets", gated=True)
    hub.fail("owner/broken", 503)
    assert "owner/absent: no such repository" in error_line(run("show", "owner/absent"))
    assert "hf auth login" in error_line(run("show", "owner/closed"))
    assert "the Hub could not be reached" in error_line(run("show", "owner/broken"))


def contents(folder: Path) -> Files:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


FIT = ("--hypothesis", "reparam", "--quantity", "ratio")


def test_fit_writes_to_a_folder_of_its_own(hub, dataset, run, tmp_path):
    hub.add("owner/fitted", {"main": dataset}, kind="datasets")
    cache = madyn.open_dataset("owner/fitted").path
    before = contents(cache)
    assert run("fit", "owner/fitted", "--out", tmp_path / "mine", *FIT)[0] == 0
    assert contents(cache) == before
    mine = madyn.open_dataset(tmp_path / "mine")
    assert len(mine.parameters) == 3
    assert mine.statistics("pythia_14m").equals(madyn.open_dataset(dataset).statistics("pythia_14m"))

    hub.requests.clear()
    assert (
        run("fit", "owner/fitted", "--out", tmp_path / "mine", "--hypothesis", "step1", "--quantity", "ratio")[0] == 0
    )
    assert hub.requests == []
    assert set(mine.fit_records("pythia_14m", "ratio")[0]) == {"reparam", "step1"}


def test_fit_asks_for_the_folder_to_write_to(hub, dataset, run, tmp_path, monkeypatch):
    hub.add("owner/named", {"main": dataset}, kind="datasets")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    code, out, err = run("fit", "owner/named", *FIT)
    assert (code, out) == (2, "")
    assert "owner/named lies on the Hub and is not written to: say with --out" in err
    assert not list((tmp_path / "work").iterdir())


def test_a_dataset_is_never_fetched_over_another(hub, dataset, run, tmp_path, monkeypatch):
    hub.add("owner/source", {"main": dataset, "v1": dataset}, kind="datasets")
    monkeypatch.chdir(tmp_path)  # where a folder `source` is
    before = contents(dataset)
    assert "source is there already" in error_line(run("fit", "owner/source", "--out", "source", *FIT))
    assert contents(dataset) == before
    assert run("fit", "owner/source", "--out", "mine", *FIT)[0] == 0
    said = error_line(run("fit", "hf://datasets/owner/source@v1", "--out", "mine", *FIT))
    assert "mine is there already and holds owner/source@main, not owner/source@v1" in said


def test_a_fetch_that_stopped_goes_on(hub, dataset, run, tmp_path):
    hub.add("owner/halting", {"main": dataset}, kind="datasets")
    hub.fail("stats/exp2_pythia_14m_step9000", 401, times=2)
    assert "owner/halting" in error_line(run("fit", "owner/halting", "--out", tmp_path / "mine", *FIT))
    hub.clear()
    hub.add("owner/halting", {"main": dataset}, kind="datasets")
    assert run("fit", "owner/halting", "--out", tmp_path / "mine", *FIT)[0] == 0
    steps = madyn.open_dataset(tmp_path / "mine").steps("pythia_14m")
    assert steps == madyn.open_dataset(dataset).steps("pythia_14m")


def test_a_fetch_that_cannot_be_written_is_said_so(hub, dataset, tmp_path):
    hub.add("owner/unwritten", {"main": dataset}, kind="datasets")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        madyn.fit_dataset("owner/unwritten", out=tmp_path / "file" / "mine")


def test_a_file_of_the_hub_is_read_in_parts(hub, dataset):
    hub.add("owner/parts", {"main": dataset}, kind="datasets")
    path = next((dataset / "pythia_14m/stats").iterdir())
    files = huggingface_hub.HfFileSystem()
    address = f"datasets/owner/parts/pythia_14m/stats/{path.name}"
    assert files.cat_file(address, start=5, end=25) == path.read_bytes()[5:25]


# Texts


def jsonl(texts: list[str], column: str = "text") -> bytes:
    return "".join(json.dumps({column: text}) + "\n" for text in texts).encode()


def test_the_paper_s_sample_is_mapped_from_its_seed(hub):
    books, web = [f"book {i}" for i in range(20)], [f"page {i}" for i in range(20)]
    files = {"book_sample.jsonl": jsonl(books), "web_sample.jsonl": jsonl(web), "loader.py": b"raise SystemExit"}
    hub.add(REDPAJAMA, {"main": files}, kind="datasets")
    first = read_text("redpajama", 8)
    assert set(first.documents) < {*books, *web}
    assert len(set(first.documents)) == 8
    assert first == read_text("redpajama", 8)
    assert first.documents != read_text("redpajama", 8, seed=1).documents
    assert read_text("redpajama", None).documents == (*books, *web)
    order = np.random.default_rng(0).permutation(40)[:8]
    assert first.documents == tuple([*books, *web][i] for i in order)
    assert not [request for request in hub.requests if "loader.py" in request]


def test_a_text_dataset_of_the_hub(hub):
    files = {"data/train.jsonl": jsonl(SENTENCES[:9], "content"), "data/test.jsonl": jsonl(["other"], "content")}
    hub.add("owner/text", {"main": files}, kind="datasets")
    assert read_text("owner/text?split=train&column=content", None).documents == tuple(SENTENCES[:9])
    assert read_text("hf://datasets/owner/text?split=test&column=content").documents == ("other",)
    drawn = read_text("owner/text?column=content", 4).documents
    assert len(drawn) == 4
    assert drawn == read_text("owner/text?column=content", 4).documents
    assert drawn != read_text("owner/text?column=content", 4, seed=1).documents
    with pytest.raises(TextError, match=r"owner/text: no column 'text'; it has content; add \?column=NAME"):
        read_text("owner/text")
    with pytest.raises(TextError, match='owner/text: Unknown split "dev"'):
        read_text("owner/text?split=dev&column=content")
    with pytest.raises(TextError, match="owner/text: BuilderConfig 'fr' not found"):
        read_text("owner/text?config=fr&column=content")


def test_a_text_that_cannot_be_had_says_why(hub):
    hub.add("owner/members", {"main": {"train.jsonl": jsonl(["a"])}}, kind="datasets", gated=True)
    hub.add("owner/garbled", {"main": {"train.jsonl": b'{"text": '}}, kind="datasets")
    hub.add("owner/nothing", {"main": {"notes.bin": b""}}, kind="datasets")
    for name, reason in {
        "members": "gated dataset",
        "garbled": "JSON parse error",
        "nothing": "data files",
        "unknown": "doesn't exist on the Hub",
    }.items():
        with pytest.raises(TextError, match=f"text owner/{name}: .*{reason}"):
            read_text(f"owner/{name}")
