"""A monitor in a loop of one's own: what it writes, what it leaves alone, and what it refuses."""

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import madyn
from madyn import Monitor, open_dataset
from madyn.checking import check_dataset
from madyn.dataset import layout, manifest
from madyn.dataset.monitoring import read_monitor
from madyn.errors import ProbeMismatchError, UsageError
from madyn.lab.tokenizer import train_tokenizer
from madyn.monitor.schedule import read_schedule
from madyn.settings import Probe, Settings
from tiny import SENTENCES
from training_runs import LENGTH, VOCAB, batches, build, require_same, train

PROBE = torch.cat(batches(1, seed=9))
STEPS = 20


def _tokenizer():
    return train_tokenizer(SENTENCES, 300)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run that was watched to its end: its dataset, and what it gave."""
    root = tmp_path_factory.mktemp("watched") / "dataset"
    with Monitor(root, PROBE, every="log2+5", last_step=STEPS, name="run") as monitor:
        return root, train(build(), STEPS, monitor)


def test_a_run_is_the_same_to_the_bit_with_a_monitor(watched):
    require_same(watched[1]["state"], train(build(), STEPS)["state"])


def test_the_dataset_is_the_one_that_measuring_by_hand_gives(watched):
    root, _ = watched
    dataset = open_dataset(root)
    assert list(dataset) == ["run"]
    assert dataset.steps("run") == [0, 1, 2, 4, 5, 10, 15, 20]
    by_hand = build()
    np.testing.assert_array_equal(dataset.statistics("run").sel(step=0), madyn.measure(by_hand, PROBE))
    train(by_hand, STEPS)
    np.testing.assert_array_equal(dataset.statistics("run").sel(step=STEPS), madyn.measure(by_hand, PROBE))
    unit = dataset.units("run")[10]
    assert unit.architecture["num_hidden_layers"] == 2
    assert unit.parameters == sum(p.numel() for p in by_hand.parameters())
    assert check_dataset(root).faults == []


def test_everything_that_reads_a_dataset_reads_it(watched, tmp_path):
    fits = madyn.fit_dataset(watched[0], out=tmp_path / "fitted")
    assert len(fits.parameters) == 2
    ahead = madyn.forecast(watched[0], "run", at=5, last_step=STEPS)
    assert (ahead.sizes["layer"], ahead["step"].values.tolist()) == (2, [10, 15, 20])


def test_what_is_logged_has_the_names_that_are_documented(watched):
    root, found = watched
    dataset = open_dataset(root)
    last = found["logged"][STEPS]
    ratio = dataset.trajectories("run", "ratio").sel(step=STEPS).values
    assert last["massive/ratio/layer_01"] == pytest.approx(ratio[1], rel=1e-6)
    assert last["massive/largest_ratio"] == pytest.approx(ratio.max(), rel=1e-6)
    assert last["massive/largest_ratio_layer"] == ratio.argmax()
    assert 0 <= last["massive/position"] < LENGTH
    assert last["massive/token"] in PROBE[:, int(last["massive/position"])]
    assert "massive/forecast/final_ratio" not in last  # nothing is left to forecast
    halfway = found["logged"][10]
    low, middle, high = (halfway[f"massive/forecast/final_ratio{end}"] for end in ("_lower", "", "_upper"))
    assert low < middle < high
    assert all(isinstance(value, (int, float)) for value in halfway.values())
    documented = (Path(__file__).parents[2] / "docs" / "monitor.md").read_text()
    for name in halfway:
        family = "massive/ratio/layer_07" if name.startswith("massive/ratio/") else name
        assert family.removesuffix("_lower").removesuffix("_upper") in documented, name


def test_the_record_says_how_far_the_run_is(watched):
    record = read_monitor(watched[0], "run")
    assert record is not None
    assert (record.state, record.step, record.last_step, record.every) == ("ended", STEPS, STEPS, "log2+5")
    assert record.inputs == f"given token ids: 4 sequences of {LENGTH} tokens"
    assert 0 < record.measuring_seconds < 60
    assert record.alerts == []


def test_without_a_probe_the_first_batch_serves_and_is_kept(tmp_path):
    first = batches(3)[0]
    with Monitor(tmp_path / "d", every=2, name="run") as monitor:
        logged = train(build(), 3, monitor)["logged"]
    assert list(logged) == [0, 2]
    record, dataset = read_monitor(tmp_path / "d", "run"), open_dataset(tmp_path / "d")
    assert record is not None
    assert record.inputs == f"the first batch seen: 4 sequences of {LENGTH} tokens"
    np.testing.assert_array_equal(dataset.statistics("run").sel(step=0), madyn.measure(build(), first))
    np.testing.assert_array_equal(np.load(layout.monitor_inputs_path(tmp_path / "d")), first)
    with Monitor(tmp_path / "d", every=2, name="other") as monitor:  # another run is measured on the same
        train(build(seed=5), 3, monitor)
    np.testing.assert_array_equal(
        open_dataset(tmp_path / "d").statistics("other").sel(step=0), madyn.measure(build(seed=5), first)
    )


def test_padding_of_the_first_batch_is_not_measured(tmp_path):
    ids = batches(1)[0]
    mask = torch.ones_like(ids)
    mask[0, :4] = 0  # before
    mask[1, -6:] = 0  # after
    mask[2, 3:] = 0  # too short to count
    with Monitor(tmp_path / "d", every=1, name="run") as monitor:
        monitor.step(build(), 0, {"input_ids": ids, "attention_mask": mask})
    kept = np.load(layout.monitor_inputs_path(tmp_path / "d"))
    np.testing.assert_array_equal(kept, torch.stack([ids[0, 4:22], ids[1, :18], ids[3, :18]]))


def test_a_run_that_was_killed_goes_on_and_measures_nothing_twice(tmp_path):
    model, kept = build(), {}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = Monitor(tmp_path / "d", PROBE, every=5, name="run")
    train(model, 10, first, optimizer=optimizer)  # and no finish: it was killed
    first._run._held.close()  # pyright: ignore[reportOptionalMemberAccess]  # what the operating system does
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "d" / "run" / "stats").iterdir()}
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    again = Monitor(tmp_path / "d", PROBE, every=5, name="run", last_step=STEPS)
    model.load_state_dict(kept)
    logged = train(model, STEPS, again, begin=8, optimizer=optimizer)["logged"]  # from an earlier step than the last
    assert list(logged) == [15, 20]
    assert open_dataset(tmp_path / "d").steps("run") == [0, 5, 10, 15, 20]
    for path, when in before.items():
        assert path.stat().st_mtime_ns == when
    record = read_monitor(tmp_path / "d", "run")
    assert record is not None
    assert record.resumed == [8]


def test_a_run_that_begins_anew_with_the_same_weights_goes_on_and_with_others_is_refused(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), Monitor(tmp_path / "d", PROBE, every=5, name="run") as monitor:
        train(build(), 6, monitor)
        raise KeyboardInterrupt
    assert read_monitor(tmp_path / "d", "run").state == "running"  # pyright: ignore[reportOptionalMemberAccess]
    with pytest.raises(UsageError, match="holds a run run that began with other weights"):
        Monitor(tmp_path / "d", PROBE, every=5, name="run").step(build(seed=1), 0)
    with Monitor(tmp_path / "d", PROBE, every=5, name="run") as monitor:
        assert list(train(build(), 11, monitor)["logged"]) == [10]
    with pytest.raises(UsageError, match="holds a run run that ended at step 10, and this one begins at step 0"):
        Monitor(tmp_path / "d", PROBE, every=5, name="run").step(build(), 0)


def test_two_monitors_of_one_run_are_refused(tmp_path):
    with Monitor(tmp_path / "d", PROBE, name="run") as monitor:
        monitor.step(build(), 0)
        with pytest.raises(UsageError, match=r"another monitor watches run into .*: `finish\(\)` it, or"):
            Monitor(tmp_path / "d", PROBE, name="run").step(build(), 0)
        with pytest.raises(UsageError, match="this monitor watches run already"):
            monitor.begin(build())
        with Monitor(tmp_path / "d", PROBE, name="other") as other:
            assert other.step(build(), 0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"probe": PROBE[:2]}, ProbeMismatchError, "was measured on given inputs .*, and is to be on given inputs"),
        ({"probe": None, "model": {}}, ProbeMismatchError, "was measured on 'given': give that as the probe"),
        ({"model": {"num_hidden_layers": 3}}, UsageError, "another model: its num_hidden_layers is 2 and 3 here"),
        ({"sample": 2, "probe": None}, ProbeMismatchError, "training batches"),
    ],
)
def test_a_dataset_of_another_probe_or_model_is_refused_with_the_difference(tmp_path, change, error, message):
    with Monitor(tmp_path / "d", PROBE, every=1, name="run") as monitor:
        monitor.step(build(), 0)
    made = build(**change.pop("model", {}))
    with pytest.raises(error, match=message):
        Monitor(tmp_path / "d", **{"probe": PROBE, **change}, name="run").step(made, 1)
    assert open_dataset(tmp_path / "d").steps("run") == [0]


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (
            torch.zeros(2, LENGTH + 1, dtype=torch.long),
            f"have {LENGTH + 1} tokens, and the model's context is {LENGTH}",
        ),
        (torch.full((1, 8), VOCAB), f"token id {VOCAB} at position 0 of sequence 0: the embedding"),
        ("stdlib", "there is no tokenizer for it"),
        (torch.rand(3), r"inputs of shape \(3,\)"),
        (Probe("stdlib", length=99), "there is no tokenizer"),
    ],
)
def test_a_probe_that_does_not_fit_is_refused_before_anything_is_measured(tmp_path, probe, message):
    monitor = Monitor(tmp_path / "d", probe, name="run")
    with pytest.raises(UsageError, match=message):
        monitor.step(build(), 0)
    assert not (tmp_path / "d" / "run").exists()


def test_other_arguments_that_mean_nothing_are_refused(tmp_path):
    cases: Any = (
        ({"every": "often"}, "every is 'often'; it is \"log2\\+1000\""),
        ({"every": 0}, "every is 0"),
        ({"every": []}, "every is an empty list"),
        ({"sample": 0}, "sample"),
        ({"sample": 2, "probe": PROBE}, "give one"),
        ({"forecast": "always"}, "forecast is 'always'"),
        ({"name": "manifest"}, "manifest"),
    )
    for arguments, message in cases:
        with pytest.raises(UsageError, match=message):
            Monitor(tmp_path, **arguments)
    with pytest.raises(UsageError, match="the monitor has no probe: give it one"):
        Monitor(tmp_path / "d", name="run").step(build(), 0)


def test_a_dataset_that_cannot_be_written_costs_an_alert_and_is_written_later(tmp_path, caplog):
    told, root, model = [], tmp_path / "d", build()
    monitor = Monitor(root, PROBE, every=1, name="run", on_alert=told.append)
    monitor.step(model, 0)
    (root / "run").rename(tmp_path / "aside")
    (root / "run").write_text("a file where the folder was")
    with caplog.at_level(logging.WARNING, "madyn.monitor"):
        for step in (1, 2):
            train(model, 1)
            assert monitor.step(model, step)["massive/largest_ratio"] > 0
    assert [one.kind for one in told] == ["not_measured"]  # once, while it lasts
    assert "training goes on, and what was measured is written when that can be done" in caplog.text
    (root / "run").unlink()
    (tmp_path / "aside").rename(root / "run")
    train(model, 1)
    monitor.step(model, 3)
    monitor.finish()
    assert open_dataset(root).steps("run") == [0, 1, 2, 3]
    assert check_dataset(root).faults == []


def test_a_model_that_is_not_finite_is_told_once_and_recorded(tmp_path):
    model, told = build(), []
    with Monitor(tmp_path / "d", PROBE, every=1, name="run", on_alert=told.append) as monitor:
        monitor.step(model, 0)
        with torch.no_grad():
            model.gpt_neox.layers[1].mlp.dense_4h_to_h.bias[3] = float("nan")
        assert monitor.step(model, 1) == {}
        assert monitor.step(model, 2) == {}
    assert [(one.kind, one.step) for one in told] == [("non_finite", 1)]
    units = manifest.read_units(tmp_path / "d", "run")
    assert "the hidden state after layer 1 is not finite" in (units[1].failure or "")
    assert open_dataset(tmp_path / "d").steps("run") == [0]


def test_an_alert_function_that_fails_does_not_end_the_run(tmp_path, caplog):
    def fail(alert):
        raise RuntimeError("no mail")

    model = build()
    with Monitor(tmp_path / "d", PROBE, every=1, name="run", on_alert=fail) as monitor:
        with torch.no_grad():
            model.gpt_neox.layers[0].mlp.dense_4h_to_h.bias[3] = 1e5
        assert monitor.step(model, 0)["massive/alerts"] >= 1
        assert monitor.alerts[0].kind == "overflow"
    assert "on_alert failed" in caplog.text


def test_a_compiled_model_is_measured_as_it_is(tmp_path):
    plain, model = build(), build()
    compiled = torch.compile(model, backend="eager")
    compiled(input_ids=PROBE)  # hooks that come later would be skipped
    with Monitor(tmp_path / "a", PROBE, every=1, name="run") as monitor:
        monitor.step(compiled, 0)
    in_place = build()
    in_place.compile(backend="eager")
    for layer in in_place.gpt_neox.layers:
        layer.compile(backend="eager")
    in_place(input_ids=PROBE)
    with Monitor(tmp_path / "b", PROBE, every=1, name="run") as monitor:
        assert monitor.step(in_place, 0)
    for name in ("a", "b"):
        np.testing.assert_array_equal(
            open_dataset(tmp_path / name).statistics("run").sel(step=0), madyn.measure(plain, PROBE)
        )


def test_gradient_checkpointing_and_autocast_change_nothing(tmp_path):
    model = build()
    model.gradient_checkpointing_enable()
    model.train()
    with Monitor(tmp_path / "d", PROBE, every=1, name="run") as monitor, torch.autocast("cpu", dtype=torch.bfloat16):
        monitor.step(model, 0)
    np.testing.assert_array_equal(
        open_dataset(tmp_path / "d").statistics("run").sel(step=0), madyn.measure(build(), PROBE)
    )
    assert model.training


def test_adapters_are_measured_with_the_model(tmp_path):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(build(), LoraConfig(target_modules=["dense_4h_to_h"], init_lora_weights=False))
    with Monitor(tmp_path / "d", PROBE, every=1) as monitor:
        monitor.step(model, 0)
        inner = model.get_base_model()
        dataset = open_dataset(tmp_path / "d")
        assert list(dataset) == ["GPTNeoXForCausalLM"]
        np.testing.assert_array_equal(dataset.statistics("GPTNeoXForCausalLM").sel(step=0), madyn.measure(inner, PROBE))
    assert not np.allclose(dataset.statistics("GPTNeoXForCausalLM").sel(step=0), madyn.measure(build(), PROBE))


def test_a_text_is_a_probe_where_there_is_a_tokenizer(tmp_path):
    model = build(vocab_size=300)
    probe = Probe("stdlib", sequences=2, documents=5)
    with Monitor(tmp_path / "d", probe, every=1, name="run", tokenizer=_tokenizer()) as monitor:
        monitor.step(model, 0)
    assert manifest.read_probe(tmp_path / "d").text == "stdlib"  # pyright: ignore[reportOptionalMemberAccess]
    assert open_dataset(tmp_path / "d").statistics("run").sizes["sequence"] == 2


def test_excluded_positions_are_left_out(tmp_path):
    with Monitor(tmp_path / "d", Probe("stdlib", sequences=2, documents=5, exclude_positions="0"), every=1, name="run",
                 tokenizer=_tokenizer()) as monitor:  # fmt: skip
        monitor.step(build(vocab_size=300), 0)
    assert manifest.read_units(tmp_path / "d", "run")[0].exclude_positions == [0]


def test_settings_say_which_layers_and_how_many_sequences_together(tmp_path):
    settings = Settings(batch_size=4, layers="gpt_neox.layers")
    with Monitor(tmp_path / "d", PROBE, every=1, name="run", settings=settings) as monitor:
        monitor.step(build(), 0)
    assert manifest.read_units(tmp_path / "d", "run")[0].batch_size == 4


def test_a_dataset_on_a_store_is_written_too():
    import fsspec

    root = "memory://monitored/run"
    with Monitor(root, PROBE, every=2, name="run") as monitor:
        train(build(), 4, monitor)
    assert open_dataset(root).steps("run") == [0, 2, 4]
    assert fsspec.filesystem("memory").exists("/monitored/run/monitor/run.json")


@pytest.mark.parametrize(
    ("given", "first", "text"),
    [
        ("log2+1000", [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000], "log2+1000"),
        ("log2", [0, 1, 2, 4, 8], "log2"),
        (250, [0, 250, 500], "every 250 steps"),
        ("250", [0, 250, 500], "every 250 steps"),
        ([5, 3, 3], [3, 5], "2 steps: 3, 5"),
        ("0, 7,9", [0, 7, 9], "3 steps: 0, 7, 9"),
    ],
)
def test_schedules(given, first, text):
    schedule = read_schedule(given)
    assert [step for step in range(first[-1] + 1) if schedule.is_due(step)] == first
    assert schedule.text == text
    assert [schedule.following(step) for step in first[:-1]] == first[1:]


def test_the_seal_of_the_record_is_held(watched):
    path = layout.monitor_path(watched[0], "run")
    assert json.loads(path.read_text())["seal"]


def test_what_was_told_in_a_part_that_is_taken_back_is_told_again(tmp_path):
    def run(begin, broken):
        model, told = build(), []
        with (
            contextlib.suppress(KeyboardInterrupt),
            Monitor(tmp_path / "d", PROBE, every=1, name="run", on_alert=told.append) as monitor,
        ):
            for step in range(begin, broken + 1):
                if step == broken:
                    with torch.no_grad():
                        model.gpt_neox.layers[1].mlp.dense_4h_to_h.bias[3] = float("nan")
                monitor.step(model, step)
            raise KeyboardInterrupt
        return [(one.kind, one.step) for one in told]

    assert run(0, 5) == [("non_finite", 5)]
    assert run(3, 7) == [("non_finite", 7)]


def test_a_first_batch_that_cannot_be_measured_on_is_told(tmp_path):
    monitor = Monitor(tmp_path / "d", every=1, name="run")
    assert monitor.step(build(), 0, {"inputs_embeds": torch.rand(2, 4, 16)}) == {}
    assert "it holds no tensor of token ids (B, S)" in monitor.alerts[0].message
    assert monitor.step(build(), 1) == {}  # a run that has begun is not ended for a missing batch
    assert monitor.step(build(), "2") == {}  # pyright: ignore[reportArgumentType]
    monitor.finish()
    assert [one.kind for one in monitor.alerts] == ["not_measured"]


def test_a_first_batch_that_cannot_be_kept_is_kept_later(tmp_path):
    root, model = tmp_path / "d", build()
    monitor = Monitor(root, every=1, name="run")
    root.mkdir()
    (root / "monitor").write_text("a file where the folder will be")
    assert monitor.step(model, 0, batches(1)[0])
    (root / "monitor").unlink()
    train(model, 1)
    assert monitor.step(model, 1)
    monitor.finish()
    assert open_dataset(root).steps("run") == [0, 1]
    np.testing.assert_array_equal(np.load(layout.monitor_inputs_path(root)), batches(1)[0])
    assert check_dataset(root).faults == []


def test_images_in_half_precision_are_a_first_batch_too(tmp_path):
    from transformers import ViTConfig, ViTModel

    shape: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    tiny = ViTModel(ViTConfig(**shape, image_size=8, patch_size=4)).bfloat16()
    with Monitor(tmp_path / "d", every=1, name="images") as monitor:
        assert monitor.step(tiny, 0, {"pixel_values": torch.rand(2, 3, 8, 8).bfloat16()})["massive/largest_ratio"] > 1


def test_what_is_massive_from_the_start_has_not_turned_so(tmp_path):
    model = build(vocab_size=VOCAB)
    with torch.no_grad():
        model.gpt_neox.layers[0].mlp.dense_4h_to_h.bias[3] = 5e3
    with Monitor(tmp_path / "d", PROBE, every=1, name="run") as monitor:
        assert monitor.step(model, 0)["massive/layers_massive"] >= 1
    assert monitor.alerts == []


def test_another_model_than_the_one_it_began_with_is_told(tmp_path):
    with Monitor(tmp_path / "d", PROBE, every=1, name="run") as monitor:
        monitor.step(build(), 0)
        assert monitor.step(build(seed=1), 1) == {}
    assert "this is another model than the one that the monitor began with" in monitor.alerts[0].message


def test_a_damaged_record_costs_its_alerts_and_no_measurement(tmp_path, caplog):
    with Monitor(tmp_path / "d", PROBE, every=1, name="run") as monitor:
        monitor.step(build(), 0)
    layout.monitor_path(tmp_path / "d", "run").write_text("{")
    with Monitor(tmp_path / "d", PROBE, every=1, name="run") as monitor:
        assert monitor.step(build(), 1)
    assert "a new one is begun" in caplog.text
    assert open_dataset(tmp_path / "d").steps("run") == [0, 1]


def test_a_module_that_merges_its_adapter_to_evaluate_is_left_as_it_is(tmp_path):
    class Merging(torch.nn.Linear):
        merged = False

        def train(self, mode: bool = True):
            self.merged = not mode
            return super().train(mode)

    model = build()
    model.gpt_neox.layers[0].mlp.dense_4h_to_h = Merging(32, 16)
    model.train()
    with Monitor(tmp_path / "d", PROBE, every=1, name="run") as monitor:
        monitor.step(model, 0)
    assert model.gpt_neox.layers[0].mlp.dense_4h_to_h.merged is False
    assert all(module.training for module in model.modules())
