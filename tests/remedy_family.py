"""A made-up family of remedies with known effects: six ways of one shape, four seeds, a record of each as the lab's."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

import madyn
from madyn.architecture import Architecture
from madyn.dataset import Dataset, layout, manifest
from madyn.dataset.files import write_json
from madyn.dataset.statistics import write_statistics
from madyn.dataset.training import TrainingRecord, write_record

STEPS = [0, 1, 2, 4, 8, 16]
PLAIN = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
WIRED = {
    "plain": ({}, {}, 1000, 1.0, 1.0),
    "sink": ({"attention": "sink", "match_parameters": True}, {}, 1003, 0.25, 1.01),
    "gelu": ({"activation": "gelu", "intermediate_size": 144}, {}, 1000, 1.0, 0.98),
    "bare": ({}, {"bos": False}, 1000, 0.5, 1.0),
    "wide": ({"attention": "softpick", "intermediate_size": 200}, {}, 2000, 0.1, 0.9),
    "both": ({"attention": "sink"}, {"weight_decay": 0.0, "bos": False}, 1003, 0.2, 1.0),
}


def make_remedies(root: Path) -> Dataset:
    """A seed changes all of its models alike, by far more than its pairs differ.

    Of each way: wiring, recipe, parameters, what it multiplies the final ratio by (all of it by top 1), and the loss.
    """
    rng = np.random.default_rng(0)
    for seed in range(4):
        common = 2 ** rng.standard_normal()
        for name, (wiring, recipe, parameters, ratio, loss) in WIRED.items():
            model = f"{name}_s{seed}"
            blueprint = {**PLAIN, "rotary_pct": 1.0, "activation": "swiglu", **wiring}
            shape = Architecture(**{k: v for k, v in blueprint.items() if k in PLAIN})
            end = 100 * common * ratio * 2 ** (0.02 * rng.standard_normal())
            for step in STEPS:
                row = np.full(3, 5 + (end - 5) * np.log1p(step) / np.log1p(16))
                write_statistics(layout.statistics_path(root, model, step), np.stack([[row, row, row, np.ones(3)]] * 2))
                unit = manifest.Unit(model=model, step=step, source="made up", architecture=shape.to_dict())
                write_json(layout.manifest_path(root, model, step), asdict(unit))
            plan = {"blueprint": blueprint, "seed": seed, "recipe": {"weight_decay": 0.3, **recipe}}
            held = 3 * loss * (1 + 0.001 * rng.standard_normal())
            losses = {step: {"train": None, "held_out": held + 3 - 3 * step / 16} for step in STEPS}
            record = TrainingRecord(plan=plan, parameters=parameters, losses=losses, complete=True)
            write_record(root, model, record)
    return madyn.open_dataset(root)
