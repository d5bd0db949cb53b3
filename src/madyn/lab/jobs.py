"""One model of a suite: trained, and measured as it learns, in this process."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from madyn.dataset import layout, manifest
from madyn.dataset.files import storage_error
from madyn.dataset.lab_files import read_state_header
from madyn.dataset.locking import hold, place_of
from madyn.dataset.partial import making_folder
from madyn.dataset.training import TrainingRecord, hash_plan, read_record, write_record
from madyn.errors import DatasetError, MadynError, StorageError, UsageError, reason_of
from madyn.lab.corpora import Corpus
from madyn.lab.suites import LabSuite, Run
from madyn.settings import Probe, Settings
from madyn.sweep.claims import claim
from madyn.sweep.machine import versions
from madyn.terminal import note


@dataclass(frozen=True)
class Job:
    """One model to be trained, with all that is needed to do it in another process."""

    root: Path
    suite: LabSuite
    run: Run
    corpus: Corpus
    probe: Probe
    plan: dict[str, Any]
    threads: int
    device: str
    keep_weights: bool


def train_and_measure(job: Job, on_step: Callable[[int], None] = lambda step: None) -> str | None:
    """Train one model and measure it at the suite's steps, in this process; gives the reason where its run is at fault.

    Raises:
        StorageError: the dataset cannot be written, or was removed meanwhile.
        UsageError: the text is too short, or another process trains this model.
    """
    with alone_with(job.root, job.run.name) as still_mine:
        return _train_and_measure(job, on_step, still_mine)


def _train_and_measure(job: Job, on_step: Callable[[int], None], still_mine: Callable[[], bool]) -> str | None:
    from madyn.lab.blueprints import build_model
    from madyn.lab.training import DivergedError, mean_loss, train

    root, run, recipe, corpus = job.root, job.run, job.run.recipe, job.corpus
    vocabulary = corpus.vocab_size + recipe.registers
    model = build_model(run.blueprint, run.seed, vocabulary, recipe.positions, corpus.bos_token_id).to(job.device)
    record = read_record(root, run.name) or TrainingRecord(plan=job.plan, parameters=model.num_parameters())
    # A run that failed is made once more in place: what it measured gives way to what is measured anew, unit by unit.
    anew = record.failure is not None
    record = replace(record, failure=None, complete=False)
    losses = dict(record.losses)
    if not losses:
        write_record(root, run.name, record)  # first of all: it says whose the files are that a stopped run leaves
    if anew:
        layout.state_path(root, run.name).unlink(missing_ok=True)
    _refuse_early_state(job, losses)

    def on_every_step(step: int) -> None:
        if not still_mine():
            raise StorageError(f"{root}: removed as {run.name} was trained into it; nothing more is written")
        on_step(step)

    def on_stop(step: int, loss: float | None) -> None:
        on_every_step(step)
        if anew or not manifest.is_measured(root, run.name, step, run_sha256=record.run_sha256):
            _measure(job, model, step)
        if job.keep_weights:
            _keep(job, model, step)
        held_out = mean_loss(model, corpus.held_out(recipe), recipe)
        if not math.isfinite(held_out):
            raise DivergedError(f"the held-out loss is {held_out} at step {step}; a lower learning rate may help")
        losses[step] = {"train": loss, "held_out": held_out}
        write_record(root, run.name, replace(record, losses=losses))

    try:
        train(
            model,
            recipe,
            np.load(corpus.tokens, mmap_mode="r"),
            bos_token_id=corpus.bos_token_id,
            seed=run.seed,
            stop_at=frozenset(job.suite.measured_steps),
            on_stop=on_stop,
            state=layout.state_path(root, run.name),
            run_sha256=record.run_sha256,
            on_step=on_every_step,
            first_register=corpus.vocab_size,
        )
    except (StorageError, UsageError):
        raise
    except Exception as e:  # whatever one run does, it must not cost the others: it is recorded
        reason = reason_of(e)
        layout.state_path(root, run.name).unlink(missing_ok=True)
        write_record(root, run.name, replace(record, losses=losses, failure=reason))
        return reason
    write_record(root, run.name, replace(record, losses=losses, complete=True))
    return None


@contextmanager
def alone_with(root: Path, model: str) -> Iterator[Callable[[], bool]]:
    """Be the only process that trains a model while the block runs; gives a function that says whether it still is.

    It is no more where the folder was removed under it, with the lock in it.

    Raises:
        UsageError: another process trains it: one that an earlier lab left, perhaps.
        StorageError: the folder cannot be written.
    """
    path = layout.training_lock_path(root, model)
    with hold(path, remove=True) as mine:
        if not mine:
            raise UsageError(f"{in_training(root, model)}: wait for it, or end it")
        with suppress(OSError):
            path.write_text(str(os.getpid()))
        place = place_of(path)
        yield lambda: place_of(path) == place


def in_training(root: Path, model: str) -> str:
    """What to say of a model that another process trains."""
    try:
        process = f"process {int(layout.training_lock_path(root, model).read_text()[:20])}"
    except (OSError, ValueError):
        process = "another process"
    return f"{process} trains {model} in {root}"


def _refuse_early_state(job: Job, losses: Mapping[int, Any]) -> None:
    """Remove a saved state whose run lacks something from before: what was measured there, or its losses."""
    root, run, state = job.root, job.run, layout.state_path(job.root, job.run.name)
    try:
        header = read_state_header(state)
    except DatasetError:
        return  # none, or one that says by itself that it cannot be used
    run_sha256 = hash_plan(job.plan)
    for step in job.suite.measured_steps:
        if step < header.step and not (
            step in losses and manifest.is_measured(root, run.name, step, run_sha256=run_sha256)
        ):
            note(f"{run.name}: step {step} is not what this run measured; it is trained again from step 0")
            state.unlink(missing_ok=True)
            return


def _measure(job: Job, model: Any, step: int) -> None:
    """One unit of the dataset: what `trace` would measure of a checkpoint of this step."""
    from madyn.sweep.units import measure_loaded, write_measured

    unit = manifest.Unit(
        model=job.run.name,
        step=step,
        source=job.suite.name,
        revision=f"step{step}",
        versions=versions(),
        run_sha256=hash_plan(job.plan),
    )
    with claim(job.root, job.run.name, step, wait=True):
        try:
            sequences = job.corpus.probe(job.run.recipe)
            unit, result = measure_loaded(unit, model, sequences, job.probe, Settings(device=job.device))
            write_measured(job.root, unit, result, sequences, replace_old=True)
        except (StorageError, UsageError):
            raise
        except MadynError as e:
            manifest.write_failure(job.root, replace(unit, failure=str(e)))
            raise


def _keep(job: Job, model: Any, step: int) -> None:
    """Save a checkpoint whole, or not at all."""
    from madyn.lab.tokenizer import load_tokenizer

    final = job.root / "checkpoints" / job.run.name / f"step{step}"
    try:
        with making_folder(final, replace=True) as partial:
            model.save_pretrained(partial)
            load_tokenizer(layout.tokenizer_folder(job.root)).save_pretrained(partial)
    except Exception as e:  # safetensors has errors of its own for a full disk
        raise storage_error(final, e) from e
