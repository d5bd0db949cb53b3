"""The main job from end to end, on models that train in seconds."""

import json

import numpy as np
import pandas as pd
import pytest

import madyn
from madyn.dataset import layout
from madyn.demo import RECIPE, run_demo, suite_of
from madyn.lab import Recipe, checkpoint_steps, run_suite

FAMILY = [(2, 16, 2), (2, 24, 3), (3, 16, 2), (3, 24, 3), (4, 16, 2), (6, 16, 1)]
UNSEEN = (3, 32, 2)
SMALL = Recipe(steps=40, batch_size=4, length=32)


@pytest.mark.slow
def test_the_demo_from_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = run_demo(tmp_path / "demo", FAMILY, UNSEEN, SMALL)
    out = capsys.readouterr().out
    assert "measured values lie in their 90 % intervals" in out
    assert "6 architectures, too few for the quantiles" in out
    assert "predicted and measured" in out
    assert "mean R2 of the ratio's fits" in out
    assert madyn.checking.check_dataset(dataset.path).faults == []
    assert out.rstrip().endswith("report.html in a browser: all of it on one page")
    page = (tmp_path / "demo/report.html").read_text()
    assert all(f">{model}</td>" in page for model in dataset.models)
    steps = checkpoint_steps(SMALL.steps, 19)
    assert len(dataset.models) == 6
    for model in dataset:
        assert dataset.steps(model) == steps
        folder = dataset.path / model
        expected = ["series/magnitudes", "series/median", "series/ratio", "series/top1", "metrics/r2_ratio",
                    "metrics/aic_median", "example_fits/top1/deep"]  # fmt: skip
        for picture in expected + [f"per_layer_evolution/step{step}" for step in steps]:
            assert (folder / f"{picture}.png").exists()
    assert (tmp_path / "demo/unseen/predicted_and_measured.png").exists()
    layers = sum(layers for layers, _, _ in FAMILY)
    assert len(pd.read_csv(tmp_path / "demo" / layout.PARAMETER_TABLE)) == layers

    # The card's way of reading, on what was just made.
    name = dataset.models[0]
    stats = np.array(json.loads((tmp_path / f"demo/{name}/stats/exp2_{name}_step0").read_text()))
    assert stats.shape == (10, 4, dataset.architecture(name).num_hidden_layers)

    # Again: nothing is trained, measured or drawn twice.
    made = [*dataset.path.rglob("exp2_*"), *(p for m in dataset for p in (dataset.path / m).rglob("*.png"))]
    before = {p: p.stat().st_mtime_ns for p in made}
    run_demo(tmp_path / "demo", FAMILY, UNSEEN, SMALL)
    assert {p: p.stat().st_mtime_ns for p in before} == before

    # Elsewhere: the same statistics, bit for bit.
    run_suite(suite_of("again", FAMILY[:1], SMALL), tmp_path / "again")
    name = suite_of("again", FAMILY[:1], SMALL).runs()[0].name
    for step, path in layout.statistics_files(tmp_path / "again", name).items():
        assert path.read_bytes() == layout.statistics_path(tmp_path / "demo", name, step).read_bytes()


def test_the_demo_s_family_is_what_it_promises():
    from madyn.demo import FAMILY, UNSEEN

    assert len(FAMILY) >= 6
    assert max(layers for layers, _, _ in FAMILY) >= 6
    for field in range(3):
        assert len({shape[field] for shape in FAMILY}) >= 3
    assert UNSEEN not in FAMILY
    assert len(checkpoint_steps(RECIPE.steps, 19)) >= 20
