"""What a family shows, held against families whose effects are known because they were made up."""

import json
from dataclasses import replace

import numpy as np
import pytest

import madyn
from madyn.dataset import layout
from madyn.dataset.training import TrainingRecord, write_record
from madyn.effects import RESPONSES, effect_sizes, model_responses, variance_shares
from madyn.effects.layers import NO_CLASS, PLACES, class_counts, layer_table, location_table, mean_growth
from madyn.effects.study import study_effects
from madyn.errors import DatasetError
from madyn.figures.draw import draw_figures
from madyn.lab.designs import draw_design
from tiny import FACTORS, HEADS, SEED, STEPS, WIDTH, write_family


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return write_family(tmp_path_factory.mktemp("family"))


def test_effects_are_found_with_intervals_that_hold_them(family):
    table = model_responses(family)
    assert len(table) == 50
    assert len(np.unique(table["architecture"])) == 30
    sizes = effect_sizes(table, "final ratio")
    assert sizes.attrs["models"] == 50
    assert sizes.attrs["architectures"] == 30
    truth = {"width": 2**WIDTH, "depth": 1.0, "heads": 2**HEADS, "MLP ratio": 1.0}
    for name, value in truth.items():
        assert sizes.loc[name, "lower"] < value < sizes.loc[name, "upper"]
        assert sizes.loc[name, "per_doubling"] == pytest.approx(value, rel=0.15)
        assert (sizes.loc[name, "p"] < 0.01) == (value != 1)


def test_intervals_cover_as_often_as_they_say():
    """Over made-up tables: 95 % intervals, models of one architecture alike."""
    import pandas as pd

    rng = np.random.default_rng(1)
    drawn = draw_design(FACTORS, {}, 24, seed=1)
    inside = []
    for _ in range(300):
        rows = []
        for number, b in enumerate(drawn):
            common = 0.3 * rng.standard_normal()
            factors = {"width": b.hidden_size, "depth": b.num_hidden_layers, "heads": b.num_attention_heads,
                       "MLP ratio": b.intermediate_size / b.hidden_size}  # fmt: skip
            for _ in range(3 if number < 6 else 1):
                y = 2 ** (np.log2(b.hidden_size) * 0.5 + common + 0.2 * rng.standard_normal())
                rows.append({"architecture": number, **factors, "final ratio": y})
        sizes = effect_sizes(pd.DataFrame(rows), "final ratio")
        inside.append(sizes.loc["width", "lower"] < 2**0.5 < sizes.loc["width", "upper"])
    assert 0.89 < np.mean(inside) < 0.99


def test_variance_divides_into_what_was_put_in(family):
    shares = variance_shares(model_responses(family), "final ratio")
    assert sum(shares["share"]) == pytest.approx(1)
    # By hand: the factors' variance over this design against the seed's.
    table = model_responses(family).drop_duplicates("architecture")
    drawn = WIDTH * np.log2(table["width"]) + HEADS * np.log2(table["heads"])
    expected = SEED**2 / (SEED**2 + np.var(drawn, ddof=1))
    assert shares.loc["seed", "lower"] < expected < shares.loc["seed", "upper"]
    assert shares["share"].iloc[0] > 0.7
    low, high = shares.attrs["seed_factor_interval"]
    assert low < 2**SEED < high
    assert shares.attrs["repeated"] == 10


def test_curvature_and_other_architecture_are_told_from_chance():
    import pandas as pd

    rng = np.random.default_rng(2)
    rows = []
    for number, b in enumerate(draw_design(FACTORS, {}, 50, seed=2)):
        width = np.log2(b.hidden_size) - 6
        other = 0.5 * rng.standard_normal()
        factors = {"width": b.hidden_size, "depth": b.num_hidden_layers, "heads": b.num_attention_heads,
                   "MLP ratio": b.intermediate_size / b.hidden_size}  # fmt: skip
        for _ in range(3):
            log = 1.5 * width**2 + other + 0.05 * rng.standard_normal()
            rows.append({"architecture": number, **factors, "final ratio": 2**log})
    _, curvature, other, chance = variance_shares(pd.DataFrame(rows), "final ratio")["share"].tolist()
    assert curvature > 0.4
    assert 0.1 < other < 0.5
    assert chance < 0.05


def test_equal_loss_and_half_rise_by_hand(family):
    """All models learn alike here, so that all reach the common loss at the last step."""
    table = model_responses(family)
    assert table.attrs["common_loss"] == pytest.approx(4.0)
    assert table["ratio at equal loss"].to_numpy() == pytest.approx(table["final ratio"].to_numpy(), rel=1e-6)
    model = table["model"].iloc[0]
    largest = family.trajectories(model, "ratio").max("layer")
    half = np.sqrt(largest.values[0] * largest.values.max())
    step = table["step of half the rise"].iloc[0]
    assert np.exp(np.interp(step, largest["step"], np.log(largest))) == pytest.approx(half)
    top1, median = (family.trajectories(model, q).isel(layer=-1).values for q in ("top1", "median"))
    assert table["growth of top 1"].iloc[0] == pytest.approx(top1[-1] / top1[0])
    assert table["growth of the median"].iloc[0] == pytest.approx(median[-1] / median[0])


def test_layers_are_classified_and_their_growth_is_told(family):
    layers = layer_table(family)
    assert len(layers) == sum(family.statistics(m).sizes["layer"] for m in family)
    counts = class_counts(layers)
    assert counts.to_numpy().sum() == len(layers)
    assert sum(counts["log increase"]) > 0.9 * len(layers)
    assert NO_CLASS in counts.columns
    table = model_responses(family)
    growth = mean_growth(layers, dict(zip(table["model"], table["architecture"], strict=True)))
    for place in PLACES:
        ratio, top1, median = (growth.loc[(place, q), "mean"] for q in ("ratio", "top1", "1 / median"))
        assert ratio == pytest.approx(top1 + median, abs=1e-6)
        assert median == pytest.approx(-1.0)
        assert growth.loc[(place, "ratio"), "lower"] < ratio < growth.loc[(place, "ratio"), "upper"]


def test_locations_are_told_over_training(family):
    over, locked = location_table(family)
    assert set(over.loc[over["step"] < 20, "first_position"]) == {0.0}
    assert set(over.loc[over["step"] >= 20, "first_position"]) == {1.0}
    assert set(over["modal_feature"]) == {1.0}
    assert set(locked["locked_in_step"]) == {20}
    assert set(locked["shared_feature"]) == {True}
    assert set(locked["place"]) <= set(PLACES)


def test_the_study_and_its_figures(family, tmp_path, run):
    code, out, _ = run("effects", family.path, "--out", tmp_path / "out")
    assert code == 0
    assert "50 models of 30 architectures" in out
    assert "a seed changes it by a factor" in out
    assert "not drawn" not in out
    drawn = {p.name for p in (tmp_path / "out").rglob("*.png")}
    assert drawn == {f"effects_{n}.png" for n in ("sizes", "variance", "trajectories", "layers", "locations")}
    tables = {p.stem for p in (tmp_path / "out").glob("*.csv")}
    assert tables == {"responses", "layers", "classes", "growth", "directions", "sizes", "variance", "locations"}


def test_what_is_missing_is_said_and_the_rest_is_shown(tmp_path, run):
    write_family(tmp_path / "few", count=6, repeated=0, losses=False, locations=False)
    code, out, _ = run("effects", tmp_path / "few")
    assert code == 0
    assert "no ratio at equal loss: not known of any model" in out
    assert "no variance: 6 architectures, 0 of them with several seeds, are too few" in out
    assert "no effect sizes: effects of width, depth, heads, MLP ratio cannot be told apart" in out
    assert "no locations" in out
    study = study_effects(madyn.open_dataset(tmp_path / "few"))
    assert not study.sizes
    assert "variance" not in study.tables()


def test_one_architecture_is_no_family(tmp_path):
    dataset = write_family(tmp_path / "one", count=1, repeated=1)
    with pytest.raises(DatasetError, match="one architecture only"):
        study_effects(dataset)
    drawing = draw_figures(dataset, out=tmp_path / "figures", only="analysis/effects_*", jobs=1)
    assert not drawing.drawn
    assert all("make no family" in reason for reason in drawing.left_out.values())


def test_models_that_are_not_at_the_last_step_are_left_out_and_named(tmp_path, run):
    dataset = write_family(tmp_path / "d", count=14, repeated=3)
    first, second = dataset.models[:2]
    for model, kept in ((first, STEPS[:1]), (second, STEPS[:5])):
        for step in STEPS:
            if step not in kept:
                layout.statistics_path(dataset.path, model, step).unlink()
    write_record(dataset.path, second, TrainingRecord(plan={}, parameters=1, failure="the training loss is nan"))
    table = model_responses(madyn.open_dataset(dataset.path))
    assert len(table) == 20 - 2
    code, out, _ = run("effects", dataset.path)
    assert code == 0
    assert f"no {first}: measured to step 0 of 100: measure or train it to the end" in out
    assert f"no {second}: measured to step 8 of 100: the training loss is nan" in out


def test_models_of_one_step_did_nothing(tmp_path):
    dataset = write_family(tmp_path / "d", count=1, repeated=0)
    for step in STEPS[1:]:
        layout.statistics_path(dataset.path, dataset.models[0], step).unlink()
    with pytest.raises(DatasetError, match="measured at one step only"):
        model_responses(madyn.open_dataset(dataset.path))


def test_another_wiring_is_another_architecture_and_no_seed(tmp_path):
    dataset = write_family(tmp_path / "d", count=6, repeated=6)
    for model in dataset:
        record = dataset.training(model)
        assert record is not None
        norm = "rmsnorm" if model.endswith("_s2") else "layernorm"
        write_record(dataset.path, model, replace(record, plan={"blueprint": {"norm": norm}}))
    dataset = madyn.open_dataset(dataset.path)
    assert len(np.unique(model_responses(dataset)["architecture"])) == 12
    assert "effects of wiring" in study_effects(dataset).missing


def test_every_response_is_described_and_positive(family):
    table = model_responses(family)
    for name in RESPONSES:
        assert min(table[name]) > 0
    json.dumps(table.to_dict("records"))  # plain numbers
