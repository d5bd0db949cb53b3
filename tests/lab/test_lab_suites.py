"""Suite files, blueprints and designs: what can be declared, and what is said of what cannot."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

import madyn
from madyn.architecture import Architecture
from madyn.errors import UsageError
from madyn.lab import Design, LabSuite, ModelEntry, Recipe, read_suite
from madyn.lab.blueprints import _KINDS, Blueprint, build_model
from madyn.lab.costs import suite_costs
from madyn.lab.designs import coordinates, draw_design, largest_correlation, spread_out
from madyn.lab.running import training_flops
from madyn.lab.suites import design_correlation, suite_from_dict

SHAPE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
FACTORS: dict[str, Any] = {
    "hidden_size": [32, 64, 128],
    "num_hidden_layers": [2, 4, 6, 8],
    "num_attention_heads": [1, 2, 4, 8],
    "mlp_ratio": [1, 2, 4, 8],
}


@pytest.mark.parametrize("wiring", _KINDS, ids=" ".join)
def test_every_wiring_is_a_model_of_transformers_that_is_what_it_says(wiring):
    residual, norm, placement, activation = wiring
    rotary = 1.0 if _KINDS[wiring].rotates_whole_heads else 0.25
    blueprint = Blueprint(
        **SHAPE, intermediate_size=96, rotary_pct=rotary, residual=residual, norm=norm, norm_placement=placement,
        activation=activation,
    )  # fmt: skip
    model = build_model(blueprint, 0, vocab_size=300, length=24, bos_token_id=0)
    assert type(model).__module__.startswith("transformers.")
    shape = Architecture.from_config(model.config)
    assert shape.num_hidden_layers == 2
    assert shape.hidden_size == 32
    assert shape.num_attention_heads == 2
    assert shape.intermediate_size == 96
    assert shape.rotary_pct == rotary
    kinds = Counter(type(m).__name__.lower() for m in model.modules())
    assert any(("rmsnorm" in name) == (norm == "rmsnorm") for name in kinds if "norm" in name)
    norms_a_layer = sum(n for name, n in kinds.items() if "norm" in name) // 2
    assert norms_a_layer == 4 if placement == "sandwich" else norms_a_layer in (1, 2)
    gated = [name for name, _ in model.named_modules() if "gate" in name.rsplit(".", 1)[-1]]
    assert bool(gated) == (activation == "swiglu")
    ids = torch.arange(20)[None]
    assert madyn.measure(model, ids).shape == (1, 4, 2)
    # A parallel MLP does not see what attention has added: it may be computed first.
    hidden = {}
    layer = next(m for name, m in model.named_modules() if name.endswith("layers.0"))
    mlp = next(m for name, m in layer.named_modules() if name.endswith("mlp"))
    attention = next(m for name, m in layer.named_modules() if name.endswith(("attention", "self_attn")))
    mlp.register_forward_pre_hook(lambda module, inputs: hidden.__setitem__("mlp", inputs[0].detach().clone()))
    model(ids)
    first = hidden["mlp"]
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.add_(0.1)
    model(ids)
    assert torch.equal(first, hidden["mlp"]) == (residual == "parallel")


def test_a_seed_gives_the_same_weights():
    blueprint = Blueprint(**SHAPE, intermediate_size=64)
    one, two, other = (build_model(blueprint, seed, 300, 24, 0).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_attention_heads": 3}, "does not divide hidden_size 32; it may be 1, 2, 4, 8, 16, 32"),
        ({"num_attention_heads": 8}, r"it would rotate 1 of the 4 features of a head"),
        ({"rotary_pct": 0.0}, "rotary_pct is 0.0"),
        ({"norm": "rmsnorm"}, "no class of transformers has the wiring parallel, rmsnorm, pre, gelu"),
        ({"norm": "rmsnorm", "residual": "sequential", "activation": "swiglu"}, "llama rotates whole heads"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    ],
)
def test_what_cannot_be_built_is_refused(change, said):
    with pytest.raises(UsageError, match=said):
        Blueprint(**{**SHAPE, "intermediate_size": 64, **change})


def test_names_tell_blueprints_apart():
    names = {
        Blueprint(**SHAPE, intermediate_size=64).name,
        Blueprint(**SHAPE, intermediate_size=64, residual="sequential").name,
        Blueprint(**SHAPE, intermediate_size=64, rotary_pct=0.5).name,
        Blueprint(**SHAPE, intermediate_size=64, activation="swiglu").name,
        Blueprint(**SHAPE, intermediate_size=64, activation="swiglu", residual="sequential").name,
    }
    assert len(names) == 5


def test_a_design_spreads_and_does_not_confound():
    drawn = draw_design(FACTORS, {}, 40, seed=0)
    assert len(set(drawn)) == 40
    assert drawn == draw_design(FACTORS, {}, 40, seed=0)
    assert drawn != draw_design(FACTORS, {}, 40, seed=1)
    points = [{**b.to_dict(), "mlp_ratio": b.intermediate_size // b.hidden_size} for b in drawn]
    assert largest_correlation(coordinates(points, FACTORS)) < 0.15
    for name, levels in FACTORS.items():
        counts = Counter(point[name] for point in points)
        assert set(counts) == set(levels)
        assert max(counts.values()) < 2 * 40 / len(levels)


def test_a_design_may_have_factors_that_are_not_numbers():
    factors = {"residual": ["parallel", "sequential"], "activation": ["gelu", "swiglu"], "hidden_size": [16, 32]}
    drawn = draw_design(factors, {"num_hidden_layers": 2, "num_attention_heads": 2}, 8, seed=0)
    assert Counter(b.wiring for b in drawn).most_common() == [(w, 2) for w in dict.fromkeys(b.wiring for b in drawn)]


def test_points_far_apart():
    places = np.array([[0.0], [0.1], [0.5], [0.9], [1.0]])
    assert spread_out(places, 3)[0] == 2
    assert set(spread_out(places, 3)) == {0, 2, 4}
    assert len(spread_out(places, 9)) == 5
    assert spread_out(places, 0) == []


def test_a_design_repeats_some_of_its_architectures():
    suite = LabSuite(name="s", design=Design(count=12, factors=FACTORS, repeated=4, repeats=3))
    runs = suite.runs()
    assert len(runs) == 12 + 4 * 2
    seeds = Counter(run.blueprint for run in runs)
    assert sorted(seeds.values()) == [1] * 8 + [3] * 4
    assert len(LabSuite(name="s", design=Design(count=12, factors=FACTORS)).runs()) == 12
    assert design_correlation(runs) < 0.3


BASE = {"name": "s", "model": [SHAPE]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": 1}, "colour: unknown key; known here: name, recipe, text, measure, model, design"),
        ({"recipe": {"stepps": 1}}, "recipe.stepps: unknown key; known here: steps, batch_size, length, optimizer"),
        ({"model": [{**SHAPE, "depth": 1}]}, "model.0.depth: unknown key; known here: hidden_size"),
        ({"model": [{"hidden_sise": 32}]}, "model.0.hidden_sise: unknown key; known here: hidden_size"),
        ({"recipe": {"steps": "many"}}, "recipe.steps: input should be a valid integer, found 'many'"),
        ({"recipe": {"steps": 3.5}}, "recipe.steps: input should be a valid integer"),
        ({"recipe": {"schedule": "step"}}, "recipe.schedule: input should be 'cosine', 'linear' or 'constant'"),
        ({"recipe": {"learning_rate": 0}}, "recipe: learning_rate is 0.0, which is out of range"),
        ({"model": [{"hidden_size": 32}]}, "model.0.num_hidden_layers: is missing"),
        ({"model": [{**SHAPE, "norm": "batch"}]}, "model.0.norm: input should be 'layernorm' or 'rmsnorm'"),
        ({"model": []}, "the suite has no architectures"),
        ({"measure": {"steps": [0, 5000]}}, "a step to measure at is 5000, and the run goes from 0 to 2000"),
        ({"measure": {"sequences": 0}}, "measure: sequences is 0; it is from 1"),
        ({"text": {"vocab_size": 100}}, "text: vocab_size is 100"),
        ({"design": {"count": 3}}, "design.factors: is missing"),
        (
            {"design": {"count": 3, "factors": {"depth": [1]}}},
            "design: depth is no field of an architecture; they",
        ),
        ({"design": {"count": 3, "factors": {"hidden_size": [1.5]}}}, "design: a level of hidden_size is 1.5: input"),
        (
            {"design": {"count": 3, "factors": {"norm": ["layernorm", "rms"]}}},
            "design: a level of norm is 'rms': input should be 'layernorm' or 'rmsnorm'",
        ),
        (
            {"design": {"count": 3, "factors": {"rotary_pct": [1.0]}, "fixed": {"rotary_pct": 1.0}}},
            "design: rotary_pct is among the factors and among what is fixed",
        ),
        ({"model": [{**SHAPE, "name": "../evil"}]}, "model.0: '../evil' cannot be a model's directory"),
        ({"model": [{**SHAPE, "seeds": []}]}, "model.0: 0 seeds; an architecture has from 1"),
        ({"recipe": {"clip": float("inf")}}, "recipe: clip is inf, which is out of range"),
        ({"design": {"count": 0, "factors": {"hidden_size": [8]}}}, "design: a design needs factors"),
    ],
)
def test_a_wrong_suite_is_refused_with_the_key_and_what_may_stand_there(change, said):
    with pytest.raises(UsageError) as caught:
        suite_from_dict({**BASE, **change})
    assert str(caught.value).startswith(f"suite: {said}")


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([{**SHAPE, "num_attention_heads": 3}], "model 0 of s .*: num_attention_heads is 3, which does not divide"),
        ([SHAPE, SHAPE], "two models of s are called neox_2x32_h2_m128_s0"),
        ([{**SHAPE, "mlp_ratio": float("nan")}], "the MLP's width is nan"),
        ([{**SHAPE, "mlp_ratio": 1.01}], "mlp_ratio is 1.01, and hidden_size 32: the MLP's width is 32.32"),
        ([{**SHAPE, "mlp_ratio": 2.0, "intermediate_size": 64}], "give mlp_ratio or intermediate_size, not both"),
    ],
)
def test_models_that_cannot_be_are_refused(models, said):
    with pytest.raises(UsageError, match=said):
        suite_from_dict({**BASE, "model": models}).runs()


@pytest.mark.parametrize(
    ("design", "said"),
    [
        ({"count": 9, "factors": {"hidden_size": [32], "num_hidden_layers": [1, 2], "num_attention_heads": [1]}},
         "asks for 9 architectures, and its levels give 2"),
        ({"count": 1, "factors": {"hidden_size": [32]}}, "none of its combinations can be built; of the last: a model "
         "needs num_hidden_layers, num_attention_heads"),
        ({"count": 1, "factors": {"hidden_size": []}}, "factor hidden_size has no levels"),
        ({"count": 1, "factors": {"hidden_size": [32, 32]}}, "its levels must differ"),
        ({"count": 1, "factors": {"hidden_size": [32, 64], "num_attention_heads": [2, 5]}, "fixed":
          {"num_hidden_layers": 2}}, "factor num_attention_heads: no shape can be built with 5"),
        ({"count": 1, "factors": {name: list(range(1, 40)) for name in FACTORS}}, "combinations; at most"),
    ],
)  # fmt: skip
def test_designs_that_cannot_be_are_refused(design, said):
    suite = suite_from_dict({"name": "s", "design": design})
    with pytest.raises(UsageError, match=said):
        suite.runs()


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="no such folder or file; suites that come with madyn are control-suite, tiny"):
        read_suite(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(UsageError, match="not a TOML file"):
        read_suite(tmp_path / "bad.toml")


def test_a_suite_file_is_read(tmp_path):
    (tmp_path / "s.toml").write_text(
        'name = "s"\n[recipe]\nsteps = 7\nlearning_rate = 1\n[[model]]\nhidden_size = 32\nnum_hidden_layers = 2\n'
        "num_attention_heads = 2\nseeds = [4]\n"
    )
    suite = read_suite(tmp_path / "s.toml")
    assert suite == LabSuite(
        name="s", recipe=Recipe(steps=7, learning_rate=1.0), model=[ModelEntry(**SHAPE, seeds=[4])]
    )
    assert [run.name for run in suite.runs()] == ["neox_2x32_h2_m128_s4"]
    assert suite.measured_steps[-1] == 7


def test_costs_count_parameters_and_operations():
    suite = LabSuite(
        name="s", recipe=Recipe(steps=2, batch_size=2, length=16), model=[ModelEntry(**SHAPE, seeds=[0, 1])]
    )
    costs = suite_costs(suite)
    assert len(costs) == 2
    model = build_model(costs[0].run.blueprint, 0, 1024, 16, 0)
    assert costs[0].parameters == sum(p.numel() for p in model.parameters())
    # By hand: 2 layers of 4 d^2 + 2 d f, and the head; 6 operations each, and attention's.
    weights = 2 * (4 * 32 * 32 + 2 * 32 * 128) + 1024 * 32
    assert costs[0].flops == training_flops(costs[0].run, suite, 1024) == (6 * weights + 12 * 2 * 32 * 16) * 2 * 2 * 16
    assert costs[0].seconds > 0


def test_tiny_suite_is_declared_as_it_was_promised():
    suite = read_suite("tiny-suite")
    runs = suite.runs()
    shapes = {
        (b.hidden_size, b.num_hidden_layers, b.num_attention_heads, b.intermediate_size)
        for b in (run.blueprint for run in runs)
    }
    assert len(shapes) >= 40
    assert len({json.dumps(run.blueprint.to_dict()) for run in runs}) == len(shapes)
    assert sum(n >= 3 for n in Counter(run.blueprint for run in runs).values()) >= 6
    assert design_correlation(runs) < 0.2
    assert len(suite.measured_steps) >= 30
    assert {0, 1, 2, 4, 8, 16, 32, 64} <= set(suite.measured_steps)
