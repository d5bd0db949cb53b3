"""Running a suite: its models trained and measured into a dataset, several at once, each in a process of its own.

A model's measured steps are units of the dataset like those of a sweep, and a unit that is there is not measured
again. A model whose run is at fault (its loss is not finite) is recorded, and the others go on; only what would spoil
every model (no space, another text) stops the suite.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from madyn.dataset import Dataset, layout, manifest, open_dataset
from madyn.dataset.files import is_local, root_path
from madyn.dataset.leftovers import sweep
from madyn.dataset.locking import hold, training_alone
from madyn.dataset.training import TrainingRecord, read_record
from madyn.errors import MOST_WORKERS, MadynError, UsageError, check_range, needs_extra
from madyn.lab.corpora import Corpus, prepare_corpus, probe_of
from madyn.lab.jobs import Job, in_training, train_and_measure
from madyn.lab.suites import LabSuite, Run, read_suite
from madyn.processes import DiedError, Workers
from madyn.sweep.machine import resolve_device
from madyn.terminal import counted, few, note, progress_display


@dataclass(frozen=True)
class LabReport:
    """What a run of a suite did, by the models' names: those trained now, those that were complete, and the failures
    with their reasons."""

    path: Path
    trained: list[str] = field(default_factory=list)
    already: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"<madyn LabReport: {self.path}\n {len(self.trained)} trained, {len(self.already)} complete before, "
            f"{len(self.failures)} failed: {few((*self.trained, *self.already, *self.failures))}\n "
            "trained, already, failures, open()>"
        )

    def open(self) -> Dataset:
        """The dataset that was written to."""
        return open_dataset(self.path)


@needs_extra
def run_suite(
    suite: LabSuite | str | Path,
    out: str | Path,
    *,
    models: Sequence[str] | None = None,
    jobs: int | None = None,
    threads: int = 1,
    device: str = "cpu",
    keep_weights: bool = False,
    retry: bool = False,
) -> LabReport:
    """Train the models of a suite, measuring them as they go, or go on with it.

    Args:
        suite: a suite file, the name of a shipped suite, or a suite.
        out: the dataset's folder. Models that are complete in it are passed over; one that was stopped goes on from its
            last saved state.
        models: only these, by their names.
        jobs: how many models are trained at the same time; by default as many as the cores allow, and one on CUDA.
        threads: of each; part of what makes results repeatable.
        device: a torch device.
        keep_weights: save a checkpoint at every step that is measured from now on, as `out/checkpoints/MODEL/stepN`, to
            trace or to use.
        retry: train models that failed before once more, from the start. What they measured stays until it is measured
            anew.

    Returns:
        what was trained, what was there already, and what failed.

    Raises:
        UsageError: the suite cannot mean anything, or the folder holds a model of the same name that was trained in
            another way, or another process trains in it.
        ProbeMismatchError: the dataset was measured on another text.
        TextError, StorageError: a text cannot be read, or the dataset written.
        MadynError: a process ended early.

    What trains is not run with the other examples; the lab's tests do.

    >>> from tempfile import mkdtemp
    >>> import madyn
    >>> from madyn.lab import LabSuite, ModelEntry, Recipe
    >>> entry = ModelEntry(hidden_size=64, num_hidden_layers=2, num_attention_heads=2)
    >>> suite = LabSuite(name="one", recipe=Recipe(steps=100, batch_size=8, length=64), model=[entry])
    >>> report = madyn.run_suite(suite, mkdtemp())  # doctest: +SKIP
    >>> report.open().trajectories(report.trained[0], "ratio")  # doctest: +SKIP
    """
    suite = suite if isinstance(suite, LabSuite) else read_suite(suite)
    root, device = root_path(out), resolve_device(device)
    at_once = models_at_once(jobs, threads, device)
    runs = select_runs(suite, models)
    if keep_weights and (with_registers := [run.name for run in runs if run.recipe.registers]):
        raise UsageError(
            f"the weights of {few(with_registers)} cannot be kept: a checkpoint does not say that registers go before "
            "its text, and whoever traced it would measure another model; train the others alone with --model"
        )
    if not is_local(root):
        raise UsageError(f"{out}: a lab trains into a folder of this machine")
    with training_alone(root):
        _refuse_left_training(root)
        sweep(root)
        return _run_in(root, suite, runs, at_once, threads, device, keep_weights, retry)


def _run_in(
    root: Path,
    suite: LabSuite,
    runs: Sequence[Run],
    at_once: int,
    threads: int,
    device: str,
    keep_weights: bool,
    retry: bool,
) -> LabReport:
    for run in runs:
        for path in layout.paths_of_lab(root, run.name):
            layout.inside(root, path)
    corpus = prepare_corpus(suite, root)
    todo = []
    report = LabReport(root)
    plans = [make_plan(suite, run, corpus, threads, device) for run in runs]
    records = [_own_record(root, run.name, plan) for run, plan in zip(runs, plans, strict=True)]
    for run, plan, record in zip(runs, plans, records, strict=True):
        if record is not None and record.failure and not retry:
            report.failures[run.name] = record.failure
        elif record is not None and record.complete and _is_whole(root, run, suite, record):
            report.already.append(run.name)
        else:
            probe = probe_of(suite, run.recipe)
            todo.append(Job(root, suite, run, corpus, probe, plan, threads, device, keep_weights))
    if todo:
        _run_all(todo, min(at_once, len(todo)), report)
    return report


def _refuse_left_training(root: Path) -> None:
    """Refuse a folder in which a process still trains that a lab left when it was killed."""
    for path in sorted(layout.inside(root, layout.lab_folder(root)).glob("*.lock")):
        with hold(path, remove=True) as free:
            if not free:
                raise UsageError(f"{in_training(root, path.stem)}, left by an earlier lab: end it, or wait for it")


def _is_whole(root: Path, run: Run, suite: LabSuite, record: TrainingRecord) -> bool:
    """Whether all that a complete run measured is there as it was measured."""
    for step in suite.measured_steps:
        if step not in record.losses or not manifest.is_measured(root, run.name, step, run_sha256=record.run_sha256):
            note(f"{run.name}: step {step} is not there as it was measured; it is trained again, and the rest stays")
            return False
    return True


def models_at_once(jobs: int | None, threads: int, device: str) -> int:
    """How many models are trained at the same time. Raises UsageError for a number that cannot be."""
    for name, value in (("threads", threads), ("jobs", jobs)):
        if value is not None:
            check_range(name, value, 1, MOST_WORKERS)
    return jobs or (1 if device.startswith("cuda") else max(1, (os.cpu_count() or 1) // threads))


def select_runs(suite: LabSuite, models: Sequence[str] | None) -> list[Run]:
    """The runs of a suite, or those asked for. Raises UsageError for a name that it has not."""
    runs = suite.runs()
    known = {run.name: run for run in runs}
    unknown = [name for name in models or [] if name not in known]
    if unknown:
        raise UsageError(f"{suite.name} has no model {unknown[0]!r}; it has {few(known)}")
    return [known[name] for name in dict.fromkeys(models)] if models else runs


def make_plan(suite: LabSuite, run: Run, corpus: Corpus, threads: int, device: str) -> dict[str, Any]:
    """All that determines a run: what a resumed one must agree with."""
    return {
        "suite": suite.name,
        "blueprint": run.blueprint.to_dict(),
        "seed": run.seed,
        "recipe": run.recipe.to_dict(),
        "text": corpus.record,
        "measure": {**asdict(suite.measure), "steps": suite.measured_steps},
        "threads": threads,
        "device": device,
    }


def _own_record(root: Path, model: str, plan: Mapping[str, Any]) -> TrainingRecord | None:
    """What the folder holds of a model, if that was trained in the same way."""
    layout.refuse_twin(root, model)
    record = read_record(root, model)
    if record is None:
        if layout.statistics_files(root, model):
            raise UsageError(f"{root} holds a model {model} that no lab has trained; use another --out")
        return None
    changed = [key for key in plan if key != "suite" and record.plan.get(key) != plan[key]]
    if changed:
        key = changed[0]
        raise UsageError(
            f"{root} holds {model}, trained in another way: its {key} was "
            f"{_difference(record.plan.get(key), plan[key])}; use another --out, or the suite file as it was"
        )
    return record


def _difference(was: Any, is_now: Any) -> str:
    """The first part that differs, so that a long plan is not printed whole."""
    if isinstance(was, dict) and isinstance(is_now, dict):
        key = next(k for k in {**was, **is_now} if was.get(k) != is_now.get(k))
        return f"{key} = {was.get(key)!r}, and is {is_now.get(key)!r} now"
    return f"{was!r}, and is {is_now!r} now"


def _run_all(todo: list[Job], at_once: int, report: LabReport) -> None:
    # The slowest first, so that no core is left alone with one at the end.
    order = sorted(todo, key=lambda job: -training_flops(job.run, job.suite, job.corpus.vocab_size))
    weight = {job.run.name: training_flops(job.run, job.suite, job.corpus.vocab_size) for job in order}
    steps = order[0].suite.recipe.steps
    reports = get_context("spawn").Queue()
    with progress_display(weighted=True) as progress, _advised(), Workers(at_once, _start_worker, (reports,)) as pool:
        progress.console.print(f"{counted(len(todo), 'model')} to train, {steps} steps each, {at_once} at a time")
        bar = progress.add_task("training", total=sum(weight.values()))
        reached = dict.fromkeys(weight, 0)
        futures = {pool.submit(_run_job, job): job.run.name for job in order}

        def show() -> None:
            for name, step in _drain(reports):
                reached[name] = step
            share = {name: weight[name] * step / steps for name, step in reached.items()}
            running = [f"{name} {step}" for name, step in reached.items() if 0 < step < steps]
            ended = len(report.trained) + sum(name in report.failures for name in weight)
            progress.update(
                bar, completed=sum(share.values()), description=f"{ended} of {len(todo)} ended; {', '.join(running)}"
            )

        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=0.3, return_when=FIRST_EXCEPTION)
            for future in done:
                name, failure = futures[future], future.result()
                reached[name] = steps
                if failure is None:
                    report.trained.append(name)
                else:
                    report.failures[name] = failure
                    progress.console.print(f"{name} failed: {failure}")
            show()


@contextmanager
def _advised() -> Iterator[None]:
    """Say what to do where a worker died."""
    try:
        yield
    except DiedError as e:
        raise MadynError(
            "a process that trains a model ended early: if memory ran out, use fewer jobs. What is written stays, and "
            "the same call goes on from it"
        ) from e


def training_flops(run: Run, suite: LabSuite, vocab_size: int) -> float:
    """Floating point operations of the whole training of a model.

    6 for each weight of a matrix and token, and 12 L d S a token for attention's products (Chowdhery et al. 2022, arXiv
    2204.02311, appendix B).
    """
    b, recipe = run.blueprint, run.recipe
    mlp = (3 if b.activation == "swiglu" else 2) * b.hidden_size * b.mlp_width
    weights = b.num_hidden_layers * (4 * b.hidden_size**2 + mlp) + vocab_size * b.hidden_size
    token = 6 * weights + 12 * b.num_hidden_layers * b.hidden_size * recipe.length
    return float(token) * recipe.steps * recipe.batch_size * recipe.positions


def _drain(reports: Any) -> list[tuple[str, int]]:
    found = []
    while True:
        try:
            found.append(reports.get_nowait())
        except queue.Empty:
            return found


# What a worker process is given when it starts: where to report its steps.
_worker: dict[str, Any] = {}


def _start_worker(reports: Any) -> None:
    _worker.update(reports=reports)


def _run_job(job: Job) -> str | None:
    def on_step(step: int) -> None:
        if step % 10 == 0:
            _worker["reports"].put((job.run.name, step))

    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # one for every checkpoint written
    torch.set_num_threads(job.threads)
    return train_and_measure(job, on_step)
