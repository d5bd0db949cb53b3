"""Tiny models, texts and datasets that tests are made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from madyn.architecture import Architecture
from madyn.dataset import layout
from madyn.dataset.statistics import write_statistics

SENTENCES = [f"the {a} {b} runs over {n} lazy dogs and {a} {n + 1} cats.\n" for n in range(40)
             for a in ("quick", "slow", "red") for b in ("fox", "hen")]  # fmt: skip
TEXT = "".join(SENTENCES)


def tiny_shape(**changes: Any) -> Architecture:
    values = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "vocab_size": 300}
    return Architecture(**{"max_position_embeddings": 32, **values, **changes})


def save_checkpoints(folder: Path, steps: tuple[int, ...] = (0, 1, 2), shape: Architecture | None = None) -> Path:
    """Checkpoints of one model at several steps, each with other weights, in `folder/stepN`."""
    from madyn.lab.blueprints import Blueprint, build_model
    from madyn.lab.tokenizer import train_tokenizer

    shape = shape or tiny_shape()
    tokenizer = train_tokenizer(SENTENCES, shape.vocab_size)
    blueprint = Blueprint(
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        intermediate_size=shape.intermediate_size,
    )
    for step in steps:
        model = build_model(blueprint, step, shape.vocab_size, shape.max_position_embeddings, tokenizer.bos_token_id)
        model.save_pretrained(folder / f"step{step}")
        tokenizer.save_pretrained(folder / f"step{step}")
    return folder


def grow(t: np.ndarray, beta: float, tau0: float, A1: float, A2: float, K: float) -> np.ndarray:
    return np.exp(-beta * t) * (A1 * np.log(t + tau0) + A2) + K


def write_dataset(
    root: Path,
    models: tuple[str, ...] = ("pythia_14m", "pythia_70m"),
    steps: tuple[int, ...] | None = None,
    seed: int = 0,
) -> Path:
    """A dataset whose trajectories follow the curve with a little noise: 3 layers, 4 sequences."""
    rng = np.random.default_rng(seed)
    steps = steps if steps is not None else (0, *(2**k for k in range(10)), *range(1000, 20001, 1000))
    t = np.array(steps, dtype=float)
    for model in models:
        layers = []
        for layer in range(3):
            ratio = grow(t, 1e-4 * (layer + 1), 50.0, 4.0 + layer, 2.0, 20.0)
            ratio = ratio[:, None] * (1 + 0.02 * rng.standard_normal((len(t), 4)))  # step, sequence
            median = 0.5 + 0.01 * rng.standard_normal((len(t), 4))
            layers.append(np.stack([ratio * median, 0.7 * ratio * median, 0.6 * ratio * median, median], axis=2))
        values = np.stack(layers, axis=3)  # step, sequence, quantity, layer
        for step, statistics in zip(steps, values, strict=True):
            write_statistics(layout.statistics_path(root, model, step), statistics)
    return root
