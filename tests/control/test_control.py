"""What `madyn control` says of made-up remedies whose effects are known, and of some that the lab has trained."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp
from typer.testing import CliRunner

import madyn
from madyn.checking import check_dataset
from madyn.cli import app
from madyn.control import conclusion, measure_throughput, reported_effect, study_control
from madyn.control.reported import REPORTED
from madyn.control.study import seeds_to_show
from madyn.dataset.throughput import Speed, Throughput, read_throughput, write_throughput
from madyn.dataset.training import read_record, write_record
from madyn.errors import DatasetError
from madyn.lab import read_suite, run_suite
from madyn.lab.suites import suite_from_dict
from remedy_family import make_remedies
from tiny import TEXT


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_remedies(tmp_path_factory.mktemp("remedies")).path


@pytest.fixture(scope="module")
def control(root):
    return study_control(root)


def record_of(root, model) -> Any:
    return read_record(root, model)


def row_of(control, remedy) -> Any:
    return control.table.set_index("remedy").loc[remedy].to_dict()


def test_what_remedies_do_is_what_was_made_up(control):
    table = control.table
    assert table["remedy"].iloc[0] == "plain"
    assert set(table["seeds"]) == {4}
    assert (
        table[["ratio_lower", "loss_lower"]].iloc[1:] < table[["ratio_upper", "loss_upper"]].iloc[1:].to_numpy()
    ).all(axis=None)
    sink, gelu, bare = (row_of(control, remedy) for remedy in ("attention sink", "activation gelu", "bos false"))
    assert sink["ratio_times"] == pytest.approx(0.25, rel=0.05)
    assert sink["top1_times"] == pytest.approx(0.25, rel=0.05)
    assert sink["median_times"] == 1
    assert sink["loss_times"] == pytest.approx(1.01, abs=0.003)
    assert gelu["loss_times"] == pytest.approx(0.98, abs=0.003)
    # A quarter of the ratio leaves two bits more where the bulk is well above the step.
    assert 1.5 < sink["bits_more"] < 2.1
    assert sink["bits"] - table["bits"].iloc[0] == pytest.approx(sink["bits_more"], abs=1e-9)
    assert bare["ratio_times"] == pytest.approx(0.5, rel=0.05)
    # Only what nothing beats in both: the least ratio, and the least loss.
    assert set(table.loc[table["front"], "remedy"]) == {
        "attention sink, weight_decay 0.0, bos false", "activation gelu",
    }  # fmt: skip


def test_at_equal_loss_a_pair_is_held_where_the_worse_one_ends(root, control):
    """Losses fall in a straight line from 3 above the last one: the better model passes the worse one's last loss
    before its own end, at a ratio that its trajectory has there."""
    dataset: Any = madyn.open_dataset(root)
    pair = control.pairs.loc[control.pairs["model"] == "sink_s1"].iloc[0]
    mine, base = (dataset.trajectories(m, "ratio").max("layer") for m in (pair["model"], pair["base"]))
    ends = [dataset.training(m).losses[16]["held_out"] for m in (pair["model"], pair["base"])]
    assert ends[0] > ends[1]  # the remedy is worse, and keeps its last ratio
    steps = np.array([8, 16])
    losses = [dataset.training(pair["base"]).losses[int(step)]["held_out"] for step in steps]
    share = (losses[0] - ends[0]) / (losses[0] - losses[1])
    there = math.exp(np.interp(share, [0, 1], np.log(base.sel(step=steps).values)))
    assert 2 ** pair["equal_loss_ratio"] == pytest.approx(float(mine[-1]) / there)


def test_conclusions_say_what_is_shown_and_what_is_not(control):
    sink = conclusion(row_of(control, "attention sink"))
    assert sink.startswith("lowers the ratio: x0.2")
    assert "by the largest values" in sink
    assert "costs loss: +0.9" in sink
    gelu = row_of(control, "activation gelu")
    assert "gains loss: -2" in conclusion(gelu)
    flat = {**gelu, "ratio_lower": 0.8, "ratio_times": 1.1, "ratio_upper": 1.5, "ratio_p": 1.0, "ratio_seeds": 61.0}
    assert conclusion(flat).startswith("no effect on the ratio is shown (x1.1, 0.8 to 1.5); 61 seeds would show one")
    likely = {**flat, "ratio_lower": 1.01, "ratio_p": 0.3, "ratio_seeds": 6.0}
    assert "likely raises the ratio (x1.1, 1.01 to 1.5), not beyond chance" in conclusion(likely)
    by_median = {**row_of(control, "attention sink"), "top1_times": 0.9, "median_times": 3.6}
    assert "by the median (the median x3.6, top 1 is x0.9)" in conclusion(by_median)
    less = {**row_of(control, "attention sink"), "equal_loss_ratio_upper": 1.2}
    assert "but at equal loss that is not shown" in conclusion(less)
    assert conclusion({**gelu, "seeds": 0, "diverged": 3}) == "diverged in all of its 3 runs"


def test_as_many_seeds_as_are_said_show_it():
    rng = np.random.default_rng(0)
    n = int(seeds_to_show(0.8, 1.0))
    assert n == 15  # Cohen's d of 0.8, paired: the textbooks' figure
    draws = 0.8 + rng.standard_normal((20_000, n))
    tests: Any = ttest_1samp(draws, 0, axis=1)
    assert (tests.pvalue < 0.05).mean() == pytest.approx(0.82, abs=0.025)
    assert math.isnan(seeds_to_show(0.001, 1.0))
    assert math.isnan(seeds_to_show(0.5, math.nan))
    assert seeds_to_show(0.5, 0.0) == 2


def test_a_diverged_run_is_counted(tmp_path):
    root = make_remedies(tmp_path / "family").path
    for seed, models in ((0, ("gelu",)), (1, ("gelu", "bare")), (2, ("gelu",)), (3, ("gelu",))):
        for name in models:
            model = f"{name}_s{seed}"
            record = record_of(root, model)
            losses = {step: loss for step, loss in record.losses.items() if step < 16}
            write_record(
                root, model, replace(record, complete=False, failure="the loss is nan at step 12", losses=losses)
            )
            (root / model / "stats" / f"exp2_{model}_step16").unlink()
    found = study_control(root)
    gelu, bare = (row_of(found, remedy) for remedy in ("activation gelu", "bos false"))
    assert (gelu["seeds"], gelu["diverged"]) == (0, 4)
    assert conclusion(gelu) == "diverged in all of its 4 runs"
    assert (bare["seeds"], bare["diverged"]) == (3, 1)
    assert conclusion(bare).endswith("1 of 4 runs diverged")
    result = CliRunner().invoke(app, ["control", str(root)])
    assert result.exit_code == 0, result.output
    assert "4 diverged" in result.output.replace("0, 4 diverged", "4 diverged")
    assert "gelu_s0: measured to step 8 of 16: the loss is nan at step 12" in result.output


def test_losses_over_other_lengths_are_not_compared(tmp_path):
    root = make_remedies(tmp_path / "family").path
    for model in ("bare_s0", "bare_s1", "bare_s2", "bare_s3"):
        record = record_of(root, model)
        recipe = {**record.plan["recipe"], "length": 256}
        write_record(root, model, replace(record, plan={**record.plan, "recipe": recipe}))
    found = study_control(root)
    label = "bos false, length 256"
    row = row_of(found, label)
    assert row["ratio_times"] == pytest.approx(0.5, rel=0.05)
    assert math.isnan(row["loss_times"])
    assert not row["front"]
    assert "another length" in found.missing[label]
    assert conclusion(row).endswith("its loss is not held against the plain model's")


def test_the_plain_model_may_be_named(root):
    """Where remedies are more than plain models, what most have is a remedy's."""
    some = madyn.open_dataset(root).select(
        [f"{name}_s{seed}" for name in ("plain", "sink", "both") for seed in range(2)]
    )
    named = study_control(some, plain="plain_s1").table.set_index("remedy")
    assert set(named.index) == {"plain", "attention sink", "attention sink, weight_decay 0.0, bos false"}
    assert named.loc["attention sink", "ratio_times"] == pytest.approx(0.25, rel=0.1)
    assert "attention sink" not in study_control(some).table["remedy"].tolist()  # most of them have it
    with pytest.raises(madyn.MadynError, match="no model 'nobody'"):
        study_control(some, plain="nobody")


def test_nothing_to_compare_is_said(tmp_path):
    root = make_remedies(tmp_path / "family").path
    plain = madyn.open_dataset(root).select([f"plain_s{seed}" for seed in range(4)])
    with pytest.raises(DatasetError, match="no model departs in wiring or recipe"):
        study_control(plain)
    with pytest.raises(DatasetError, match="no model departs"):
        measure_throughput(plain)


def test_every_entry_of_control_suite_is_told_beside_what_its_authors_report():
    """What is reported has the levels that the suite file trains, but for those of which nothing is known."""
    plain, *others = [run for run in read_suite("control-suite").runs() if run.seed == 0]
    unknown = set()
    for run in others:
        mine, theirs = ({**r.blueprint.to_dict(), **r.recipe.to_dict()} for r in (run, plain))
        levels = {name: level for name, level in mine.items() if theirs.get(name) != level}
        if not reported_effect(levels):
            unknown.add(run.name.removesuffix("_s0"))
    assert unknown == {"embedding_norm", "decay_0p1", "rate_0p002", "beta2_0p999", "no_bos", "gelu", "relu2"}
    assert len({tuple(sorted(one.levels)) + tuple(map(str, one.levels.values())) for one in REPORTED}) == len(REPORTED)


def test_the_command_writes_tables_and_pictures(root, tmp_path):
    out = tmp_path / "page"
    result = CliRunner().invoke(app, ["control", str(root), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "attention sink" in result.output
    assert "reported: nothing published of it alone" in result.output
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == [
        "control.csv", "control_pareto.png", "control_remedies.png", "control_trajectories.png", "pairs.csv",
    ]  # fmt: skip
    table = pd.read_csv(out / "control.csv")
    assert table["remedy"].iloc[0] == "plain"
    assert len(pd.read_csv(out / "pairs.csv")) == 16


def test_json_is_what_the_table_holds(root, control):
    result = CliRunner().invoke(app, ["control", str(root), "--json"])
    found = json.loads(result.stdout)
    assert found["plain"]["ratio"] == pytest.approx(control.table["ratio"].iloc[0])
    assert found["machine"] is None
    sink = next(row for row in found["remedies"] if row["remedy"] == "attention sink")
    assert sink["levels"] == {"attention": "sink"}
    assert sink["speed"] is None
    assert sink["conclusion"].startswith("lowers the ratio")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A family that the lab has trained: three ways of one tiny shape, two seeds."""
    folder = tmp_path_factory.mktemp("trained")
    text = folder / "text.txt"
    text.write_text(TEXT)
    shape = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "rotary_pct": 1.0, "residual": "sequential", "norm": "rmsnorm", "activation": "swiglu", "seeds": [0, 1],
    }  # fmt: skip
    suite = suite_from_dict(
        {
            "name": "tiny-control",
            "recipe": {"steps": 12, "batch_size": 2, "length": 16},
            "text": {"source": str(text), "vocab_size": 300},
            "measure": {"steps": [0, 4, 12], "source": str(text), "sequences": 2, "loss_sequences": 4},
            "model": [
                {"name": "plain", **shape},
                {"name": "softmax1", "attention": "softmax1", **shape},
                {"name": "registers", "recipe": {"registers": 2}, **shape},
            ],
        }
    )
    run_suite(suite, folder / "family", jobs=1)
    return folder / "family"


def test_throughput_is_timed_and_kept_beside_the_dataset(trained):
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    result = CliRunner().invoke(app, ["control", str(trained), "--throughput"])
    assert result.exit_code == 0, result.output
    timed: Any = read_throughput(trained)
    assert set(timed.models) == {"softmax1_s0", "registers_s0"}
    assert all(0.02 < one.lower <= one.times <= one.upper < 50 for one in timed.models.values())
    assert "one thread, torch" in timed.machine
    assert {p: p.read_bytes() for p in before} == before
    speeds: Any = study_control(trained).table.set_index("remedy")["speed"]
    assert speeds["attention softmax1"] == timed.models["softmax1_s0"].times
    assert speeds["plain"] == 1
    assert check_dataset(trained).faults == []


def test_what_was_timed_is_read_as_what_it_is(tmp_path):
    found = Throughput("a machine", 9, {"softmax1_s0": Speed(0.9, 0.88, 0.92)})
    write_throughput(tmp_path, found)
    assert read_throughput(tmp_path) == found
    (tmp_path / "throughput.json").write_text('{"machine": "x", "rounds": 9, "models": {"a": {"times": "fast"}}}')
    with pytest.raises(DatasetError, match=r"throughput\.json.*models\.a\.times"):
        read_throughput(tmp_path)
