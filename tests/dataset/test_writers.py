"""Any number of processes may write one dataset, and any of them may be killed: nothing is lost and nothing is mixed.

The processes here are real. Those that are to meet wait for a file, so that they meet; those that are to die kill
themselves just before a rename, at each one in turn.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import madyn
import madyn.analysis.fitting
from madyn.dataset import layout, locking, manifest, shipped
from madyn.dataset.copying import bring
from madyn.dataset.files import create_bytes, root_path, write_bytes
from madyn.dataset.leftovers import find_leftovers, sweep
from madyn.dataset.locking import hold, share, tracing, training_alone, writing
from madyn.dataset.partial import is_partial, making_folder, replacing
from madyn.dataset.training import read_record, write_record
from madyn.errors import DatasetError, StorageError, UsageError
from madyn.lab import LabSuite, Measuring, ModelEntry, Recipe, TrainingText, run_suite
from tiny import TEXT, save_checkpoints, write_dataset

HYPOTHESES = ["reparam", "step1", "step2", "original"]
TESTS = str(Path(__file__).parent)


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def contents(root: Path) -> dict[str, bytes]:
    """Every file by its place, but for what begins with a point: what is kept to go on, locks, leftovers."""
    found = {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
    return {str(p): path.read_bytes() for p, path in found.items() if not any(x.startswith(".") for x in p.parts)}


def grow_old(root: Path) -> None:
    """As if an hour had gone by."""
    for path in [root, *root.rglob("*")]:
        os.utime(path, (time.time() - 3600, time.time() - 3600), follow_symlinks=False)


def enter(manager: AbstractContextManager[Any]) -> None:
    with manager:
        pass


# Several at once

FIT = """
    import sys, time
    from pathlib import Path
    import madyn, madyn.analysis.fitting
    print("ready", flush=True)
    while not Path(sys.argv[2]).exists():
        time.sleep(0.001)
    madyn.fit_dataset(sys.argv[1], hypotheses=[sys.argv[3]])
"""


@pytest.mark.parametrize("rounds", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_fits_at_once_lose_nothing(tmp_path, rounds):
    for number in range(rounds):
        root, go = write_dataset(tmp_path / f"d{number}", models=("pythia_14m",)), tmp_path / f"go{number}"
        processes = [start(FIT, root, go, name) for name in HYPOTHESES]
        assert [line_of(process) for process in processes] == ["ready"] * 4
        go.touch()
        assert [process.wait(timeout=120) for process in processes] == [0] * 4
        dataset = madyn.open_dataset(root)
        for quantity in layout.FITTED_QUANTITIES:
            assert all(set(layer) == set(HYPOTHESES) for layer in dataset.fit_records("pythia_14m", quantity))
        assert len(dataset.parameters) == 3
        assert madyn.checking.check_dataset(root).faults == []


CLAIM = """
    import sys
    from pathlib import Path
    from madyn.dataset import manifest
    from madyn.errors import ProbeMismatchError
    root, mine = Path(sys.argv[1]), sys.argv[2]
    for round in range(int(sys.argv[3])):
        sys.stdin.readline()
        try:
            manifest.claim_probe(root / str(round), manifest.ProbeRecord(text=mine, sha256=mine, documents=1, seed=0))
            print("accepted", flush=True)
        except ProbeMismatchError:
            print("refused", flush=True)
"""


def test_of_two_probes_claimed_at_once_one_is_accepted(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(CLAIM), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([*command, name, "200"], **pipes) for name in ("one", "other")]
    for number in range(200):
        for process in both:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert sorted(line_of(process) for process in both) == ["accepted", "refused"]
        probe = manifest.read_probe(tmp_path / str(number))
        assert probe is not None
        assert probe.text in ("one", "other")
    assert [process.wait(timeout=60) for process in both] == [0, 0]


def test_a_file_is_created_once(tmp_path, monkeypatch):
    assert create_bytes(tmp_path / "a" / "f", b"first")
    assert not create_bytes(tmp_path / "a" / "f", b"second")
    assert (tmp_path / "a" / "f").read_bytes() == b"first"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["f"]

    def no_links(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    assert create_bytes(tmp_path / "b" / "f", b"first")
    assert not create_bytes(tmp_path / "b" / "f", b"second")
    assert (tmp_path / "b" / "f").read_bytes() == b"first"


def test_folders_are_on_the_disk_too(tmp_path, monkeypatch):
    synced = []

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    if not Path("/proc/self/fd").exists():
        pytest.skip("which folder a descriptor stands for cannot be told here")
    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(tmp_path / "a" / "b" / "f", b"")
    assert set(synced) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}  # two new names, then the file's
    synced.clear()
    write_bytes(tmp_path / "a" / "b" / "f", b"again")
    assert synced == [tmp_path / "a" / "b"]


def test_a_fit_says_which_bytes_it_was_made_from(tmp_path, monkeypatch):
    """A step that comes while curves are fitted belongs to none of them."""
    root = write_dataset(tmp_path / "d", models=("pythia_14m",))
    before = madyn.open_dataset(root).statistics_hash("pythia_14m")
    real = madyn.analysis.fitting.fit_records

    def with_a_new_step(*arguments, **options):
        last = layout.statistics_path(root, "pythia_14m", 20000)
        shutil.copy(last, layout.statistics_path(root, "pythia_14m", 21000))
        return real(*arguments, **options)

    monkeypatch.setattr("madyn.analysis.fitting.fit_records", with_a_new_step)
    madyn.fit_dataset(root, hypotheses=["step1"], quantities=["ratio"])
    record = madyn.open_dataset(root).fit_records("pythia_14m", "ratio")[0]["step1"]
    assert record["provenance"]["statistics_sha256"] == before
    assert any("fitted to other statistics" in fault for fault in madyn.checking.check_dataset(root).faults)
    # Whoever has fitted to what is there now keeps it, when one that began before comes to its end.
    late = madyn.open_dataset(root)
    layout.statistics_path(root, "pythia_14m", 21000).unlink()
    late.statistics("pythia_14m")
    monkeypatch.undo()
    shutil.copy(layout.statistics_path(root, "pythia_14m", 20000), layout.statistics_path(root, "pythia_14m", 21000))
    madyn.fit_dataset(root, hypotheses=["step1"], quantities=["ratio"])
    now = layout.params_path(root, "pythia_14m", "ratio").read_bytes()
    with pytest.raises(DatasetError, match="its statistics changed as they were fitted"):
        madyn.fit_dataset(late, hypotheses=["step2"], quantities=["ratio"])
    assert layout.params_path(root, "pythia_14m", "ratio").read_bytes() == now


# On an object store


@pytest.fixture
def shelf():
    import fsspec

    yield root_path("memory://shelf/d")
    store = fsspec.filesystem("memory")
    if store.exists("/shelf"):
        store.rm("/shelf", recursive=True)


def test_an_object_is_the_lock_of_a_store(shelf, monkeypatch):
    monkeypatch.setattr(locking, "PATIENCE_STORE", 0.3)
    with writing(shelf, "fits"), pytest.raises(StorageError, match=rf"process {os.getpid()} on .*has not finished in"):
        enter(writing(shelf, "fits"))
    enter(writing(shelf, "fits"))  # it was given up
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    import socket

    dead = {"host": socket.gethostname(), "process": int(gone.stdout), "since": "2026-01-01T00:00:00+00:00"}
    lock = shelf / ".locks" / ".fits"
    create_bytes(lock, json.dumps(dead).encode())
    with pytest.raises(StorageError, match=f"process {dead['process']} .* is dead; .* remove that object"):
        enter(writing(shelf, "fits"))
    write_bytes(lock, b"not JSON")
    with pytest.raises(StorageError, match="process None on None"):
        enter(writing(shelf, "fits"))


def test_a_store_that_does_not_keep_writers_apart_is_refused(shelf, monkeypatch):
    real = type(shelf.fs).pipe_file
    monkeypatch.setattr(type(shelf.fs), "pipe_file", lambda self, path, value, mode="": real(self, path, value))
    with pytest.raises(StorageError, match="creates an object though it is there"):
        enter(writing(shelf, "fits"))

    def refuse(self, path, value, mode="overwrite"):
        raise NotImplementedError("mode")

    monkeypatch.setattr(type(shelf.fs), "pipe_file", refuse)
    with pytest.raises(StorageError, match="cannot create an object only if it is not there"):
        enter(writing(shelf, "fits"))


def test_a_dataset_on_a_store_is_fitted(shelf, tmp_path):
    local = write_dataset(tmp_path / "d", models=("pythia_14m",))
    for path in local.rglob("*"):
        if path.is_file():
            write_bytes(shelf.joinpath(*path.relative_to(local).parts), path.read_bytes())
    url = "memory://shelf/d"
    madyn.fit_dataset(url, hypotheses=["reparam"])
    madyn.fit_dataset(url, hypotheses=["step1"])
    madyn.fit_dataset(local, hypotheses=["reparam"])
    madyn.fit_dataset(local, hypotheses=["step1"])
    assert len(madyn.open_dataset(url).parameters) == 3
    for path in local.rglob("*.json"):
        assert shelf.joinpath(*path.relative_to(local).parts).read_bytes() == path.read_bytes()
    assert not (shelf / ".locks" / ".fits").exists()


# What the dead leave

WRITER = """
    import os, signal, sys, time
    from pathlib import Path
    from madyn.dataset.partial import making_folder, replacing
    root, way = Path(sys.argv[1]), sys.argv[2]
    with replacing(root / "manifest" / "m" / "step1.json") as file, making_folder(root / "checkpoints" / "m" / "step1"):
        file.write(b"half")
        file.flush()
        print("writing", flush=True)
        time.sleep(60)
"""


def test_what_a_killed_process_left_is_told_and_swept_and_what_a_living_one_writes_stays(tmp_path):
    root = write_dataset(tmp_path / "d", models=("pythia_14m",))
    dead, alive = start(WRITER, root, "dead"), start(WRITER, root, "alive")
    assert [line_of(dead), line_of(alive)] == ["writing"] * 2
    (root / ".locks" / "m").mkdir(parents=True)
    (root / ".locks" / "m" / "step7").touch()  # the claim of a process that was killed
    (root / "pythia_14m" / "stats" / ".exp2_pythia_14m_step0.abc.partial").write_bytes(b"half")
    dead.kill()
    dead.wait()
    assert find_leftovers(root) == []  # too young for anyone to know
    before = contents(root)
    grow_old(root)
    found = find_leftovers(root)
    assert len(found) == 4
    assert len(list(root.rglob("*.partial"))) == 5
    remarks = madyn.checking.check_dataset(root).remarks
    assert sum("left by a process that was killed" in remark for remark in remarks) == 4
    # None of it goes where the dataset goes.
    shipped.pack_dataset(root, tmp_path / "packed.tar.xz")
    import tarfile

    with tarfile.open(tmp_path / "packed.tar.xz") as tar:
        assert not [name for name in tar.getnames() if "partial" in name]
    assert not list(bring(root, tmp_path / "copy").rglob("*.partial"))
    madyn.fit_dataset(root, hypotheses=["step1"], quantities=["ratio"])
    assert find_leftovers(root) == []
    left = list(root.rglob("*.partial"))
    assert len(left) == 2  # a file and a folder of the living
    alive.kill()
    alive.wait()
    assert sorted(sweep(root)) == sorted(left)
    assert {path: data for path, data in contents(root).items() if path in before} == before


def test_sweeping_a_large_dataset_takes_no_time(tmp_path):
    for model in range(162):
        for folder in (f"m{model}/stats", f"manifest/m{model}", f"locations/m{model}", f"m{model}/example_fits/ratio"):
            (tmp_path / folder).mkdir(parents=True)
            for step in range(37 if "example" not in folder else 1):
                (tmp_path / folder / f"step{step}").touch()
    start = time.perf_counter()
    assert sweep(tmp_path) == []
    assert time.perf_counter() - start < 5  # 0.1 s on an idle core; a test is no clock


def test_a_claim_is_taken_again_and_never_twice(tmp_path):
    path = tmp_path / ".locks" / "m" / "step1"
    with hold(path, remove=True) as mine, hold(path) as other:
        assert (mine, other) == (True, False)
    assert not path.exists()
    path.touch()
    grow_old(tmp_path)
    with hold(path, remove=True) as mine:
        assert mine
        assert sweep(tmp_path) == []
    path.touch()
    with pytest.raises(StorageError, match="cannot write"):
        enter(hold(path / "below"))


def test_a_folder_comes_whole_or_not_at_all(tmp_path):
    def fill(name: str, text: str) -> None:
        with making_folder(tmp_path / name) as partial:
            (partial / "f").write_text(text.removeprefix("half"))
            if text.startswith("half"):
                raise RuntimeError

    with pytest.raises(RuntimeError):
        fill("new", "half")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("stays")
    with pytest.raises(OSError, match="not empty"):
        fill("there", "new")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["mine", "there"]
    with making_folder(tmp_path / "there", replace=True) as partial:
        (partial / "f").write_text("new")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["f", "there"]
    with replacing(tmp_path / ("é" * 120)) as file:  # 240 bytes: the name of what is being written must fit too
        file.write(b"1")
    assert not [p for p in tmp_path.rglob("*") if is_partial(p.name)]


# The lab


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return save_checkpoints(tmp_path_factory.mktemp("run") / "tiny-net", steps=(0, 1))


MODEL = "neox_2x16_h2_m64_s0"


def suite_on(book: str, steps: int = 4, **changes) -> LabSuite:
    return LabSuite(
        name="test",
        recipe=Recipe(steps=steps, batch_size=2, length=16),
        text=TrainingText(source=book, vocab_size=300),
        measure=Measuring(source=book, steps=[0, 2, steps], sequences=2, loss_sequences=2),
        model=[ModelEntry(hidden_size=16, num_hidden_layers=2, num_attention_heads=2)],
        **changes,
    )


def run_here(suite: LabSuite, out: Path, **options):
    """A suite without processes of its own."""
    from madyn.lab import running
    from madyn.lab.jobs import train_and_measure

    def run_all(todo, at_once, report):
        for job in todo:
            failure = train_and_measure(job)
            if failure:
                report.failures[job.run.name] = failure
            else:
                report.trained.append(job.run.name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_run_all", run_all)
        return run_suite(suite, out, **options)


@pytest.fixture(scope="module")
def trained(book, tmp_path_factory):
    out = tmp_path_factory.mktemp("lab") / "out"
    assert run_here(suite_on(book), out).trained == [MODEL]
    return out


def test_a_lab_and_a_trace_do_not_work_in_one_folder_and_traces_do(run_folder, book, tmp_path):
    probe = madyn.sweep.Probe(book, sequences=2, length=12)
    with training_alone(tmp_path):
        with pytest.raises(UsageError, match="a lab trains in"):
            madyn.trace(run_folder, tmp_path, probe=probe)
        with pytest.raises(UsageError, match="another process trains in"):
            run_here(suite_on(book), tmp_path)
    with tracing(tmp_path), tracing(tmp_path), share(tmp_path / ".locks" / ".lab") as shared:
        assert shared
        with pytest.raises(UsageError, match="or traces into it"):
            run_here(suite_on(book), tmp_path)
    assert len(madyn.trace(run_folder, tmp_path, probe=probe).measured) == 2


ORPHAN = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from test_writers import MODEL, suite_on
    from madyn.errors import MadynError
    from madyn.lab.corpora import prepare_corpus, probe_of
    from madyn.lab.jobs import Job, train_and_measure
    from madyn.lab.running import make_plan
    root, suite = Path(sys.argv[2]), suite_on(sys.argv[3], 40)
    corpus, run = prepare_corpus(suite, root), suite.runs()[0]
    job = Job(root, suite, run, corpus, probe_of(suite), make_plan(suite, run, corpus, 1, "cpu"), 1, "cpu", False)
    def on_step(step):
        if step == 3:
            print("training", flush=True)
            sys.stdin.readline()
    try:
        train_and_measure(job, on_step)
    except MadynError as e:
        print(e, flush=True)
"""


def start_orphan(root: Path, book: str) -> subprocess.Popen[str]:
    """A process that trains with no lab above it, and stands at step 3 until it is told to go on."""
    command = [sys.executable, "-c", textwrap.dedent(ORPHAN), TESTS, str(root), book]
    orphan = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert line_of(orphan) == "training"
    return orphan


def test_no_lab_begins_where_a_process_of_an_earlier_one_still_trains(book, tmp_path):
    orphan = start_orphan(tmp_path / "d", book)
    with pytest.raises(UsageError, match=f"process {orphan.pid} trains {MODEL} in .*, left by an earlier lab"):
        run_here(suite_on(book), tmp_path / "d")
    with pytest.raises(UsageError, match=f"process {orphan.pid} trains"):
        run_here(suite_on(book, 40), tmp_path / "d")
    orphan.kill()
    orphan.wait()
    assert run_here(suite_on(book, 40), tmp_path / "d").trained == [MODEL]
    assert not list((tmp_path / "d" / ".lab").glob("*.lock"))
    assert madyn.checking.check_dataset(tmp_path / "d").faults == []


def test_a_process_whose_folder_was_removed_writes_nothing_into_the_next_one(book, trained, tmp_path):
    orphan = start_orphan(tmp_path / "d", book)
    shutil.rmtree(tmp_path / "d")
    run_here(suite_on(book), tmp_path / "d")
    said, _ = orphan.communicate("go on\n", timeout=60)
    assert "removed as" in said
    assert contents(tmp_path / "d") == contents(trained)


def test_a_unit_of_another_run_is_told_and_measured_again(book, trained, tmp_path):
    out = shutil.copytree(trained, tmp_path / "d")
    run_here(suite_on(book, 6), tmp_path / "other")
    assert read_record(out, MODEL) is not None
    for path in (layout.statistics_path, layout.manifest_path, layout.locations_path):
        shutil.copy(path(tmp_path / "other", MODEL, 2), path(out, MODEL, 2))  # whole, and of a run of 6 steps
    (fault,) = madyn.checking.check_dataset(out).faults
    assert "step2.json: measured in another run than" in fault
    report = run_here(suite_on(book), out)
    assert report.trained == [MODEL]
    assert contents(out) == contents(trained)
    assert run_here(suite_on(book), out).already == [MODEL]
    layout.statistics_path(out, MODEL, 4).unlink()  # what `check` says to do with a damaged file
    assert run_here(suite_on(book), out).trained == [MODEL]
    assert contents(out) == contents(trained)


def stop_at(book: str, out: Path, step: int) -> None:
    """Train until the step that follows a saved state, and stop."""
    from madyn.lab import jobs, running

    class StopError(BaseException):
        pass

    def run_all(todo, at_once, report):
        def on_step(now):
            if now == step:
                raise StopError

        jobs.train_and_measure(todo[0], on_step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_run_all", run_all)
        with pytest.raises(StopError):
            run_suite(suite_on(book), out)


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_saved_state_that_is_damaged_or_of_another_run_is_not_gone_on_from(book, trained, tmp_path, capsys):
    ways = {
        "flipped": spoil,
        "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
        "empty": lambda path: path.write_bytes(b""),
        "other": lambda path: path.write_bytes(path.read_bytes().replace(b'"run_sha256": "', b'"run_sha256": "0', 1)),
    }
    for name, way in ways.items():
        out = tmp_path / name
        stop_at(book, out, 3)
        state = layout.state_path(out, MODEL)
        assert madyn.checking.check_dataset(out).faults == []
        way(state)
        (fault,) = madyn.checking.check_dataset(out).faults
        assert str(state) in fault
        capsys.readouterr()
        assert run_here(suite_on(book), out).trained == [MODEL]
        assert "the training begins anew at step 0" in capsys.readouterr().err
        assert contents(out) == contents(trained)
    out = tmp_path / "missing unit"
    stop_at(book, out, 3)
    layout.statistics_path(out, MODEL, 0).unlink()  # the state is of step 2: it would never be measured again
    assert run_here(suite_on(book), out).trained == [MODEL]
    assert contents(out) == contents(trained)


@pytest.mark.parametrize("name", ["tokens.npy", "tokenizer.json", "SHA256SUMS", "corpus.json"])
def test_tokens_and_tokenizer_are_held_against_their_hashes(book, trained, tmp_path, capsys, name):
    out = shutil.copytree(trained, tmp_path / "d")
    path = next(out.rglob(name))
    before = {p: p.read_bytes() for p in path.parent.iterdir()}
    path.write_bytes(b"{" if name == "corpus.json" else path.read_bytes().replace(b"1", b"2", 1) + b"\n")
    assert any(name in fault for fault in madyn.checking.check_dataset(out).faults)
    assert run_here(suite_on(book), out).already == [MODEL]
    assert name in capsys.readouterr().err
    assert {p: p.read_bytes() for p in path.parent.iterdir()} == before
    assert madyn.checking.check_dataset(out).faults == []


def test_a_tokenizer_that_cannot_be_made_again_is_asked_for(book, trained, tmp_path, monkeypatch):
    out = shutil.copytree(trained, tmp_path / "d")
    from madyn.lab import corpora

    real = corpora.train_tokenizer
    monkeypatch.setattr("madyn.lab.corpora.train_tokenizer", lambda documents, size: real(documents, size - 1))
    spoil(layout.tokenizer_folder(out) / "tokenizer.json")
    before = contents(out)
    with pytest.raises(DatasetError, match="it is another tokenizer: put the file back"):
        run_here(suite_on(book), out)
    assert contents(out) == before


def test_a_retry_takes_nothing_away_before_it_has_something_better(book, trained, tmp_path, monkeypatch):
    out = shutil.copytree(trained, tmp_path / "d")
    record = read_record(out, MODEL)
    assert record is not None
    write_record(out, MODEL, replace(record, complete=False, failure="RuntimeError: not enough memory"))
    before = contents(out)
    for fails in ("madyn.lab.blueprints.build_model", "madyn.lab.training.make_optimizer"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fails, lambda *_: (_ for _ in ()).throw(StorageError("the disk is full")))
            with pytest.raises(StorageError):
                run_here(suite_on(book), out, retry=True)
        assert contents(out) == before
    Path(book + ".gone").write_text(TEXT)
    missing = suite_on(book + ".gone")
    Path(book + ".gone").unlink()
    with pytest.raises(madyn.MadynError):
        run_here(missing, out, retry=True)
    assert contents(out) == before
    assert run_here(suite_on(book), out).failures
    assert run_here(suite_on(book), out, retry=True).trained == [MODEL]
    assert contents(out) == contents(trained)


def test_a_lab_trains_into_a_folder(book):
    with pytest.raises(UsageError, match="a lab trains into a folder"):
        run_suite(suite_on(book), "memory://shelf/d")


# One name, two models


def test_another_run_of_the_same_name_is_not_traced_into_the_first(run_folder, book, trained, tmp_path):
    probe = madyn.sweep.Probe(book, sequences=2, length=12)
    madyn.trace(run_folder, tmp_path / "d", probe=probe, steps=[0])
    moved = shutil.copytree(run_folder, tmp_path / "moved" / "tiny-net")
    assert madyn.trace(moved, tmp_path / "d", probe=probe, steps=[0, 1]).measured == [("tiny_net", 1)]
    said = "steps were measured from several places"
    assert any(said in remark for remark in madyn.checking.check_dataset(tmp_path / "d").remarks)
    other = tmp_path / "other" / "tiny-net"
    shutil.copytree(run_folder / "step1", other / "step0")
    shutil.copytree(run_folder / "step0", other / "step1")
    before = contents(tmp_path / "d")
    with pytest.raises(UsageError, match=r"as measured from .*step 0 .* has other weights: use another --name"):
        madyn.trace(other, tmp_path / "d", probe=probe)
    assert contents(tmp_path / "d") == before
    assert madyn.trace(other, tmp_path / "d", probe=probe, name="other").measured
    out = shutil.copytree(trained, tmp_path / "lab")
    with pytest.raises(UsageError, match="trained and measured there by a lab"):
        madyn.trace(run_folder, out, name=MODEL, probe=probe, steps=[0])


# Killed at each rename

KILLED = """
    import os, shutil, signal, sys
    from pathlib import Path
    tests, command, source, book, out, stride = sys.argv[1:]
    out, stride = Path(out), int(stride)
    sys.path.insert(0, tests)
    import test_writers
    from test_writers import COMMANDS, begin, contents
    work = COMMANDS[command]

    def attempt(root, die_at):
        # In a child: whether it died, of its own hand, before the rename of that number.
        child = os.fork()
        if child:
            status = os.waitpid(child, 0)[1]
            assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, (die_at, status)
            return os.WIFSIGNALED(status)
        made = 0
        def dying(call):
            def called(*arguments, **options):
                nonlocal made
                made += 1
                if made == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **options)
            return called
        os.replace, os.rename, os.link = dying(os.replace), dying(os.rename), dying(os.link)
        try:
            work(root, source, book)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    # Once in this process, so that no child has torch to import.
    begin(command, out / "first")
    work(out / "first", source, book)
    begin(command, out / "whole")
    assert not attempt(out / "whole", 0)
    expected, kills = contents(out / "whole"), 0
    number = 1
    begin(command, out / "killed")
    while attempt(out / "killed", number):
        kills += 1
        assert not attempt(out / "killed", 0)
        found = contents(out / "killed")
        assert found.keys() == expected.keys(), (number, found.keys() ^ expected.keys())
        differ = [name for name in found if found[name] != expected[name]]
        assert not differ, (number, differ)
        faults = test_writers.madyn.checking.check_dataset(out / "killed").faults
        assert not faults, (number, faults)
        shutil.rmtree(out / "killed")
        begin(command, out / "killed")
        number += stride
    print(kills)
"""


def begin(command: str, root: Path) -> None:
    """The dataset that a command is to work on, where it works on one."""
    if command in ("fit", "figures"):
        write_dataset(root, models=("pythia_14m",), steps=(0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000))


def _fit(root: Path, source: str, book: str) -> None:
    madyn.fit_dataset(root, hypotheses=["reparam", "step1"])


def _trace(root: Path, source: str, book: str) -> None:
    import torch

    torch.set_num_threads(1)
    madyn.trace(source, root, probe=madyn.sweep.Probe(book, sequences=2, length=12))


def _lab(root: Path, source: str, book: str) -> None:
    import torch

    torch.set_num_threads(1)
    run_here(suite_on(book), root, keep_weights=True)


def _figures(root: Path, source: str, book: str) -> None:
    drawing = madyn.draw_figures(root, jobs=1, dpi=20, only="*/series/*")
    assert not drawing.failed


COMMANDS = {"fit": _fit, "trace": _trace, "lab": _lab, "figures": _figures}


@pytest.mark.parametrize(
    ("command", "stride"),
    [
        *[("fit", 4), ("trace", 5), ("lab", 13), ("figures", 3)],
        *[pytest.param(command, 1, marks=pytest.mark.slow) for command in COMMANDS],
    ],
)
def test_killed_before_any_rename_a_rerun_gives_the_same_bytes(run_folder, book, tmp_path, command, stride):
    if not hasattr(os, "fork"):
        pytest.skip("no processes that begin as copies here")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), TESTS, command, run_folder, book, tmp_path, str(stride)],
        capture_output=True, text=True, timeout=1800,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    kills = int(done.stdout.splitlines()[-1])
    print(f"{command}: killed {kills} times")
    assert kills >= (2 if stride > 1 else 4)
