"""The main job from end to end, on models that train in seconds."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import madyn
from madyn.dataset import layout
from madyn.demo import RECIPE, run_demo, suite_of
from madyn.lab import Recipe, checkpoint_steps, run_suite

FAMILY = [(2, 16, 2), (2, 24, 3), (3, 16, 2), (3, 24, 3), (4, 16, 2), (6, 16, 1)]
UNSEEN = (5, 16, 2)
SMALL = Recipe(steps=40, batch_size=4, length=32)
PAGE = Path(__file__).parent.parent / "docs" / "start.md"


@pytest.mark.slow
def test_the_demo_from_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = run_demo(tmp_path / "demo", FAMILY, UNSEEN, SMALL)
    out, notes = capsys.readouterr()
    assert "measured values lie in their 90 % intervals" in out
    assert "6 architectures, too few for the quantiles" in out
    assert "predicted and measured" in out
    assert "mean R2 of the ratio's fits" in out
    assert madyn.checking.check_dataset(dataset.path).faults == []
    require_explained((out + notes).replace(f"{tmp_path}/", ""), PAGE.read_text(encoding="utf-8"))
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


def require_explained(printed, page):
    """The page shows every line that is printed, and no other; its tables explain each column, and no other."""
    assert lines_of("".join(re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE))) == lines_of(printed)
    tables = re.findall(r"^(?:predicted by|layer|model|hypothesis)  .*", printed, re.MULTILINE)
    columns = {without_numbers(cell) for line in tables for cell in re.split(r"  +", line)}
    assert set(map(without_numbers, re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE))) == columns


def lines_of(text):
    return {without_numbers(line) for line in text.splitlines()}


def without_numbers(line):
    """What a line says in any run: no number, no model's name, no cell that is given for want of a number."""
    line = re.sub(r"(neox_\w+( \(\d+\))?(, )?)+", "MODEL", line)
    line = re.sub(r"worse than the mean|(?<= )-(?= |$)|-?\d[\d.,]*(e[+-]\d+)?( %)?", "#", line)
    return re.sub(r"(# ?|\(# to #\) ?)+", "# ", re.sub(r" +", " ", line)).strip()


def test_a_line_that_is_not_explained_would_be_found():
    page = "```\nmodel  at last\nneox_2x16_h2_m64_s0   6.158\nworst   -\n```\n| `model` | |\n| `at last` | |\n"
    require_explained("model  at last\nneox_3x16_h2_m64_s1  17\nworst  worse than the mean", page)
    for other in ("model  at first\nneox_3x16_h2_m64_s1  17\nworst  3", "model  at last\nneox_3x16_h2_m64_s1  17"):
        with pytest.raises(AssertionError):
            require_explained(other, page)
    with pytest.raises(AssertionError):
        require_explained("model  at last\nneox_3x16_h2_m64_s1  17\nworst  3", page.replace("`at last`", "`last`"))


def test_the_demo_s_family_is_what_it_promises():
    from madyn.demo import FAMILY, UNSEEN

    assert len(FAMILY) >= 6
    assert max(layers for layers, _, _ in FAMILY) >= 6
    for field in range(3):
        assert len({shape[field] for shape in FAMILY}) >= 3
    assert UNSEEN not in FAMILY
    assert len(checkpoint_steps(RECIPE.steps, 19)) >= 20
