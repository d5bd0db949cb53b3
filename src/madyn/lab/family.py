"""Training a family: models of several shapes on one text, a few at a time, each in a process with its own cores."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from madyn.architecture import Architecture
from madyn.dataset.files import read_json, storage_error, write_json
from madyn.errors import UsageError
from madyn.lab.tokenizer import load_tokenizer, train_tokenizer
from madyn.lab.training import Recipe, claim_folder, is_complete, train
from madyn.terminal import leave_interrupts_to_parent, progress_display
from madyn.text import BLANK_LINE, read_text, tokenize


@dataclass(frozen=True)
class _Job:
    name: str
    folder: Path
    architecture: Architecture
    recipe: Recipe
    corpus: Path
    save_at: tuple[int, ...]
    threads: int


def train_family(
    models: Mapping[Path, Architecture],
    recipe: Recipe,
    *,
    corpus: Path,
    text: str = "stdlib#train",
    documents: int | None = None,
    save_at: Sequence[int],
    at_once: int | None = None,
) -> None:
    """Train models, or go on training them.

    Args:
        models: the folder of each model's checkpoints, and its shape. Their `vocab_size` is that of the tokenizer.
        documents: how many are drawn from the text; all if None.
        corpus: where the tokenizer and the tokens of the text are kept, made if needed.
        save_at: the steps to save at.
        at_once: how many models are trained at the same time, each with an equal share of the cores; one a core by
            default. The share is part of what makes results repeatable.

    Raises:
        UsageError, StorageError, TextError: as `train` and `read_text` raise them.
    """
    _prepare_corpus(corpus, text, documents, vocab_size=next(iter(models.values())).vocab_size)
    for folder, shape in models.items():
        claim_folder(folder, shape, recipe)
    cores = os.cpu_count() or 1
    at_once = at_once or cores
    threads = max(1, cores // at_once)
    jobs = [
        _Job(folder.name, folder, shape, recipe, corpus, tuple(save_at), threads)
        for folder, shape in models.items()
        if not is_complete(folder, recipe)
    ]
    if not jobs:
        return
    # The largest first, so that no core is left alone with one at the end.
    jobs.sort(key=lambda job: -job.architecture.num_parameters * job.architecture.num_hidden_layers)
    context = multiprocessing.get_context("spawn")
    reports, stop = context.Queue(), context.Event()
    with (
        progress_display() as progress,
        ProcessPoolExecutor(min(at_once, len(jobs)), context, _start_worker, (reports, stop)) as pool,
    ):
        bars = {job.name: progress.add_task(f"training {job.name}", total=recipe.steps) for job in jobs}
        futures = [pool.submit(_run, job) for job in jobs]
        try:
            pending = set(futures)
            while pending:
                _show(reports, progress, bars)
                done, pending = wait(pending, timeout=0.3, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            _show(reports, progress, bars)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _show(reports: Any, progress: Any, bars: Mapping[str, Any]) -> None:
    while True:
        try:
            name, step = reports.get_nowait()
        except queue.Empty:
            return
        progress.update(bars[name], completed=step)


def _prepare_corpus(corpus: Path, text: str, documents: int | None, vocab_size: int) -> None:
    """Train the tokenizer and tokenise the text, once; every model's process then reads the same file."""
    read = read_text(text, documents)
    ours = {"text": text, "documents": len(read.documents), "sha256": read.sha256, "vocab_size": vocab_size}
    record = corpus / "corpus.json"
    if record.exists() and read_json(record) != ours:
        raise UsageError(f"{corpus} holds another text or vocabulary (see {record.name}); choose another folder")
    if record.exists():
        return
    tokenizer = train_tokenizer(read.documents, vocab_size)
    try:
        corpus.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(corpus)
        ids = np.fromiter((i for d in read.documents for i in tokenize(d + BLANK_LINE, tokenizer)), dtype=np.uint16)
        partial = corpus / ".tokens.npy"
        np.save(partial, ids)
        partial.replace(corpus / "tokens.npy")
    except OSError as e:
        raise storage_error(corpus, e) from e
    write_json(record, ours)  # last: it marks the corpus complete


# What a worker process is given when it starts: where to report its steps, and the event that tells it to stop.
_worker: dict[str, Any] = {}


def _start_worker(reports: Any, stop: Any) -> None:
    leave_interrupts_to_parent()
    _worker.update(reports=reports, stop=stop)


class _StoppedError(Exception):
    """The parent has stopped: another model failed, or the user pressed Ctrl-C."""


def _run(job: _Job) -> None:
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # one for every checkpoint written
    torch.set_num_threads(job.threads)
    tokens = np.load(job.corpus / "tokens.npy", mmap_mode="r")

    def report(step: int) -> None:
        if _worker["stop"].is_set():
            raise _StoppedError
        if step % 10 == 0 or step == job.recipe.steps:
            _worker["reports"].put((job.name, step))

    tokenizer = load_tokenizer(job.corpus)
    train(job.architecture, job.recipe, tokens, tokenizer, job.folder, job.save_at, report)
