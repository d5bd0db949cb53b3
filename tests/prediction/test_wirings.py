"""A wiring is a factor of levels for the predictor: learned where a family varies it, and nothing where it does not."""

from dataclasses import asdict

import numpy as np
import pytest

import madyn
from madyn.architecture import Architecture
from madyn.dataset import layout, manifest
from madyn.dataset.files import write_json
from madyn.dataset.statistics import write_statistics
from madyn.dataset.training import TrainingRecord, write_record
from madyn.errors import UsageError
from madyn.prediction import Predictor
from madyn.prediction.approach import Inputs
from madyn.prediction.inputs import WIRING, as_wiring
from madyn.prediction.table import curve_table
from madyn.wirings import LEVELS, Wiring
from tiny import write_wired

STEPS = [0, 1, 2, 4, 8, 16, 32, 64]
SHAPES = [(2, 32), (2, 64), (3, 32), (3, 64), (4, 32), (4, 64), (2, 48), (4, 48)]


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Eight shapes, each plain and with a sink, which leaves a quarter of the ratio that the plain one ends at."""
    root = tmp_path_factory.mktemp("family")
    rng = np.random.default_rng(0)
    for layers, width in SHAPES:
        shape = Architecture(num_hidden_layers=layers, hidden_size=width, num_attention_heads=4)
        for attention, times in (("softmax", 1.0), ("sink", 0.25)):
            model = f"m{layers}x{width}_{attention}"
            for step in STEPS:
                end = 40 * (width / 32) * times
                row = np.exp(np.log(4) + (np.log(end) - np.log(4)) * np.log1p(step) / np.log1p(64)) * np.ones(layers)
                row = row * np.exp(0.01 * rng.standard_normal(layers))
                write_statistics(layout.statistics_path(root, model, step), np.stack([[row, row, row, row**0]] * 2))
                unit = manifest.Unit(model=model, step=step, source="made up", architecture=shape.to_dict())
                write_json(layout.manifest_path(root, model, step), asdict(unit))
            blueprint = {"norm": "rmsnorm", **({"attention": attention} if attention != "softmax" else {})}
            plan = {"blueprint": blueprint, "seed": 0}
            write_record(root, model, TrainingRecord(plan=plan, parameters=1, complete=True))
    return madyn.open_dataset(root)


def test_what_a_remedy_does_is_learned_and_told_of_other_shapes(family, tmp_path):
    predictor = Predictor().fit(family)
    assert "attention sink" in predictor.state.table.features
    assert not set(predictor.state.table.features) & {"norm rmsnorm", "attention softpick"}  # nothing varies there
    assert predictor.state.table.architectures == 16
    shape = predictor.architecture(num_hidden_layers=3, hidden_size=48, num_attention_heads=4)
    plain, sink = (
        predictor.predict(shape, [64], wiring=wiring).sel(quantile=0.5).values.mean()
        for wiring in ({"attention": "softmax"}, {"attention": "sink"})
    )
    assert plain == pytest.approx(60, rel=0.25)
    assert sink / plain == pytest.approx(0.25, rel=0.25)
    assert float(predictor.predict(shape, [64]).sel(quantile=0.5).values.mean()) in (float(plain), float(sink))
    final = predictor.quantities(shape, wiring={"attention": "sink"}).set_index(["quantity", "layer"])["value"]
    last = final.loc["final ratio"].to_numpy(float)
    assert float(last.mean()) == pytest.approx(float(sink), rel=0.1)
    said = predictor.predict(shape, [64], wiring={"attention": "softpick"}).attrs["caution"]
    assert "attention softpick is 1, not 0" in said
    predictor.save(tmp_path / "p.json")
    loaded = Predictor.load(tmp_path / "p.json")
    assert np.array_equal(
        loaded.predict(shape, [64], wiring={"attention": "sink"}),
        predictor.predict(shape, [64], wiring={"attention": "sink"}),
    )


def test_a_family_that_does_not_vary_it_is_learned_from_as_before(family):
    plain = family.select([model for model in family if "softmax" in model])
    predictor = Predictor().fit(plain)
    assert not set(predictor.state.table.features) & set(WIRING)
    assert predictor.wiring == Wiring(norm="rmsnorm")
    shape = predictor.architecture(num_hidden_layers=3, hidden_size=48, num_attention_heads=4)
    assert "sink" not in predictor.predict(shape, [64]).attrs["caution"]


def test_what_is_no_wiring_is_refused_with_the_list(family):
    predictor = Predictor().fit(family)
    shape = predictor.architecture(num_hidden_layers=3, hidden_size=48, num_attention_heads=4)
    with pytest.raises(UsageError, match=r"'attention' = 'sinks' is no wiring; those that there are: residual: "):
        predictor.predict(shape, wiring={"attention": "sinks"})
    assert as_wiring({}) == Wiring()
    assert len(WIRING) == sum(len(levels) - 1 for levels in LEVELS.values())


def test_a_model_of_another_recipe_is_not_taken_for_the_plain_one(tmp_path):
    """What a feature tells stays: the learning rate, and with it the length of a run and the tokens of a step."""
    recipes = {
        "plain": {}, "decay": {"weight_decay": 0.0}, "muon": {"optimizer": "muon", "muon_learning_rate": 0.008},
        "bare": {"bos": False}, "rate": {"learning_rate": 0.002}, "batch": {"batch_size": 8},
    }  # fmt: skip
    runs = {f"{name}_s{seed}": ({}, {}, recipe, 20.0, 3.0) for name, recipe in recipes.items() for seed in range(2)}
    write_wired(tmp_path, {**runs, "plain_s2": ({}, {}, {}, 20.0, 3.0)})
    table = curve_table(madyn.open_dataset(tmp_path))
    assert {name.partition("_")[0] for name in table.subjects} == {"plain", "rate", "batch"}
    assert set(table.losses) == set(table.subjects)
    because = "another recipe than most have: "
    assert table.left_out["decay_s0"] == f"{because}weight_decay 0.0"
    assert table.left_out["bare_s1"] == f"{because}bos false"
    said = Predictor().fit(tmp_path).caution()
    assert f"Left out are 6 models: bare_s0, bare_s1 ({because}bos false); decay_s0, decay_s1 (" in said
    assert f"muon_s0, muon_s1 ({because}optimizer muon, muon_learning_rate 0.008)" in said


def test_a_plain_model_is_found_where_each_departs_in_something_else(tmp_path):
    """By its name the first one is `gated`, and each wiring has as many models as another."""
    wirings = {"gated": {"output_gate": "headwise"}, "plain": {}, "sunk": {"attention": "sink"}}
    base = {"norm": "rmsnorm", "activation": "swiglu"}
    write_wired(tmp_path, {name: ({}, {**base, **wiring}, {}, 20.0, 3.0) for name, wiring in wirings.items()})
    assert Predictor().fit(tmp_path).wiring == Wiring(norm="rmsnorm", activation="swiglu")
    two = madyn.open_dataset(tmp_path).select(["gated", "plain"])
    assert Predictor().fit(two).wiring == Wiring(norm="rmsnorm", activation="swiglu")


def test_what_does_not_vary_among_some_models_tells_nothing_of_the_others(tmp_path):
    """The mean of so many equal numbers is another one, by a rounding, which a deviation of 1e-16 made much of."""
    runs = {f"m{n}": ({"num_hidden_layers": 2 + n % 2}, {}, {"learning_rate": 0.01}, 20.0, 3.0) for n in range(11)}
    runs["slow"] = ({}, {}, {"learning_rate": 0.002}, 20.0, 3.0)
    table = curve_table(madyn.open_dataset(write_wired(tmp_path, runs)))
    usual = (table.rows["model"] != "slow").to_numpy()
    part = table.take(usual)
    column = table.features.index("learning rate")
    assert part.rows["learning rate"].to_numpy().std() > 0
    inputs = Inputs(part)
    assert (inputs(part.rows)[:, column] == 0).all()
    np.testing.assert_allclose(inputs(table.rows.loc[~usual])[:, column], np.log2(0.2))
