"""Targets that are no files of a dataset: texts, suites, saved predictors, configs, records, pictures, GGUF files."""

from __future__ import annotations

import functools
import gzip
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Calls = Mapping[str, Callable[[], Any]]


def make_texts(root: Path) -> None:
    documents = [f"document {n}: the quick brown fox, é, 模型" for n in range(30)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in documents)
    (root / "a.jsonl").write_text(lines)
    (root / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    (root / "c.txt").write_text("\n\n".join(documents))
    (root / "d.txt").write_bytes("\n\n".join(documents).encode("utf-16"))
    (root / "e.txt.gz").write_bytes(gzip.compress("\n".join(documents).encode(), mtime=0))


def text_calls(root: Path, file: Path) -> Calls:
    from madyn.text import read_text

    return {"read": lambda: read_text(str(file), 10), "held out": lambda: read_text(f"{file}#held-out", None)}


def make_suites(root: Path) -> None:
    (root / "given.toml").write_text(
        'name = "a"\nrecipe = { steps = 40, batch_size = 2, length = 16, learning_rate = 1e-2 }\n'
        'text = { source = "stdlib", vocab_size = 300, seed = 3 }\n'
        'measure = { source = "stdlib", steps = [0, 10, 40], sequences = 2, loss_sequences = 2 }\n'
        "[[model]]\nhidden_size = 16\nnum_hidden_layers = 2\nnum_attention_heads = 2\nseeds = [0, 1]\n"
        '[[model]]\nhidden_size = 24\nnum_hidden_layers = 3\nnum_attention_heads = 3\nmlp_ratio = 2.0\nname = "wide"\n'
    )
    (root / "drawn.toml").write_text(
        'name = "b"\n[recipe]\nsteps = 100\n[design]\ncount = 3\nseed = 1\nrepeated = 1\nrepeats = 2\n'
        "[design.factors]\nhidden_size = [16, 32]\nnum_hidden_layers = [1, 2, 3]\n"
        '[design.fixed]\nnum_attention_heads = 2\nresidual = "sequential"\n'
    )


def suite_calls(root: Path, file: Path) -> Calls:
    from madyn.lab.suites import read_suite

    def runs() -> Any:
        suite = read_suite(file)
        return suite.runs(), suite.measured_steps, repr(suite)

    return {"runs": runs}


def make_predictors(root: Path) -> None:
    import madyn
    from tiny import write_family

    if not _PREDICTORS:
        _PREDICTORS.append(Path(tempfile.mkdtemp(prefix="madyn-fuzz-")))
        write_family(_PREDICTORS[0] / "family", count=8, repeated=2, locations=False)
        for approach in ("nearest", "gaussian_process"):
            predictor = madyn.Predictor(approach).fit(_PREDICTORS[0] / "family")
            predictor.save(_PREDICTORS[0] / f"{approach}.json")
    for file in _PREDICTORS[0].glob("*.json"):
        shutil.copy(file, root)


_PREDICTORS: list[Path] = []


def predictor_calls(root: Path, file: Path) -> Calls:
    import madyn

    def predict() -> None:
        predictor = madyn.Predictor.load(file)
        family = predictor._family()
        found = predictor.predict(family[0])
        if not np.isfinite(found.values).all():
            raise AssertionError("what it predicts is not finite, and nothing says so")

    return {"predict": predict}


def make_checkpoints(root: Path) -> None:
    from tiny import save_checkpoints

    if not _CHECKPOINTS:
        _CHECKPOINTS.append(Path(tempfile.mkdtemp(prefix="madyn-fuzz-")))
        save_checkpoints(_CHECKPOINTS[0], steps=(0, 1))
        for step in (0, 1):
            record = {"epoch": 1.5, "global_step": step, "log_history": [{"global_step": 7, "loss": float("nan")}]}
            (_CHECKPOINTS[0] / f"step{step}" / "trainer_state.json").write_text(json.dumps(record))
    shutil.copytree(_CHECKPOINTS[0], root, dirs_exist_ok=True)


_CHECKPOINTS: list[Path] = []


def checkpoint_calls(root: Path, file: Path) -> Calls:
    from madyn.architecture import Architecture
    from madyn.checkpoints import find_checkpoint, find_checkpoints
    from madyn.checkpoints.fingerprints import sample_files, step_inside

    return {
        "found": lambda: find_checkpoints(root),
        "step": lambda: step_inside(file.parent),
        "recorded": lambda: find_checkpoint(file.parent),
        "config": lambda: Architecture.from_config(find_checkpoint(file.parent).config()),
        "sample": lambda: sample_files([file.parent / "model.safetensors"]),
    }


def loading_calls(root: Path, file: Path) -> Calls:
    import torch

    from madyn.checkpoints import find_checkpoint

    return {"load": lambda: find_checkpoint(file.parent).model(torch.float32)}


def make_gguf(root: Path) -> None:
    from gguf_files import write_gguf

    write_gguf(root / "m.gguf", root / "folder", 0)
    shutil.rmtree(root / "folder")


def gguf_calls(root: Path, file: Path) -> Calls:
    import torch

    from madyn.checkpoints import find_checkpoint

    return {
        "config": lambda: find_checkpoint(file).config(),
        "load": lambda: find_checkpoint(file).model(torch.float32),
    }


def make_pictures(root: Path) -> None:
    from matplotlib.figure import Figure
    from PIL import Image

    from madyn.figures.png import png

    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([1, 2])
    (root / "ours.png").write_bytes(png(figure, 50, "ab" * 32))
    for name in ("a.jpg", "b.gif", "c.webp", "d.bmp", "e.tif"):
        Image.fromarray(np.arange(3 * 64, dtype=np.uint8).reshape(8, 8, 3)).save(root / name)


def picture_calls(root: Path, file: Path) -> Calls:
    from madyn.figures.png import inputs_of
    from madyn.sweep.images import _open

    def kept() -> None:
        if not isinstance(inputs_of(file), str | None):
            raise AssertionError("no text")

    return {"kept": kept, "image": functools.partial(_open, file)}


Entry = tuple[str, Callable[[Path], Any], str, Callable[[Path, Path], Calls], Callable[[Path, Path], Calls] | None]

OTHERS: list[Entry] = [
    ("texts", make_texts, "*", text_calls, None),
    ("suites", make_suites, "*.toml", suite_calls, None),
    ("predictors", make_predictors, "*.json", predictor_calls, None),
    ("checkpoints", make_checkpoints, "step*/*.json", checkpoint_calls, loading_calls),
    ("weights", make_checkpoints, "step*/*.safetensors", checkpoint_calls, loading_calls),
    ("gguf", make_gguf, "*.gguf", gguf_calls, None),
    ("pictures", make_pictures, "*", picture_calls, None),
]
"""Name, maker, pattern of the files, calls and rare calls: what a `Target` is made of."""
