"""A monitor that takes its statistics from the training batches' own forwards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_trainers import together

import madyn
from madyn import Monitor, open_dataset
from madyn.checking import check_dataset
from madyn.dataset import manifest
from madyn.dataset.monitoring import read_monitor
from madyn.errors import ProbeMismatchError, UsageError
from training_runs import batches, build, require_same, train, trainer

PLAIN: dict[str, Any] = {"hidden_dropout": 0.0, "attention_dropout": 0.0}


def test_what_is_sampled_is_what_the_layers_hand_on(tmp_path):
    """With no dropout, the training forward of a batch shows what measuring on that batch does."""
    with Monitor(tmp_path / "d", sample=3, every=2, name="run") as monitor:
        logged = train(build(**PLAIN), 6, monitor)["logged"]
    dataset = open_dataset(tmp_path / "d")
    assert dataset.steps("run") == [0, 2, 4]
    assert list(logged) == [1, 3, 5]  # the forward of a step is over when the next one begins
    for step in (0, 4):
        by_hand = build(**PLAIN)
        train(by_hand, step)
        np.testing.assert_allclose(
            dataset.statistics("run").sel(step=step), madyn.measure(by_hand, batches(6)[step][:3]), rtol=1e-5
        )
    unit = dataset.units("run")[4]
    assert unit.sampled
    assert unit.sequences == 3
    assert check_dataset(tmp_path / "d").faults == []
    record = read_monitor(tmp_path / "d", "run")
    assert record is not None
    assert (record.mode, record.inputs) == ("sample", "3 sequences of the training batches")


def test_a_run_is_the_same_to_the_bit_while_it_is_sampled(tmp_path):
    with Monitor(tmp_path / "d", sample=2, every=1, name="run") as monitor:
        require_same(train(build(), 8, monitor)["state"], train(build(), 8)["state"])


def test_a_layer_that_is_run_again_for_its_gradients_counts_once(tmp_path):
    model = build(**PLAIN)
    model.gradient_checkpointing_enable()
    with Monitor(tmp_path / "d", sample=4, every=1, name="run") as monitor:
        train(model, 3, monitor)
    plain = build(**PLAIN)
    train(plain, 2)
    np.testing.assert_allclose(
        open_dataset(tmp_path / "d").statistics("run").sel(step=2), madyn.measure(plain, batches(3)[2]), rtol=1e-5
    )


def test_padding_and_evaluation_are_left_out(tmp_path):
    model, ids = build(**PLAIN), batches(1)[0]
    mask = torch.ones_like(ids)
    mask[0, -8:] = 0
    with Monitor(tmp_path / "d", sample=2, every=1, name="run") as monitor:
        monitor.step(model, 0)
        model.eval()
        model(input_ids=batches(2)[1])
        model.train()
        model(input_ids=ids, attention_mask=mask)
        monitor.step(model, 1)
    found = open_dataset(tmp_path / "d").statistics("run").sel(step=0)
    np.testing.assert_allclose(found.isel(sequence=0), madyn.measure(build(**PLAIN), ids[:1, :-8])[0], rtol=1e-5)
    np.testing.assert_allclose(found.isel(sequence=1), madyn.measure(build(**PLAIN), ids[1:2])[0], rtol=1e-5)


def test_a_batch_that_is_too_small_is_waited_over(tmp_path):
    model = build(**PLAIN)
    with Monitor(tmp_path / "d", sample=4, every=4, name="run") as monitor:
        for step, size in enumerate((2, 2, 4, 4)):
            monitor.step(model, step)
            model(input_ids=batches(1, size)[0])
        monitor.step(model, 4)
    assert open_dataset(tmp_path / "d").steps("run") == [2]


def test_what_fails_in_a_hook_does_not_end_the_step(tmp_path):
    model = build(**PLAIN)
    with Monitor(tmp_path / "d", sample=2, every=1, name="run") as monitor:
        monitor.step(model, 0)
        with torch.no_grad():
            model.gpt_neox.layers[0].mlp.dense_4h_to_h.bias[0] = float("inf")
        model(input_ids=batches(1)[0])
        assert monitor.step(model, 1) == {}
        assert [one.kind for one in monitor.alerts] == ["non_finite"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert "not finite" in (manifest.read_units(tmp_path / "d", "run")[0].failure or "")


def test_a_forward_that_fails_and_is_caught_leaves_no_hooks(tmp_path):
    model = build(**PLAIN)
    with Monitor(tmp_path / "d", sample=2, every=1, name="run") as monitor:
        monitor.step(model, 0)
        for _ in range(3):
            with pytest.raises(IndexError):
                model(input_ids=torch.full((2, 4), 10_000))
        model(input_ids=batches(1)[0])
        monitor.step(model, 1)
    assert open_dataset(tmp_path / "d").steps("run") == [0]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_trainer_is_sampled_too(tmp_path):
    plain = trainer(tmp_path / "plain", [])
    plain.train()
    run = trainer(tmp_path / "run", [Monitor(tmp_path / "d", sample=4, every=4).for_transformers()])
    run.train()
    require_same(dict(plain.model.state_dict()), dict(run.model.state_dict()))
    assert open_dataset(tmp_path / "d").steps("run") == [0, 4, 8]


def test_samples_and_probes_are_not_mixed(tmp_path):
    with Monitor(tmp_path / "d", sample=2, every=1, name="run") as monitor:
        train(build(), 2, monitor)
    probe = batches(1)[0]
    with pytest.raises(ProbeMismatchError, match="was measured on training batches"):
        Monitor(tmp_path / "d", probe, name="run").step(build(), 2)
    with pytest.raises(ProbeMismatchError, match="was measured on 'training batches'"):
        Monitor(tmp_path / "d", name="other").step(build(), 0, probe)


SHARDED = """
import os
import sys
from pathlib import Path
import torch
import torch.distributed as distributed
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from madyn import Monitor
from madyn.errors import UsageError
from training_runs import batches, build

root, how = Path(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo")
model = build(hidden_dropout=0.0, attention_dropout=0.0)
if how == "fully_shard":
    for layer in model.gpt_neox.layers:
        fully_shard(layer)
    fully_shard(model)
else:
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy
    policy = ModuleWrapPolicy({type(model.gpt_neox.layers[0])})
    model = FullyShardedDataParallel(model, auto_wrap_policy=policy, device_id=torch.device("cpu"))
if distributed.get_rank() == 0:
    try:
        Monitor(root / "refused", batches(1)[0]).step(model, 0)
    except UsageError as e:
        assert "lie in pieces on several processes" in str(e), e
    else:
        raise AssertionError("not refused")
monitor = Monitor(root / how, sample=3, every=1, name="run")
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for step, batch in enumerate(batches(3)):
    monitor.step(model, step)
    optimizer.zero_grad()
    model(input_ids=batch, labels=batch).loss.backward()
    optimizer.step()
monitor.step(model, 3)
monitor.finish()
distributed.barrier()
distributed.destroy_process_group()
os._exit(0)  # torch's own threads may abort a process that ends in the usual way
"""


@pytest.mark.parametrize("how", ["fully_shard", "FullyShardedDataParallel"])
def test_weights_in_pieces_are_sampled_and_a_probe_is_refused(tmp_path, how):
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[1])!r})\n{SHARDED}")
    done = together(str(script), str(tmp_path), how)
    assert done.returncode == 0, done.stderr[-3000:]
    found = open_dataset(tmp_path / how).statistics("run")
    assert found["step"].values.tolist() == [0, 1, 2]
    plain = build(**PLAIN)
    np.testing.assert_allclose(found.sel(step=0), madyn.measure(plain, batches(1)[0][:3]), rtol=1e-5)
    train(plain, 2)
    np.testing.assert_allclose(found.sel(step=2), madyn.measure(plain, batches(3)[2][:3]), rtol=1e-3)


def test_images_are_not_sampled(tmp_path):
    from transformers import ViTConfig, ViTModel

    tiny = ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                              image_size=8, patch_size=4))  # fmt: skip
    with pytest.raises(UsageError, match="reads images: give the monitor some as its probe"):
        Monitor(tmp_path / "d", sample=2).step(tiny, 0)
    with Monitor(tmp_path / "d", torch.rand(2, 3, 8, 8), every=1, name="images") as monitor:
        assert monitor.step(tiny, 0)["massive/largest_ratio"] > 1
