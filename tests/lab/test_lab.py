"""Training is real, measured as it goes, repeatable byte for byte, and goes on from where it was stopped."""

import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import madyn
from madyn.checking import missing_units, read_records
from madyn.checkpoints import find_checkpoints
from madyn.dataset import layout
from madyn.errors import CheckpointError, ProbeMismatchError, StorageError, TextError, UsageError
from madyn.lab import LabSuite, Measuring, ModelEntry, Recipe, TrainingText, checkpoint_steps, run_suite
from madyn.lab.blueprints import build_model
from madyn.lab.corpora import prepare_corpus, probe_of
from madyn.lab.running import make_plan
from madyn.lab.training import train
from madyn.sweep import trace
from tiny import SENTENCES, TEXT

RECIPE = Recipe(steps=30, batch_size=4, length=16)
STEPS = [0, 1, 10, 20, 30]
ENTRY = ModelEntry(hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
WIDER = ModelEntry(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, mlp_ratio=2.0)
LLAMA = ModelEntry(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, rotary_pct=1.0, residual="sequential", norm="rmsnorm",
    activation="swiglu",
)  # fmt: skip


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text(TEXT)
    return str(path)


def suite_on(book, *entries, recipe=RECIPE, steps=STEPS, **measure):
    return LabSuite(
        name="test",
        recipe=recipe,
        text=TrainingText(source=book, vocab_size=300),
        measure=Measuring(source=book, steps=steps, sequences=3, loss_sequences=5, **measure),
        model=list(entries) or [ENTRY],
    )


@pytest.fixture(scope="module")
def trained(book, tmp_path_factory):
    """Three models of two classes, their checkpoints kept."""
    out = tmp_path_factory.mktemp("lab") / "out"
    report = run_suite(suite_on(book, ENTRY, WIDER, LLAMA), out, jobs=1, keep_weights=True)
    assert sorted(report.trained) == ["llama_2x16_h2_m64_s0", "neox_2x16_h2_m64_s0", "neox_3x24_h3_m48_s0"]
    assert not report.failures
    return out


def contents(root):
    """Every file of a dataset by its place, but for checkpoints and what begins with a point.

    That is what the lab keeps to go on, and what a process was writing when it was killed.
    """
    return {
        p.relative_to(root): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file()
        and p.relative_to(root).parts[0] != "checkpoints"
        and not any(part.startswith(".") for part in p.relative_to(root).parts)
    }


def weights(folder, step):
    return find_checkpoints(folder).by_step[step].model(torch.float32).state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_same_suite_gives_the_same_bytes(trained, book, tmp_path):
    """The second time in two processes at once, and in another order."""
    run_suite(suite_on(book, LLAMA, WIDER, ENTRY), tmp_path / "again", jobs=2)
    assert contents(tmp_path / "again") == contents(trained)


def test_measures_what_trace_measures_of_the_kept_checkpoints(trained, book, tmp_path):
    """And the same manifest, but for where the weights came from."""
    torch.set_num_threads(1)
    folders = sorted((trained / "checkpoints").iterdir())
    report = trace(folders, tmp_path / "traced", probe=probe_of(suite_on(book)))
    assert not report.failures
    for folder in folders:
        for step in STEPS:
            ours, theirs = (layout.statistics_path(root, folder.name, step) for root in (trained, report.path))
            assert ours.read_bytes() == theirs.read_bytes()
            units = [json.loads(layout.manifest_path(r, folder.name, step).read_text()) for r in (trained, report.path)]
            differ = {key for key in units[0] if units[0][key] != units[1][key]}
            assert differ == {"source", "weights_xxh3", "run_sha256", "seal"}


def test_a_record_says_how_a_model_was_trained_and_its_losses(trained):
    dataset = madyn.open_dataset(trained)
    record = dataset.training("neox_2x16_h2_m64_s0")
    assert record is not None
    assert record.complete
    assert record.failure is None
    assert record.plan["recipe"]["steps"] == 30
    assert record.plan["blueprint"]["intermediate_size"] == 64
    assert record.parameters == dataset.parameter_count("neox_2x16_h2_m64_s0")
    assert list(record.losses) == STEPS
    assert record.losses[0]["train"] is None
    assert record.losses[0]["held_out"] == pytest.approx(np.log(300), abs=0.1)
    held_out, learned = (
        [losses[name] or np.nan for losses in record.losses.values()] for name in ("held_out", "train")
    )
    assert held_out[-1] < held_out[0] - 1
    assert learned[-1] < learned[1] - 0.5
    assert madyn.checking.check_dataset(trained).faults == []


def test_keeps_no_weights_unless_asked(book, tmp_path):
    run_suite(suite_on(book), tmp_path / "out")
    left = [p for p in (tmp_path / "out").rglob("*") if p.suffix in (".pt", ".safetensors", ".bin")]
    assert left == []


def test_a_seed_gives_other_weights_and_other_batches(book, tmp_path):
    report = run_suite(suite_on(book, replace(ENTRY, seeds=[0, 1])), tmp_path / "out")
    dataset = report.open()
    first, second = (dataset.statistics(f"neox_2x16_h2_m64_s{seed}").values for seed in (0, 1))
    assert not np.array_equal(first[0], second[0])
    records = [dataset.training(model) for model in dataset]
    assert len({str(record and record.losses) for record in records}) == 2


@pytest.mark.parametrize("stop_at", [2, 13, 29])
def test_training_goes_on_to_the_same_weights(book, tmp_path, stop_at, monkeypatch):
    monkeypatch.setattr("madyn.lab.training._SECONDS_UNSAVED", -1.0)  # the state is saved at every step
    suite = suite_on(book)
    corpus = prepare_corpus(suite, tmp_path)
    blueprint = suite.runs()[0].blueprint

    def go(state, stop=None):
        model = build_model(blueprint, 0, corpus.vocab_size, 16, corpus.bos_token_id)
        seen = {}

        def on_step(step):
            if step == stop:
                raise StoppedError

        def on_stop(step, loss):
            seen[step] = loss

        arguments = {"bos_token_id": corpus.bos_token_id, "seed": 0, "stop_at": STEPS, "on_stop": on_stop}
        try:
            train(model, RECIPE, np.load(corpus.tokens), **arguments, state=state, on_step=on_step)
        except StoppedError:
            return {}, seen
        return model.state_dict(), seen

    whole, losses = go(tmp_path / "a.pt")
    _, before = go(tmp_path / "b.pt", stop_at)
    assert (tmp_path / "b.pt").exists()
    rest, after = go(tmp_path / "b.pt")
    assert not (tmp_path / "b.pt").exists()
    assert same(whole, rest)
    assert {**before, **after} == losses
    assert len(after) < len(losses)


def test_a_finished_suite_is_left_alone(trained, book, tmp_path):
    out = shutil.copytree(trained, tmp_path / "copy")
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    report = run_suite(suite_on(book, ENTRY, WIDER, LLAMA), out)
    assert len(report.already) == 3
    assert not report.trained
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before


def test_models_may_be_added_and_only_some_trained(trained, book, tmp_path):
    out = shutil.copytree(trained, tmp_path / "copy")
    more = ModelEntry(hidden_size=32, num_hidden_layers=1, num_attention_heads=1, name="wide")
    suite = suite_on(book, ENTRY, WIDER, LLAMA, more, replace(more, name="other"))
    report = run_suite(suite, out, models=["wide_s0"])
    assert report.trained == ["wide_s0"]
    assert not report.already
    with pytest.raises(UsageError, match="test has no model 'absent'; it has neox_2x16"):
        run_suite(suite, out, models=["absent"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": Recipe(steps=31, batch_size=4, length=16)}, "recipe was steps = 30, and is 31 now"),
        ({"recipe": replace(RECIPE, learning_rate=0.02)}, "learning_rate = 0.01, and is 0.02 now"),
        ({"steps": [0, 30]}, "its measure was steps"),
    ],
)
def test_a_changed_suite_is_refused_for_what_it_trained_before(trained, book, change, said):
    before = contents(trained)
    with pytest.raises(UsageError, match=said):
        run_suite(suite_on(book, **change), trained)
    with pytest.raises(UsageError, match="threads was 1, and is 2 now"):
        run_suite(suite_on(book), trained, threads=2)
    assert contents(trained) == before


def test_another_text_is_refused(trained, book, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("".join(SENTENCES[1:]))
    suite = suite_on(book)
    with pytest.raises(UsageError, match="learned from another text"):
        run_suite(replace(suite, text=replace(suite.text, source=str(other))), trained)
    with pytest.raises(ProbeMismatchError, match="was measured on the text"):
        run_suite(replace(suite, measure=replace(suite.measure, source=str(other))), trained)


def test_a_model_that_a_lab_did_not_train_is_not_trained_over(trained, book, tmp_path):
    out = shutil.copytree(trained, tmp_path / "copy")
    layout.training_path(out, "neox_2x16_h2_m64_s0").unlink()
    with pytest.raises(UsageError, match="holds a model neox_2x16_h2_m64_s0 that no lab has trained"):
        run_suite(suite_on(book), out)


def test_a_run_that_diverges_is_recorded_and_the_others_go_on(book, tmp_path):
    recipe = replace(RECIPE, learning_rate=1e30, clip=1e30, optimizer="sgd", warmup=0.3)
    fine = replace(ENTRY, seeds=[0])
    report = run_suite(suite_on(book, fine, recipe=recipe), tmp_path / "out")
    assert list(report.failures) == ["neox_2x16_h2_m64_s0"]
    assert "not finite" in report.failures["neox_2x16_h2_m64_s0"] or "nan" in report.failures["neox_2x16_h2_m64_s0"]
    record = madyn.open_dataset(tmp_path / "out").training("neox_2x16_h2_m64_s0")
    assert record is not None
    assert record.failure
    assert not record.complete
    again = run_suite(suite_on(book, fine, recipe=recipe), tmp_path / "out")
    assert again.failures == report.failures
    assert not again.trained
    before = contents(tmp_path / "out")
    once_more = run_suite(suite_on(book, fine, recipe=recipe), tmp_path / "out", retry=True)
    assert once_more.failures == report.failures
    assert contents(tmp_path / "out") == before
    said = madyn.checking.check_dataset(tmp_path / "out").faults
    assert any("neox_2x16_h2_m64_s0 failed: " in fault for fault in said)


def test_whatever_one_run_does_it_does_not_cost_the_others(book, tmp_path, monkeypatch):
    """An error that nobody thought of, in a model's own code."""
    from madyn.lab import jobs

    suite = suite_on(book)
    corpus = prepare_corpus(suite, tmp_path)
    run, plan = suite.runs()[0], make_plan(suite, suite.runs()[0], corpus, 1, "cpu")
    job = jobs.Job(tmp_path, suite, run, corpus, probe_of(suite), plan, 1, "cpu", False)

    def fails_later(step):
        if step == 15:
            raise RuntimeError("not enough memory")

    assert jobs.train_and_measure(job, fails_later) == "RuntimeError: not enough memory"
    report = run_suite(suite, tmp_path)
    assert report.failures == {run.name: "RuntimeError: not enough memory"}
    assert run_suite(suite, tmp_path, retry=True).trained == [run.name]
    assert madyn.checking.check_dataset(tmp_path).faults == []


def test_a_run_that_was_stopped_before_anything_was_recorded_goes_on(trained, book, tmp_path):
    from madyn.lab import jobs

    suite = suite_on(book)
    corpus = prepare_corpus(suite, tmp_path)
    run, plan = suite.runs()[0], make_plan(suite, suite.runs()[0], corpus, 1, "cpu")
    job = jobs.Job(tmp_path, suite, run, corpus, probe_of(suite), plan, 1, "cpu", False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("madyn.lab.training.mean_loss", stop_here)
        with pytest.raises(SystemExit):
            jobs.train_and_measure(job)
    assert layout.statistics_path(tmp_path, run.name, 0).exists()
    assert any("training stopped at step 0" in line for line in missing_units(read_records(tmp_path, run.name)))
    run_suite(suite, tmp_path)
    ours = layout.statistics_path(tmp_path, run.name, 30)
    assert ours.read_bytes() == layout.statistics_path(trained, run.name, 30).read_bytes()


def stop_here(*_):
    raise SystemExit  # as a worker that is told to leave does


def test_one_lab_at_a_time_in_a_folder(book, tmp_path):
    from filelock import FileLock

    (tmp_path / ".locks").mkdir()
    with FileLock(tmp_path / ".locks" / ".lab"), pytest.raises(UsageError, match="another process trains in"):
        run_suite(suite_on(book), tmp_path)


def test_a_dataset_without_what_the_lab_keeps_goes_on_and_keeps_its_tokenizer(trained, book, tmp_path):
    out = shutil.copytree(trained, tmp_path / "copy", ignore=shutil.ignore_patterns(".lab"))
    before = contents(out)
    suite = suite_on(book, ENTRY, WIDER, LLAMA)
    with pytest.raises(UsageError, match="learned from another text or tokenizer"):
        run_suite(replace(suite, text=replace(suite.text, vocab_size=280)), out)
    assert contents(out) == before
    assert len(run_suite(suite, out).already) == 3
    assert contents(out) == before


def test_text_too_short_and_folders_that_cannot_be(book, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("a few words only")
    suite = suite_on(book)
    with pytest.raises(UsageError, match="a sequence needs 16"):
        run_suite(replace(suite, text=replace(suite.text, source=str(short))), tmp_path / "a", jobs=1)
    with pytest.raises(TextError, match="fill 1 sequences of 16, and 3 were asked for"):
        run_suite(replace(suite, measure=replace(suite.measure, source=str(short))), tmp_path / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        run_suite(suite, tmp_path / "file" / "a")
    with pytest.raises(CheckpointError, match="tokenizer nowhere"):
        run_suite(replace(suite, text=replace(suite.text, tokenizer="nowhere")), tmp_path / "c")
    for jobs, threads in ((0, 1), (1, 0)):
        with pytest.raises(UsageError, match="from 1 to 1024"):
            run_suite(suite, tmp_path / "d", jobs=jobs, threads=threads)


def test_a_given_tokenizer_is_used(trained, book, tmp_path):
    suite = suite_on(book)
    given = str(layout.tokenizer_folder(trained))
    run_suite(replace(suite, text=replace(suite.text, tokenizer=given)), tmp_path / "out")
    ours = layout.statistics_path(tmp_path / "out", "neox_2x16_h2_m64_s0", 30)
    assert ours.read_bytes() == layout.statistics_path(trained, "neox_2x16_h2_m64_s0", 30).read_bytes()


# The kernel refuses to let a file grow, as it does on a full disk.
_FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_lab import STEPS, StorageError, prepare_corpus, probe_of, suite_on
from madyn.lab.jobs import Job, train_and_measure
from madyn.lab.running import make_plan
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
suite, root = suite_on(sys.argv[3]), Path(sys.argv[2])
corpus = prepare_corpus(suite, root)
plan = make_plan(suite, suite.runs()[0], corpus, 1, "cpu")
resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, resource.RLIM_INFINITY))
try:
    train_and_measure(Job(root, suite, suite.runs()[0], corpus, probe_of(suite), plan, 1, "cpu", False))
except StorageError as e:
    print(e)
"""


def test_a_full_disk_stops_training_and_loses_nothing(trained, book, tmp_path):
    command = [sys.executable, "-c", _FULL_DISK, str(Path(__file__).parent), str(tmp_path / "run"), book]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0].startswith(f"cannot write {tmp_path / 'run' / '.lab' / 'neox_2x16_h2_m64_s0.pt'}: File too large")
    assert layout.statistics_path(tmp_path / "run", "neox_2x16_h2_m64_s0", 0).exists()
    run_suite(suite_on(book), tmp_path / "run")
    ours = layout.statistics_path(tmp_path / "run", "neox_2x16_h2_m64_s0", 30)
    assert ours.read_bytes() == layout.statistics_path(trained, "neox_2x16_h2_m64_s0", 30).read_bytes()


_INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
sys.path.insert(0, sys.argv[1])
from test_lab import ENTRY, LONG, replace, run_suite, suite_on
if __name__ == "__main__":
    suite = suite_on(sys.argv[3], replace(ENTRY, seeds=[0, 1, 2]), recipe=LONG, steps=[0, 50, 900])
    run_suite(suite, sys.argv[2], jobs=2)
"""
LONG = Recipe(steps=900, batch_size=4, length=16)


def kill_worker(process):
    children = psutil.Process(process.pid).children()
    next(c for c in children if "spawn_main" in " ".join(c.cmdline())).kill()


def kill_all(process):
    for one in [*psutil.Process(process.pid).children(recursive=True), process]:
        one.kill()


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (lambda process: process.send_signal(signal.SIGINT), "KeyboardInterrupt"),
        (kill_worker, "a process that trains a model ended early"),
        (kill_all, ""),
    ],
    ids=["interrupt", "worker killed", "all killed"],
)
def test_a_suite_that_is_stopped_goes_on_to_the_same_bytes(book, tmp_path, end, says):
    (tmp_path / "suite.py").write_text(_INTERRUPTED)
    out = tmp_path / "out"
    command = [sys.executable, str(tmp_path / "suite.py"), str(Path(__file__).parent), str(out), book]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not layout.statistics_path(out, "neox_2x16_h2_m64_s0", 50).exists() and process.poll() is None:
        time.sleep(0.05)
    end(process)
    said = process.communicate(timeout=120)[1]
    assert process.returncode != 0
    assert says in said
    assert not layout.statistics_path(out, "neox_2x16_h2_m64_s2", 900).exists()
    subprocess.run(command, check=True)
    for seed in range(3):
        assert list(layout.statistics_files(out, f"neox_2x16_h2_m64_s{seed}")) == [0, 50, 900]
    suite = suite_on(book, replace(ENTRY, seeds=[0, 1, 2]), recipe=LONG, steps=[0, 50, 900])
    run_suite(suite, tmp_path / "whole", jobs=2)
    assert contents(out) == contents(tmp_path / "whole")


def test_the_command_trains_and_says_what_it_did(book, tmp_path, run):
    file = tmp_path / "suite.toml"
    file.write_text(
        f"""
name = "by hand"
recipe = {{ steps = 4, batch_size = 2, length = 16 }}
text = {{ source = {book!r}, vocab_size = 300 }}
measure = {{ source = {book!r}, sequences = 2, loss_sequences = 2 }}
model = [
  {{ hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2 }},
  {{ hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 2 }},
  {{ hidden_size = 24, num_hidden_layers = 3, num_attention_heads = 3 }},
]
"""
    )
    code, out, _ = run("lab", file, "--dry-run")
    assert code == 0
    assert "neox_2x32_h2_m128_s0" in out
    assert "the largest correlation" in out
    assert not (tmp_path / "out").exists()
    code, out, _ = run("lab", file, "--out", tmp_path / "out", "--model", "neox_1x16_h2_m64_s0")
    assert code == 0
    assert "1 trained, 0 complete before, 0 failed" in out
    code, out, _ = run("lab", file, "--out", tmp_path / "out")
    assert "2 trained, 1 complete before, 0 failed" in out
    code, _, err = run("lab", file)
    assert (code, "--out is missing" in err) == (2, True)


def test_the_learning_rate_rises_and_falls():
    recipe = Recipe(steps=1000)
    rates = [recipe.rate(step) for step in range(1001)]
    assert max(rates) == rates[9] == recipe.learning_rate
    assert rates[0] == pytest.approx(recipe.learning_rate / 10)
    assert rates[1000] == pytest.approx(recipe.learning_rate * 0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert Recipe(steps=1000, schedule="constant").rate(700) == recipe.learning_rate
    assert Recipe(steps=1000, schedule="linear").rate(505) == pytest.approx(recipe.learning_rate * 0.55, rel=1e-3)


@pytest.mark.parametrize(("total", "count"), [(30, 5), (400, 19), (2000, 30), (1, 2), (143000, 37)])
def test_checkpoint_steps(total, count):
    steps = checkpoint_steps(total, count)
    assert steps[0] == 0
    assert steps[-1] == total
    assert steps == sorted(set(steps))
    assert len(steps) <= count + 3
