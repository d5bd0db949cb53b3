"""One model of a suite: trained, and measured as it learns, in this process."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from madyn.dataset import layout, manifest
from madyn.dataset.files import storage_error
from madyn.dataset.training import TrainingRecord, read_record, write_record
from madyn.errors import MadynError, StorageError, UsageError
from madyn.lab.corpora import Corpus
from madyn.lab.suites import LabSuite, Run
from madyn.sweep.settings import Probe, Settings, versions


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
        StorageError: the dataset cannot be written.
        UsageError: the text is too short.
    """
    from madyn.lab.blueprints import build_model
    from madyn.lab.training import DivergedError, mean_loss, train

    root, run, recipe, corpus = job.root, job.run, job.suite.recipe, job.corpus
    model = build_model(run.blueprint, run.seed, corpus.vocab_size, recipe.length, corpus.bos_token_id).to(job.device)
    record = read_record(root, run.name) or TrainingRecord(plan=job.plan, parameters=model.num_parameters())
    losses = dict(record.losses)
    if not losses:
        write_record(root, run.name, record)  # first of all: it says whose the files are that a stopped run leaves

    def on_stop(step: int, loss: float | None) -> None:
        _measure(job, model, step)
        if job.keep_weights:
            _keep(job, model, step)
        held_out = mean_loss(model, corpus.held_out)
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
            state=_state(root, run.name),
            on_step=on_step,
        )
    except (StorageError, UsageError):
        raise
    except Exception as e:  # whatever one run does, it must not cost the others: it is recorded
        reason = str(e) if isinstance(e, MadynError) else f"{type(e).__name__}: {e}"
        write_record(root, run.name, replace(record, losses=losses, failure=reason))
        _state(root, run.name).unlink(missing_ok=True)
        return reason
    write_record(root, run.name, replace(record, losses=losses, complete=True))
    return None


def remove_model(root: Path, model: str) -> None:
    """Remove all that was measured and recorded of a model, the record last: it says whose the files are."""
    for folder in (layout.statistics_folder(root, model).parent, *layout.folders_of_units(root, model)):
        shutil.rmtree(folder, ignore_errors=True)
    _state(root, model).unlink(missing_ok=True)
    layout.training_path(root, model).unlink(missing_ok=True)


def _state(root: Path, model: str) -> Path:
    return layout.lab_folder(root) / f"{model}.pt"


def _measure(job: Job, model: Any, step: int) -> None:
    """One unit of the dataset: what `trace` would measure of a checkpoint of this step."""
    from madyn.sweep.units import measure_loaded, write_measured

    if layout.statistics_path(job.root, job.run.name, step).exists():
        return
    unit = manifest.Unit(
        model=job.run.name, step=step, source=job.suite.name, revision=f"step{step}", versions=versions()
    )
    try:
        unit, result = measure_loaded(unit, model, job.corpus.probe, job.probe, Settings(device=job.device))
        write_measured(job.root, unit, result, job.corpus.probe)
    except (StorageError, UsageError):
        raise
    except MadynError as e:
        manifest.write_unit(job.root, replace(unit, failure=str(e)))
        raise


def _keep(job: Job, model: Any, step: int) -> None:
    """Save a checkpoint whole, or not at all."""
    from madyn.lab.tokenizer import load_tokenizer

    final = job.root / "checkpoints" / job.run.name / f"step{step}"
    partial = final.with_name(f".step{step}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        model.save_pretrained(partial)
        load_tokenizer(layout.tokenizer_folder(job.root)).save_pretrained(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    except Exception as e:  # safetensors has errors of its own for a full disk
        raise storage_error(final, e) from e
