"""Remedies in a suite file: built, trained, measured and kept; and suites that have none are what they were."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import madyn
from madyn.dataset import layout
from madyn.dataset.training import hash_plan
from madyn.errors import UsageError
from madyn.lab import LabSuite, Measuring, ModelEntry, Recipe, TrainingText, read_suite, run_suite
from madyn.lab.blueprints import Blueprint, build_model
from madyn.lab.corpora import Corpus, prepare_corpus, probe_of
from madyn.lab.optimizers import make_optimizer
from madyn.lab.running import make_plan
from madyn.lab.suites import suite_from_dict
from madyn.lab.training import draw_batch, labels_of, losses_of, train, update
from madyn.sweep import trace
from tiny import TEXT

SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA: dict[str, Any] = {
    **SIZES, "rotary_pct": 1.0, "residual": "sequential", "norm": "rmsnorm", "activation": "swiglu"
}  # fmt: skip
HASHES = [("neox_2x16_h2_m64_s0", "1cac4af96cea68cf"), ("glm4_2x16_h2_m64_r1_s0", "b44a49e2f27f8fc1")]
TINY = "264c098cdd8e9fe1"

RECIPE = Recipe(steps=20, batch_size=4, length=16)
STEPS = [0, 1, 10, 20]


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text(TEXT)
    return str(path)


def suite_on(book, *entries, recipe=RECIPE):
    return LabSuite(
        name="test",
        recipe=recipe,
        text=TrainingText(source=book, vocab_size=300),
        measure=Measuring(source=book, steps=STEPS, sequences=3, loss_sequences=5),
        model=list(entries),
    )


def entry(name, recipe=None, **wiring):
    content = {"name": name, **LLAMA, **wiring, **({"recipe": recipe} if recipe else {})}
    return suite_from_dict({"name": "s", "model": [content]}).model[0]


def test_suites_without_remedies_are_what_they_were():
    """Names and hashes of plans, as they were before there were remedies: a record of then is gone on with."""
    suite = LabSuite(
        name="s",
        recipe=Recipe(steps=30, batch_size=4, length=16),
        model=[ModelEntry(**SIZES), ModelEntry(**LLAMA, norm_placement="sandwich")],
    )
    corpus = Corpus(Path("tokens"), {}, 300, 0, {"source": "x"})
    plans = [make_plan(suite, run, corpus, 1, "cpu") for run in suite.runs()]
    assert [(run.name, hash_plan(plan)[:16]) for run, plan in zip(suite.runs(), plans, strict=True)] == HASHES
    tiny = read_suite("tiny-suite")
    said = [run.name + hash_plan(make_plan(tiny, run, replace(corpus, record={}), 1, "cpu")) for run in tiny.runs()]
    assert hashlib.sha256("".join(said).encode()).hexdigest()[:16] == TINY


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attention": "softmax2"}, "model.0.attention: input should be 'softmax', 'softmax1', 'sink', 'key_bias', "),
        ({"output_gate": "both"}, "model.0.output_gate: input should be 'none', 'headwise' or 'elementwise'"),
        ({"recipe": {"optimizer": "lion"}}, "model.0.recipe.optimizer: input should be 'adamw', 'sgd' or 'muon'"),
        ({"recipe": {"rate": 1.0}}, "model.0.recipe.rate: unknown key; known here: batch_size, length, optimizer,"),
        ({"recipe": {"steps": 5}}, "model.0.recipe.steps: unknown key"),
        ({"recipe": {"registers": 1.5}}, "model.0.recipe.registers: input should be a valid integer"),
    ],
)
def test_an_unknown_value_is_refused_with_those_that_there_are(change, said):
    with pytest.raises(UsageError) as caught:
        suite_from_dict({"name": "s", "model": [{**LLAMA, **change}]})
    assert str(caught.value).startswith(f"suite: {said}")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({**SIZES, "attention": "sink"}, "attention is sink, and neox has it as softmax alone; wirings that take it: "
         "sequential, rmsnorm, pre, swiglu; sequential, rmsnorm, pre, gelu; "),
        ({**SIZES, "norm_gain": "scalar"}, "norm_gain is scalar, and neox has it as vector alone"),
        ({**LLAMA, "activation": "gelu", "qk_norm": "rmsnorm"}, "only this wiring has a class with it: sequential, "
         "rmsnorm, pre, swiglu"),
        ({**LLAMA, "intermediate_size": 3, "output_gate": "elementwise", "match_parameters": True}, "match_parameters: "
         "an MLP of 3 is not wide enough to give up what output_gate add"),
        ({**LLAMA, "recipe": {"learning_rate": -1.0}}, "learning_rate is -1.0, which is out of range"),
        ({**LLAMA, "recipe": {"registers": -1}}, "registers is -1"),
        ({**LLAMA, "recipe": {"tweo_power": 0.5}}, "tweo_power is 0.5, which is out of range"),
    ],
)  # fmt: skip
def test_what_no_class_can_build_is_refused_with_what_can(entry, said):
    with pytest.raises(UsageError, match=said):
        suite_from_dict({"name": "s", "model": [entry]}).runs()


def test_a_name_tells_each_wiring_apart():
    wirings = [
        {}, {"attention": "sink"}, {"attention": "softmax1"}, {"output_gate": "headwise"}, {"norm_gain": "scalar"},
        {"activation": "gelu"}, {"activation": "relu2"}, {"qk_norm": "rmsnorm"}, {"match_parameters": True},
    ]  # fmt: skip
    names = [Blueprint(**{**LLAMA, "intermediate_size": 64, **wiring}).name for wiring in wirings]
    assert len(set(names)) == len(names)
    assert names[0] == "llama_2x16_h2_m64"


@pytest.fixture(scope="module")
def remedied(book, tmp_path_factory):
    """Five models of one suite, their checkpoints kept."""
    out = tmp_path_factory.mktemp("lab") / "out"
    suite = suite_on(
        book,
        entry("plain"),
        entry("gated", attention="sink", output_gate="elementwise", match_parameters=True),
        entry("short", recipe={"length": 8, "batch_size": 8}, attention="softpick"),
        entry("bare", recipe={"bos": False}),
        entry("muon", recipe={"optimizer": "muon", "tweo": 0.01}, value_norm="rmsnorm"),
    )
    report = run_suite(suite, out, jobs=1, keep_weights=True)
    assert not report.failures
    return suite, out


def test_each_model_is_trained_by_its_own_recipe_and_the_record_says_so(remedied):
    _, out = remedied
    data = madyn.open_dataset(out)
    records = {model: record for model in data if (record := data.training(model))}
    plans = {model.removesuffix("_s0"): record.plan for model, record in records.items()}
    assert "bos" not in plans["plain"]["recipe"]
    assert "attention" not in plans["plain"]["blueprint"]
    assert plans["bare"]["recipe"]["bos"] is False
    assert plans["muon"]["recipe"] == {**plans["plain"]["recipe"], "optimizer": "muon", "tweo": 0.01}
    assert plans["gated"]["blueprint"] == {
        **plans["plain"]["blueprint"], "attention": "sink", "output_gate": "elementwise", "match_parameters": True
    }  # fmt: skip
    assert data.architecture("gated_s0").intermediate_size == 59
    assert abs(data.parameter_count("gated_s0") / data.parameter_count("plain_s0") - 1) < 0.01
    units = {m: json.loads(layout.manifest_path(out, f"{m}_s0", 20).read_text()) for m in plans}
    assert {m: unit["length"] for m, unit in units.items()} == {**dict.fromkeys(plans, 16), "short": 8}
    assert units["bare"]["first_token"] != units["plain"]["first_token"]
    for record in records.values():
        losses = [one["held_out"] or np.nan for one in record.losses.values()]
        assert losses[-1] < losses[0] - 0.3
    assert madyn.checking.check_dataset(out).faults == []


def test_tracing_kept_weights_of_remedied_models_gives_the_same_bytes(remedied, tmp_path):
    suite, out = remedied
    torch.set_num_threads(1)
    runs = {run.name: run for run in suite.runs()}
    for name in ("gated_s0", "short_s0", "bare_s0", "muon_s0"):
        traced = tmp_path / name
        report = trace(out / "checkpoints" / name, traced, probe=probe_of(suite, runs[name].recipe))
        assert not report.failures
        for step in STEPS:
            ours, theirs = (layout.statistics_path(root, name, step) for root in (out, traced))
            assert ours.read_bytes() == theirs.read_bytes()


def test_registers_stand_before_the_text_and_are_not_predicted(book, tmp_path):
    suite = suite_on(book, entry("plain"), entry("registered", recipe={"registers": 2}))
    with pytest.raises(UsageError, match="the weights of registered_s0 cannot be kept"):
        run_suite(suite, tmp_path / "kept", keep_weights=True)
    report = run_suite(suite, tmp_path / "out", jobs=1)
    assert not report.failures
    corpus = prepare_corpus(suite, tmp_path / "out")
    plain, registered = (run.recipe for run in suite.runs())
    for windows in (corpus.probe, corpus.held_out):
        assert windows(registered)[:, :2].tolist() == [[300, 301]] * len(windows(registered))
        assert np.array_equal(windows(registered)[:, 2:], windows(plain))
    data = torch.arange(500)
    with_them, without = (draw_batch(data, recipe, 0, 3, 0, 300) for recipe in (registered, plain))
    assert torch.equal(with_them[:, 2:], without)
    labels = labels_of(with_them, registered)
    assert (labels[:, :3] == -100).all()
    assert torch.equal(labels[:, 3:], without[:, 1:])
    opened = report.open()
    assert opened.architecture("registered_s0").vocab_size == 302
    unit = json.loads(layout.manifest_path(tmp_path / "out", "registered_s0", 20).read_text())
    assert unit["length"] == 18  # measured with them: the largest value may stand at one


def test_without_bos_the_same_tokens_are_predicted(book, tmp_path):
    suite = suite_on(book, entry("plain"), entry("bare", recipe={"bos": False}))
    corpus = prepare_corpus(suite, tmp_path)
    plain, bare = (run.recipe for run in suite.runs())
    assert np.array_equal(corpus.held_out(plain)[:, 1:], corpus.held_out(bare)[:, 1:])
    assert set(corpus.held_out(plain)[:, 0]) == {corpus.bos_token_id}
    assert corpus.bos_token_id not in corpus.probe(bare)[:, 0]
    data = torch.arange(100, 600)
    with_it, without = (draw_batch(data, recipe, 0, 3, 7) for recipe in (plain, bare))
    assert torch.equal(with_it[:, 1:], without[:, 1:])
    assert (without[:, 1] - without[:, 0]).tolist() == [1] * 4  # the token before, in the text


def blueprint(**wiring):
    return Blueprint(**{**LLAMA, "intermediate_size": 32, **wiring})


def test_tweo_adds_its_penalty_to_what_is_learned_and_not_to_what_is_reported():
    recipe = replace(RECIPE, tweo=0.5, tweo_threshold=0.1, tweo_power=4.0)
    model = build_model(blueprint(), 0, 300, 16, 0)
    batch = torch.randint(300, (4, 16), generator=torch.Generator().manual_seed(0))
    loss, penalty = losses_of(model, recipe, batch)
    kept = {}
    hook = model.model.layers[-1].register_forward_hook(lambda m, i, o: kept.update(last=o))
    with torch.no_grad():
        first = model.model(batch, output_hidden_states=True).hidden_states[1]
    hook.remove()
    expected = torch.stack([((h.abs() / 0.1) ** 4).mean() for h in (first, kept["last"])]).mean()
    torch.testing.assert_close(penalty, expected)
    plain = losses_of(model, RECIPE, batch)
    assert plain[1] is None
    assert torch.equal(plain[0], loss)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    fine = replace(recipe, clip=1e9, schedule="constant", warmup=0.0, learning_rate=0.01)
    assert penalty is not None
    gradients = torch.autograd.grad(loss + 0.5 * penalty, list(model.parameters()))
    assert update(model, optimizer, fine, 5, batch) == float(loss.detach())
    for (name, now), gradient in zip(model.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(now, start[name] - 0.01 * gradient)


def test_muon_moves_the_matrices_of_layers_and_adamw_the_rest():
    recipe = replace(RECIPE, optimizer="muon", muon_learning_rate=0.05, weight_decay=0.0)
    model = build_model(blueprint(output_gate="headwise", attention="key_bias"), 0, 300, 16, 0)
    optimizer = make_optimizer(model, recipe)
    names = {id(p): name for name, p in model.named_parameters()}
    muon, adamw = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert {name.split("layers.0.")[-1] for name in muon if "layers.0." in name} == {
        "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight",
        "self_attn.gate.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight",
    }  # fmt: skip
    assert {"model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.key_bias"} <= adamw
    assert len(muon) + len(adamw) == len(names)
    before = model.model.layers[0].self_attn.q_proj.weight.detach().clone()
    update(model, optimizer, recipe, 10, torch.randint(300, (4, 16), generator=torch.Generator().manual_seed(0)))
    moved = model.model.layers[0].self_attn.q_proj.weight.detach() - before
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates[0] / rates[1] == pytest.approx(5.0)
    singular = torch.linalg.svdvals(moved.double()) / (rates[0] * 0.2 * 16**0.5)
    assert 0.5 < singular.median() < 1.3  # Newton-Schulz brings them near 1


@pytest.mark.parametrize("recipe", [{"optimizer": "muon"}, {"tweo": 0.01}, {"registers": 2, "bos": False}])
def test_a_run_of_any_recipe_goes_on_to_the_same_weights(book, tmp_path, recipe, monkeypatch):
    monkeypatch.setattr("madyn.lab.training._SECONDS_UNSAVED", -1.0)
    suite = suite_on(book, entry("one", recipe=recipe, attention="sink"))
    corpus, run = prepare_corpus(suite, tmp_path), suite.runs()[0]

    def go(state, stop=None):
        model = build_model(run.blueprint, 0, 310, 20, 0)

        def on_step(step):
            if step == stop:
                raise KeyboardInterrupt

        try:
            train(
                model, run.recipe, np.load(corpus.tokens), bos_token_id=0, seed=0, stop_at=STEPS, state=state,
                on_stop=lambda step, loss: None, on_step=on_step, first_register=300,
            )  # fmt: skip
        except KeyboardInterrupt:
            return {}
        return model.state_dict()

    whole = go(tmp_path / "a.pt")
    assert go(tmp_path / "b.pt", 13) == {}
    rest = go(tmp_path / "b.pt")
    assert all(torch.equal(whole[k], rest[k]) for k in whole)


def test_a_remedy_whose_run_diverges_is_recorded_and_the_others_go_on(book, tmp_path):
    suite = suite_on(
        book,
        entry("plain"),
        entry("broken", attention="sigmoid", recipe={"optimizer": "sgd", "learning_rate": 1e30, "clip": 1e30}),
    )
    report = run_suite(suite, tmp_path, jobs=1)
    assert report.trained == ["plain_s0"]
    assert list(report.failures) == ["broken_s0"]
    record = madyn.open_dataset(tmp_path).training("broken_s0")
    assert record is not None
    assert record.failure
    assert not record.complete


def test_control_suite_is_declared_as_it_was_promised():
    suite = read_suite("control-suite")
    runs = suite.runs()
    names = list(dict.fromkeys(run.name.rsplit("_s", 1)[0] for run in runs))
    assert names[0] == "plain"
    assert len(names) >= 11
    assert all([run.seed for run in runs if run.name.rsplit("_s", 1)[0] == name] == [0, 1, 2, 3] for name in names)
    assert len({(run.blueprint, run.recipe) for run in runs}) == len(names)
    tokens = {run.recipe.batch_size * run.recipe.length for run in runs}
    assert tokens == {2048}
    assert len(suite.measured_steps) >= 30


def test_every_entry_of_control_suite_learns():
    runs = [run for run in read_suite("control-suite").runs() if run.seed == 0]
    plain = None
    for run in runs:
        recipe = replace(run.recipe, batch_size=2)
        model = build_model(run.blueprint, 0, 1024 + recipe.registers, recipe.positions, 0)
        plain = plain or model.num_parameters()
        assert abs(model.num_parameters() / plain - 1) < 0.002, run.name
        optimizer = make_optimizer(model, recipe)
        data = torch.arange(1, 1000)
        batches = [draw_batch(data, recipe, 0, step, 0, 1024) for step in range(2)]
        losses = [update(model, optimizer, recipe, step, batch) for step, batch in enumerate(batches)]
        assert np.isfinite(losses).all(), run.name
        assert losses[0] == pytest.approx(np.log(1024), abs=0.3), run.name
