"""Tiny models, texts and datasets that tests are made from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import madyn
from madyn.architecture import Architecture
from madyn.dataset import layout, manifest
from madyn.dataset.files import write_json
from madyn.dataset.statistics import write_statistics
from madyn.dataset.training import TrainingRecord, write_record
from madyn.lab.designs import draw_design

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


def write_wired(
    root: Path, models: dict[str, tuple[dict[str, int], dict[str, str], dict[str, Any], float, float]]
) -> Path:
    """A dataset of runs whose last ratio and held-out loss are given.

    Args:
        models: of each, what of `tiny_shape` is another, the levels of its wiring and the entries of its recipe that
            are not usual, the ratio that every layer ends at (it starts at 4), and the loss.
    """
    steps = [0, 1, 2, 4, 8, 16, 32, 64]
    for model, (changes, wiring, recipe, end, loss) in models.items():
        shape = tiny_shape(**changes)
        for step in steps:
            row = np.full(shape.num_hidden_layers, 4 * (end / 4) ** (np.log1p(step) / np.log1p(steps[-1])))
            write_statistics(layout.statistics_path(root, model, step), np.stack([[row, row, row, row**0]] * 2))
            unit = manifest.Unit(model=model, step=step, source="made up", architecture=shape.to_dict())
            write_json(layout.manifest_path(root, model, step), asdict(unit))
        usual = {"steps": steps[-1], "learning_rate": 0.01, "batch_size": 4, "length": 32, "weight_decay": 0.1}
        plan = {"blueprint": wiring, "seed": 0, "recipe": {**usual, **recipe}}
        losses = {steps[-1]: {"train": None, "held_out": loss}}
        write_record(root, model, TrainingRecord(plan=plan, parameters=1, losses=losses, complete=True))
    return root


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


FACTORS = {"hidden_size": [32, 64, 128], "num_hidden_layers": [2, 3, 4], "num_attention_heads": [1, 2, 4],
           "mlp_ratio": [1, 2, 4]}  # fmt: skip
STEPS = [0, 1, 2, 4, 8, *range(10, 101, 10)]
WIDTH, HEADS, SEED = 0.5, -0.25, 0.2  # powers of the final ratio, and the base-2 logarithm's standard deviation


def write_family(root, count=30, repeated=10, losses=True, locations=True, seed_noise=SEED):
    """A family whose ratio grows from 8 to 40 (width/64)^.5 (heads/2)^-.25 in its last layer, linearly in log step."""
    rng = np.random.default_rng(0)
    t = np.array(STEPS, float)
    growth = np.log1p(t) / np.log1p(t[-1])
    for number, b in enumerate(draw_design(FACTORS, {}, count, seed=0)):
        shape = Architecture(
            num_hidden_layers=b.num_hidden_layers, hidden_size=b.hidden_size, num_attention_heads=b.num_attention_heads,
            intermediate_size=b.intermediate_size,
        )  # fmt: skip
        final = 40 * (b.hidden_size / 64) ** WIDTH * (b.num_attention_heads / 2) ** HEADS
        for seed in range(3 if number < repeated else 1):
            model = f"{b.name}_s{seed}"
            end = final * 2 ** (seed_noise * rng.standard_normal())
            layers = np.linspace(0.6, 1.0, b.num_hidden_layers)
            ratio = 8 + (end - 8) * growth[:, None] * layers
            ratio = ratio * np.exp(0.002 * rng.standard_normal(ratio.shape))
            for step, row in zip(STEPS, ratio, strict=True):
                one = np.stack([row, 0.7 * row, 0.6 * row, np.ones_like(row)]) * (1 + step / 100)
                write_statistics(layout.statistics_path(root, model, step), np.stack([one, one * 1.01]))
                unit = manifest.Unit(model=model, step=step, source="made up", architecture=shape.to_dict())
                write_json(layout.manifest_path(root, model, step), asdict(unit))
                if locations:
                    place = np.zeros((2, 3, len(row)), int) + (0 if step >= 20 else 5)
                    value = {"position": place.tolist(), "feature": (place + 7).tolist()}
                    write_json(layout.locations_path(root, model, step), value)
            if losses:
                curve = {step: {"train": None, "held_out": 7 - 3 * g} for step, g in zip(STEPS, growth, strict=True)}
                record = TrainingRecord(plan={}, parameters=1, losses=curve, complete=True)
                write_record(root, model, record)
    return madyn.open_dataset(root)
